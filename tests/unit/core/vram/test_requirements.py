"""What is needed: the larger of declared and measured, and an estimate only where nothing is declared."""

from dataclasses import replace
from pathlib import Path

import pytest

from gpumod_tui.adapters.models.files import ModelFolder
from gpumod_tui.core.models import DriverKind, GpuReading, GpuSample, Service
from gpumod_tui.core.text import GIB, MIB
from gpumod_tui.core.vram.need import Need, UnknownNeed
from gpumod_tui.core.vram.requirements import ROUTER_BYTES, VramRequirements
from gpumod_tui.demo.ledger import MemoryPeaks
from tests.unit._gguf_files import BASE, write_gguf

READING = GpuReading(
    0.0, "580.1", tuple(GpuSample(index, f"GPU-{index}", "NVIDIA X", total_bytes=24 * GIB) for index in range(2))
)
TENSORS = {"token_embd.weight": (64, 16), "output.weight": (64, 16), "blk.0.attn_q.weight": (64, 64)}
ARGV = ["llama-server", "--port", "40001", "--alias", "m", "--ctx-size", "8192", "--n-gpu-layers", "999"]


class Programs:
    """The port Programs."""

    found = "1-1"

    def version(self, service: Service) -> str:
        del service
        return self.found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "big").mkdir()
    for name in ("m", "declared", "big/big"):
        write_gguf(tmp_path / f"{name}.gguf", "llama", BASE, TENSORS)
    return tmp_path


@pytest.fixture
def router(folder: Path) -> Service:
    return Service(
        "router",
        "Router",
        DriverKind.LLAMACPP,
        7070,
        vram_bytes=20 * GIB,
        default_model="declared",
        models_dir=folder,
        context_size=8192,
        source=Path("/presets/router.yaml"),
    )


@pytest.fixture
def programs() -> Programs:
    return Programs()


@pytest.fixture
def book(programs: Programs) -> VramRequirements:
    return VramRequirements(ModelFolder(), MemoryPeaks(), programs)


def known(need: Need | UnknownNeed) -> Need:
    assert isinstance(need, Need), need
    return need


def test_a_router_needs_little_and_its_default_model_what_is_declared(book: VramRequirements, router: Service) -> None:
    assert dict(known(book.unit_need(router, READING)).by_gpu) == {0: ROUTER_BYTES}
    need = known(book.model_need(router, "declared", READING))
    assert dict(need.by_gpu) == {0: 20 * GIB}
    assert need.basis == "declared"
    assert not need.is_estimate
    assert need.measured_peak_bytes is None


def test_other_models_are_estimated_from_their_files_with_the_routers_settings(
    book: VramRequirements, router: Service
) -> None:
    need = known(book.model_need(router, "m", READING))
    assert need.is_estimate
    assert "KV cache 2 MiB" in need.basis, "2 layers × 8192 cells × (32 + 32) × 2 bytes"
    smaller = known(book.model_need(replace(router, context_size=4096), "m", READING))
    assert need.total_bytes - smaller.total_bytes == 2 * 4096 * 64 * 2
    assert known(book.model_need(router, "big", READING)).total_bytes == need.total_bytes


def test_a_models_own_command_line_goes_before_the_preset(
    book: VramRequirements, router: Service, folder: Path
) -> None:
    plain = known(book.model_need(router, "m", READING))
    assert known(book.model_need(router, "m", READING, args=ARGV)) == plain
    larger = known(book.model_need(router, "m", READING, args=[*ARGV, "--ctx-size", "65536"]))
    assert larger.total_bytes > plain.total_bytes
    elsewhere = [*ARGV, "--model", str(folder / "big" / "big.gguf")]
    assert known(book.model_need(router, "unlisted", READING, args=elsewhere)) == plain


def test_a_projector_beside_the_model_counts(book: VramRequirements, router: Service, folder: Path) -> None:
    before = known(book.model_need(router, "big", READING))
    write_gguf(folder / "big" / "mmproj-big.gguf", "clip", {"block_count": 1}, {"v.patch": (1024, 1024)})
    need = known(book.model_need(router, "big", READING))
    assert need.total_bytes - before.total_bytes == 4 * MIB + 512 * MIB
    assert "projector 4 MiB" in need.basis


def test_a_file_that_tells_too_little_counts_as_more_than_itself(
    book: VramRequirements, router: Service, folder: Path
) -> None:
    (folder / "odd.gguf").write_bytes(b"x" * MIB)
    need = known(book.model_need(router, "odd", READING))
    assert dict(need.by_gpu) == {0: int(MIB * 1.2)}
    assert need.is_estimate
    assert "1.2 × file size" in need.basis
    assert "odd.gguf" in need.basis
    write_gguf(folder / "new.gguf", "deepseek4", BASE, TENSORS)
    need = known(book.model_need(router, "new", READING))
    assert "deepseek4" in need.basis
    assert need.total_bytes >= 900 * MIB, "what is known of it is more than its small file"


def test_what_is_nowhere_is_unknown(book: VramRequirements, router: Service) -> None:
    for need in (
        book.model_need(router, "gone", READING),
        book.model_need(replace(router, gpus=(7,)), "declared", READING),
        book.model_need(router, "declared", None),
        book.unit_need(router, None),
        book.unit_need(Service("app", "App", DriverKind.FASTAPI, 9000), READING),
        book.unit_need(Service("s", "S", DriverKind.LLAMACPP, 9000, model_path=Path("/gone.gguf")), READING),
    ):
        assert isinstance(need, UnknownNeed), need
        assert need.hint


def test_a_service_without_vram_needs_none_even_without_nvml(book: VramRequirements, router: Service) -> None:
    none = replace(router, vram_bytes=0)
    assert known(book.unit_need(none, None)).total_bytes == 0
    assert known(book.model_need(none, "m", None)).total_bytes == 0


def test_a_single_model_server_is_estimated_where_nothing_is_declared(book: VramRequirements, folder: Path) -> None:
    service = Service("s", "S", DriverKind.LLAMACPP, 9000, model_path=folder / "m.gguf", gpus=(0, 1))
    need = known(book.unit_need(service, READING))
    assert need.is_estimate
    assert set(need.by_gpu) == {0, 1}
    assert known(book.unit_need(replace(service, vram_bytes=5 * GIB), READING)).by_gpu == {
        0: 5 * GIB // 2,
        1: 5 * GIB // 2,
    }


def test_a_declared_split_counts_gpu_by_gpu(book: VramRequirements, router: Service, folder: Path) -> None:
    split = {"gpus": (1, 0), "vram_bytes": 20 * GIB, "gpu_shares": (15 * GIB, 5 * GIB)}
    service = Service("s", "S", DriverKind.LLAMACPP, 9000, model_path=folder / "m.gguf", **split)  # type: ignore[arg-type]
    assert known(book.unit_need(service, READING)).by_gpu == {1: 15 * GIB, 0: 5 * GIB}
    loads = replace(router, **split)  # type: ignore[arg-type]
    assert known(book.model_need(loads, "declared", READING)).by_gpu == {1: 15 * GIB, 0: 5 * GIB}
    elsewhere = book.model_need(loads, "declared", READING, elsewhere_bytes=24 * GIB)
    assert known(elsewhere).by_gpu == {1: 18 * GIB, 0: 6 * GIB}
    book.note(book.unit_key(service, READING), {0: 6 * GIB, 1: 14 * GIB})
    need = known(book.unit_need(service, READING))
    assert need.by_gpu == {1: 15 * GIB, 0: 6 * GIB}
    assert "set vram_mb to [15360, 6144] or more" in need.warning


def test_what_is_not_declared_is_split_as_the_model_is_dealt_out(book: VramRequirements, folder: Path) -> None:
    layers = {f"blk.{layer}.attn_q.weight": (64, 64 * (9 if layer else 1)) for layer in range(2)}
    write_gguf(folder / "uneven.gguf", "llama", BASE, {**TENSORS, **layers})
    service = Service("s", "S", DriverKind.LLAMACPP, 9000, model_path=folder / "uneven.gguf", gpus=(0, 1))
    by_gpu = known(book.unit_need(service, READING)).by_gpu
    assert by_gpu[0] > by_gpu[1], "the first GPU holds both layers, the second the output"


def test_vllm_takes_its_share_unless_more_is_declared(book: VramRequirements) -> None:
    service = Service("v", "V", DriverKind.VLLM, 8000, unit_vars={"gpu_mem_util": 0.5})
    assert dict(known(book.unit_need(service, READING)).by_gpu) == {0: 13 * GIB}
    need = known(book.unit_need(replace(service, vram_bytes=2 * GIB), READING))
    assert dict(need.by_gpu) == {0: 13 * GIB}
    assert "more than the declared 2048 MiB" in need.basis
    assert known(book.unit_need(replace(service, vram_bytes=14 * GIB), READING)).total_bytes == 14 * GIB


# --- measured


def test_a_higher_measurement_wins_and_warns_the_one_who_declared_less(book: VramRequirements, router: Service) -> None:
    book.note(book.model_key(router, "declared", READING), {0: 21 * GIB})
    need = known(book.model_need(router, "declared", READING))
    assert dict(need.by_gpu) == {0: 21 * GIB}
    assert need.measured_peak_bytes == 21 * GIB
    assert "highest ever measured, more than 20480 MiB" in need.basis
    assert "/presets/router.yaml declares 20480 MiB" in need.warning
    assert "vram_mb to 21504" in need.warning


def test_every_preset_that_declares_too_little_is_named(book: VramRequirements, router: Service) -> None:
    app = Service("app", "App", DriverKind.FASTAPI, 9000, vram_bytes=GIB)
    assert book.underdeclared((router, app), READING) == ()
    book.note(book.model_key(router, "declared", READING), {0: 21 * GIB})
    book.note(book.unit_key(app, READING), {0: 2 * GIB})
    about_router, about_app = book.underdeclared((router, app), READING)
    assert "/presets/router.yaml declares 20480 MiB, and 21504 MiB were measured" in about_router
    assert "app declares 1024 MiB, and 2048 MiB were measured" in about_app
    assert book.underdeclared((router, app), None) == ()


def test_a_lower_measurement_is_told_and_changes_nothing(book: VramRequirements, router: Service) -> None:
    book.note(book.model_key(router, "declared", READING), {0: 15 * GIB})
    need = known(book.model_need(router, "declared", READING))
    assert dict(need.by_gpu) == {0: 20 * GIB}
    assert need.measured_peak_bytes == 15 * GIB
    assert "15360 MiB" in need.basis
    assert need.warning == ""
    (offer,) = book.overdeclared((router,), READING)
    assert offer.startswith("/presets/router.yaml declares 20480 MiB, and at most 15360 MiB were measured so far")
    assert "vram_mb: 15360" in offer
    book.note(book.model_key(router, "declared", READING), {0: 20 * GIB})
    assert book.overdeclared((router,), READING) == ()


def test_what_declares_no_gpu_memory_and_was_measured_to_take_some_counts_with_it(
    book: VramRequirements, router: Service
) -> None:
    app = Service("app", "App", DriverKind.COMMAND, vram_bytes=0, unit_vars={"command": ["a"]})
    none = replace(router, vram_bytes=0)
    assert known(book.unit_need(app, READING)).total_bytes == 0
    book.note(book.unit_key(app, READING), {1: 3 * GIB})
    book.note(book.model_key(none, "m", READING), {0: GIB})
    assert dict(known(book.unit_need(app, READING)).by_gpu) == {1: 3 * GIB}
    assert dict(known(book.model_need(none, "m", READING)).by_gpu) == {0: GIB}
    (about,) = book.underdeclared((app,), READING)
    assert about == "app declares 0 MiB, and 3072 MiB were measured: set vram_mb to 3072 or more"


def test_a_measurement_beyond_an_estimate_warns_nobody(book: VramRequirements, router: Service) -> None:
    book.note(book.model_key(router, "m", READING), {0: 9 * GIB, 1: GIB})
    need = known(book.model_need(router, "m", READING))
    assert dict(need.by_gpu) == {0: 9 * GIB, 1: GIB}
    assert need.warning == ""


def test_a_measurement_makes_a_need_known(book: VramRequirements) -> None:
    service = Service("app", "App", DriverKind.FASTAPI, 9000)
    book.note(book.unit_key(service, READING), {0: 3 * GIB})
    assert dict(known(book.unit_need(service, READING)).by_gpu) == {0: 3 * GIB}


def test_a_router_that_makes_a_context_is_counted_once_it_was_seen(book: VramRequirements, router: Service) -> None:
    book.note(book.unit_key(router, READING), {0: 555 * MIB})
    need = known(book.unit_need(router, READING))
    assert dict(need.by_gpu) == {0: 555 * MIB}
    assert need.warning == "", "a router's own process is nothing that a preset declares"


def test_what_was_measured_under_a_command_line_counts_in_a_plan(book: VramRequirements, router: Service) -> None:
    book.note(book.model_key(router, "declared", READING, args=ARGV), {0: 22 * GIB})
    assert known(book.model_need(router, "declared", READING)).total_bytes == 22 * GIB


def test_another_server_driver_card_file_or_argument_is_measured_anew(
    book: VramRequirements, router: Service, programs: Programs, folder: Path
) -> None:
    book.note(book.model_key(router, "m", READING), {0: 9 * GIB})

    def is_known(service: Service, reading: GpuReading = READING, args: tuple[str, ...] = ()) -> bool:
        return known(book.model_need(service, "m", reading, args=args)).total_bytes == 9 * GIB

    assert is_known(router)
    assert is_known(replace(router, name="Another", startup_timeout_s=5.0, port=1))
    assert not is_known(replace(router, context_size=4096))
    assert not is_known(replace(router, unit_vars={"extra_args": "--cache-type-k q8_0"}))
    assert not is_known(replace(router, env={"GGML_CUDA_FORCE_MMQ": "1"}))
    assert not is_known(router, args=("--ctx-size", "16384"))
    assert not is_known(router, replace(READING, driver_version="590.0"))
    other = tuple(replace(sample, name="NVIDIA Y") for sample in READING.gpus)
    assert not is_known(router, replace(READING, gpus=other))
    programs.found = "2-2"
    assert not is_known(router)
    programs.found = "1-1"
    assert is_known(router)
    write_gguf(folder / "m.gguf", "llama", BASE, {**TENSORS, "blk.1.attn_q.weight": (64, 64)})
    assert not is_known(router)
