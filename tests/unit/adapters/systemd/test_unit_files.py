"""Units: what is rendered, whose a file is, what it lacks and what undoes it."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gpumod_tui.adapters.systemd.render import render_unit
from gpumod_tui.adapters.systemd.unit_files import FileState, InstalledUnits
from gpumod_tui.core.errors import GpuUnavailable, PresetInvalid
from gpumod_tui.core.models import DriverKind, GpuReading, GpuSample, OnLeave, Service, UnitState
from gpumod_tui.core.text import MIB
from gpumod_tui.core.units.unit_file import (
    Stamp,
    quote_assignment,
    quote_line,
    quote_word,
    read_stamp,
    stamped,
    unsafe_settings,
)
from gpumod_tui.core.vram.drift import of_unit, outgrown

READING = GpuReading(0.0, None, tuple(GpuSample(index, uuid=f"GPU-{index}{index}") for index in range(2)))
ROUTER = Service(
    "router", "Router", DriverKind.LLAMACPP, 7070, models_dir=Path("/m"), context_size=8192, default_model="model"
)
SINGLE = Service("single", "Single", DriverKind.LLAMACPP, 7071, model_path=Path("/m/a b.gguf"))
VLLM = Service("served", "Served", DriverKind.VLLM, 8000, model_id="org/model")
FASTAPI = Service("app", "App", DriverKind.FASTAPI, 9000, unit_vars={"app_module": "a.b:app", "workers": 2})
COMMAND = Service("own", "Own", DriverKind.COMMAND, unit_vars={"command": ["server", "--flag", "a b"]})


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("llama-server", "vllm", "uvicorn", "server"):
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    return {"PATH": str(folder), "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path / "run")}


@pytest.fixture
def files(tmp_path: Path, environ: dict[str, str]) -> InstalledUnits:
    return InstalledUnits(tmp_path / ".config" / "systemd" / "user", environ)


def settings(text: str) -> dict[str, str]:
    """The last value of each setting, continued lines joined."""
    lines = " ".join(text.replace("\\\n", " ").split(" ")).splitlines()
    return dict(line.partition("=")[::2] for line in lines if "=" in line and not line.startswith("#"))


def words(service: Service, environ: dict[str, str]) -> list[str]:
    return settings(render_unit(service, READING, environ))["ExecStart"].split()


@pytest.mark.parametrize("service", [ROUTER, SINGLE, VLLM, FASTAPI, COMMAND], ids=lambda service: service.id)
def test_every_unit_is_safe(service: Service, environ: dict[str, str]) -> None:
    text = render_unit(replace(service, startup_timeout_s=90.0, stop_timeout_s=7.5), READING, environ)
    given = settings(text)
    assert {name: given[name] for name in given if name in SAFE} == SAFE
    assert (given["TimeoutStartSec"], given["TimeoutStopSec"]) == ("90", "7.5")
    assert 'Environment="CUDA_DEVICE_ORDER=PCI_BUS_ID"' in text
    assert 'Environment="CUDA_VISIBLE_DEVICES=GPU-00"' in text
    assert given["ExecStart"].startswith(environ["PATH"] + "/")
    assert "[Install]" not in text
    assert read_stamp(text) is Stamp.OURS
    if service is not COMMAND:
        bound = f"--host 127.0.0.1      --port {service.port}"
        assert given["ExecStart"].endswith("--host %t/gpumod/router.sock" if service is ROUTER else bound)
    assert given["ExecCondition"] == f"{sys.executable} -E -P -m gpumod_tui preflight --unit %n"


SAFE = {
    "Type": "exec",
    "Slice": "gpumod.slice",
    "KillMode": "control-group",
    "Restart": "on-failure",
    "StartLimitBurst": "4",
    "SuccessExitStatus": "143",
    "OOMPolicy": "stop",
    "NoNewPrivileges": "yes",
}


@pytest.mark.parametrize(
    ("service", "option"),
    [(ROUTER, "--host"), (replace(VLLM, on_leave=OnLeave.SLEEP), "--uds")],
    ids=lambda value: getattr(value, "id", value),
)
def test_what_the_guard_stands_before_listens_on_its_unix_socket_only(
    service: Service, option: str, environ: dict[str, str]
) -> None:
    text = render_unit(service, READING, environ)
    assert "--port" not in text
    assert "127.0.0.1" not in text
    assert words(service, environ)[-2:] == [option, f"%t/gpumod/{service.id}.sock"]
    made, cleared = [line for line in text.splitlines() if line.startswith("ExecStartPre=")]
    assert made == "ExecStartPre=/bin/mkdir -p -m 0700 %t/gpumod"
    assert cleared == f"ExecStartPre=/bin/rm -f %t/gpumod/{service.id}.sock"
    assert "Wants=gpumod-guard.socket\nAfter=gpumod-guard.socket\n" in text
    assert "gpumod-guard" not in render_unit(VLLM, READING, environ)


@pytest.mark.parametrize("service", [ROUTER, SINGLE, VLLM, FASTAPI, COMMAND], ids=lambda service: service.id)
def test_a_unit_tells_what_it_was_installed_for(service: Service, environ: dict[str, str]) -> None:
    text = render_unit(service, READING, environ)
    assert of_unit(service, READING.gpus, text) is None
    changed = replace(service, env={**service.env, "MODEL": "other"})
    stale = of_unit(changed, READING.gpus, text)
    assert stale is not None
    assert stale.hint == f"gpumod template install {service.id} --yes"
    edited = text.replace("Restart=on-failure", "Restart=no")
    assert of_unit(service, READING.gpus, edited) is None, "what is edited stays the editor's, while its preset stays"
    stale = of_unit(changed, READING.gpus, edited)
    assert stale is not None
    assert stale.hint == f"gpumod template install {service.id} --force --yes"
    placed = of_unit(replace(service, gpus=(1,)), READING.gpus, text)
    assert placed is not None
    assert "set to GPU 0 and its preset says GPU 1" in placed.reason


@pytest.mark.parametrize(
    "unit_vars",
    [
        {},
        {"n_gpu_layers": 10, "n_cpu_moe": 4, "flash_attn": True, "jinja": True},
        {
            "flash_attn": False,
            "extra_args": ["-np", "2", "-ctk", "q8_0", "-md", "/m/d.gguf", "-ub", "64", "-ot", "a=b"],
        },
    ],
)
@pytest.mark.parametrize("gpus", [(0,), (0, 1)])
def test_a_router_runs_with_what_its_preset_says_once_it_is_installed(
    unit_vars: dict[str, Any], gpus: tuple[int, ...], environ: dict[str, str]
) -> None:
    router = replace(ROUTER, unit_vars=unit_vars, gpus=gpus)
    assert outgrown(router, words(router, environ)) is None


def test_a_start_may_wait_as_long_as_its_condition(environ: dict[str, str]) -> None:
    given = settings(render_unit(replace(SINGLE, startup_timeout_s=5.0), READING, environ))
    assert given["TimeoutStartSec"] == "60"


def test_a_router_loads_nothing_by_itself_and_is_pinned(environ: dict[str, str]) -> None:
    argv = words(
        replace(ROUTER, unit_vars={"jinja": True, "reasoning_format": "deepseek", "flash_attn": True}), environ
    )
    assert argv[1:] == [
        "--models-dir",
        "/m",
        "--no-models-autoload",
        "--models-max",
        "1",
        "--ctx-size",
        "8192",
        "--n-gpu-layers",
        "999",
        "--flash-attn",
        "on",
        "--jinja",
        "--reasoning-format",
        "deepseek",
        "--host",
        "%t/gpumod/router.sock",
    ]


def test_options_that_follow_from_the_preset(environ: dict[str, str]) -> None:
    text = render_unit(replace(SINGLE, model_id="name", api_key_file=Path("/k")), READING, environ)
    for option in ('--model "/m/a b.gguf"', "--alias name", "--ctx-size 4096", "--api-key-file /k"):
        assert f"    {option} \\\n" in text
    assert "--models-dir" not in text
    extra = {"extra_args": ["--a", "b c"], "n_gpu_layers": 20, "jinja": False, "flash_attn": "auto"}
    text = render_unit(replace(ROUTER, unit_vars=extra), READING, environ)
    for option in ('"b c"', "--n-gpu-layers 20", "--no-jinja", "--flash-attn auto"):
        assert f"    {option} \\\n" in text
    overrides = {"runner": "pooling", "hf_overrides": {"a": ["b"]}, "enforce_eager": True, "gpu_mem_util": 0.2}
    text = render_unit(replace(VLLM, unit_vars=overrides, context_size=99), READING, environ)
    for option in ("--runner pooling", r'--hf-overrides "{\"a\": [\"b\"]}"', "--max-model-len 99", "--enforce-eager"):
        assert f"    {option} \\\n" in text
    assert "--gpu-memory-utilization 0.2" in text
    local = render_unit(replace(VLLM, unit_vars={"model_path": "/w"}, model_path=Path("/w")), READING, environ)
    assert "    /w \\\n    --served-model-name org/model \\\n" in local


def test_several_gpus_are_named_in_order_and_share_the_work(environ: dict[str, str]) -> None:
    router = render_unit(replace(ROUTER, gpus=(1, "GPU-00")), READING, environ)
    assert 'Environment="CUDA_VISIBLE_DEVICES=GPU-11,GPU-00"' in router
    assert "--tensor-split 1,1" in router
    shares = replace(ROUTER, gpus=(1, 0), vram_bytes=40000 * MIB, gpu_shares=(24000 * MIB, 16000 * MIB))
    text = render_unit(shares, READING, environ)
    assert "--tensor-split 24000,16000" in text
    assert 'Environment="CUDA_VISIBLE_DEVICES=GPU-11,GPU-00"' in text
    assert of_unit(shares, READING.gpus, text) is None
    assert of_unit(replace(shares, gpus=(0, 1)), READING.gpus, text) is not None, "each has another share"
    assert of_unit(replace(shares, gpu_shares=(20000 * MIB, 20000 * MIB)), READING.gpus, text) is not None
    assert "--tensor-parallel-size 2" in render_unit(replace(VLLM, gpus=(0, 1)), READING, environ)


def test_a_service_without_vram_sees_no_gpu_and_needs_no_nvml(environ: dict[str, str]) -> None:
    text = render_unit(replace(SINGLE, vram_bytes=0), None, environ)
    assert 'Environment="CUDA_VISIBLE_DEVICES="' in text
    assert "--n-gpu-layers 0" in text


def test_a_gpu_is_never_guessed(environ: dict[str, str]) -> None:
    with pytest.raises(GpuUnavailable, match="UUID of GPU 0"):
        render_unit(ROUTER, None, environ)
    assert "GPU-ab" in render_unit(replace(ROUTER, gpus=("GPU-ab",)), None, environ)
    with pytest.raises(PresetInvalid, match="gpus: found 5"):
        render_unit(replace(ROUTER, gpus=(5,)), READING, environ)
    nameless = GpuReading(0.0, None, (GpuSample(0),))
    with pytest.raises(PresetInvalid, match="tell their UUID: none"):
        render_unit(ROUTER, nameless, environ)


def test_sleep_is_switched_on_only_where_it_is_asked_for(environ: dict[str, str]) -> None:
    assert "--enable-sleep-mode" not in render_unit(replace(VLLM, sleep_mode="l1"), READING, environ)
    for sleeper in (
        replace(VLLM, on_leave=OnLeave.SLEEP, sleep_mode="l1"),
        replace(VLLM, unit_vars={"enable_sleep_mode": True, "sleep_level": 2}),
    ):
        text = render_unit(sleeper, READING, environ)
        assert "--enable-sleep-mode" in text
        assert 'Environment="VLLM_SERVER_DEV_MODE=1"' in text


def test_a_key_is_in_neither_arguments_nor_environment(environ: dict[str, str], tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("# mine\nhunter2\n")
    text = render_unit(replace(VLLM, api_key_file=key), READING, environ)
    assert "hunter2" not in text
    assert "ExecStart=/bin/sh -c " in text
    assert f" {key} {environ['PATH']}/vllm serve " in text


def test_a_program_that_is_not_there_is_named(environ: dict[str, str]) -> None:
    with pytest.raises(PresetInvalid, match=r"unit_vars.binary: found 'llama-server', which is not on PATH"):
        render_unit(ROUTER, READING, {**environ, "PATH": "/nowhere"})
    with pytest.raises(PresetInvalid, match=r"unit_vars.command: found 'sorver'"):
        render_unit(replace(COMMAND, unit_vars={"command": ["sorver"]}), READING, environ)
    own = replace(ROUTER, unit_vars={"binary": f"{environ['PATH']}/server"})
    assert words(own, {**environ, "PATH": "/nowhere"})[0] == f"{environ['PATH']}/server"


def test_values_cannot_leave_their_line(environ: dict[str, str]) -> None:
    service = replace(
        ROUTER,
        name='100% "x"',
        unit_vars={
            "extra_args": ["a\nExecStartPre=/bin/evil", "$HOME", "%h", ";", "", "# no comment"],
            "working_dir": "/a %b",
        },
        env={"A": 'x"\nKillMode=none'},
    )
    text = render_unit(service, READING, environ)
    assert 'Description=100%% "x" (gpumod)\n' in text
    for argument in (r'"a\nExecStartPre=/bin/evil"', '"$$HOME"', '"%%h"', '";"', '""', '"# no comment"'):
        assert f"    {argument} \\\n" in text
    assert r'Environment="A=x\"\nKillMode=none"' in text
    assert "WorkingDirectory=/a %%b\n" in text
    with pytest.raises(PresetInvalid):
        render_unit(replace(ROUTER, name="two\nlines"), READING, environ)


def test_quoting_by_example() -> None:
    assert quote_word("/plain/word:1,2=3@x") == "/plain/word:1,2=3@x"
    assert quote_word("a'b") == '"a\'b"'
    assert quote_word("tab\tbell\x07del\x7f") == r'"tab\tbell\x07del\x7f"'
    assert quote_word("é") == '"é"'
    assert quote_assignment("A", "$x%") == '"A=$x%%"'
    for wrong in ("a\0b",):
        with pytest.raises(ValueError, match="NUL"):
            quote_word(wrong)
    with pytest.raises(ValueError, match="does not fit"):
        quote_line("ends in \\")


def test_the_stamp_tells_ours_from_edited_from_foreign() -> None:
    text = stamped("[Unit]\nDescription=x\n")
    assert read_stamp(text) is Stamp.OURS
    assert read_stamp(text.replace("=x", "=y")) is Stamp.EDITED
    assert read_stamp("# a note of mine\n" + text) is Stamp.EDITED
    assert read_stamp(text.partition("\n")[2]) is Stamp.FOREIGN
    assert read_stamp("") is Stamp.FOREIGN


def test_the_state_of_a_file(files: InstalledUnits, environ: dict[str, str], tmp_path: Path) -> None:
    text = render_unit(ROUTER, READING, environ)
    assert files.installed(ROUTER, text) is FileState.MISSING
    files.write(ROUTER, text)
    path = files.path(ROUTER)
    assert files.installed(ROUTER, text) is FileState.CURRENT
    assert files.installed(ROUTER, stamped("new")) is FileState.OUTDATED
    assert files.installed(ROUTER, None) is FileState.UNKNOWN
    path.write_text(text.replace("KillMode=control-group", "KillMode=none"))
    assert files.installed(ROUTER, text) is FileState.EDITED
    assert files.stamped() == ("router.service",)
    path.write_text("[Service]\n")
    assert files.installed(ROUTER, text) is FileState.FOREIGN
    assert files.stamped() == ()
    elsewhere = tmp_path / "kept.service"
    elsewhere.write_text(text)
    path.unlink()
    path.symlink_to(elsewhere)
    assert files.installed(ROUTER, text) is FileState.FOREIGN
    path.unlink()
    path.symlink_to("/dev/null")
    assert files.installed(ROUTER, text) is FileState.FOREIGN


def test_a_unit_of_that_name_in_another_folder_is_foreign(files: InstalledUnits, tmp_path: Path) -> None:
    other = tmp_path / ".local/share/systemd/user"
    other.mkdir(parents=True)
    (other / "router.service").write_text("[Service]\n")
    assert files.installed(ROUTER, "x") is FileState.FOREIGN


def test_stamped_files_are_listed_also_where_there_is_no_folder(files: InstalledUnits) -> None:
    assert files.stamped() == ()
    files.write(SINGLE, stamped("x"))
    files.write(ROUTER, stamped("x"))
    assert files.stamped() == ("router.service", "single.service")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[Service]\nKillMode=none\n", ("KillMode=none",)),
        ("[Service]\nKillMode = control-group\nSlice=gpumod.slice\nOOMPolicy=stop\n", ()),
        ("[Service]\nRestart=always\nStartLimitBurst=99\n", ("Restart=always", "StartLimitBurst=99")),
        ("[Service]\nExecStart=\nExecStart=/x --host \\\n0.0.0.0\n", ("ExecStart=", "ExecStart=/x --host  0.0.0.0")),
        ("[Service]\nExecCondition=\n", ("ExecCondition=",)),
        ("[Service]\nSlice=app.slice\nNoNewPrivileges=no\nType=simple\n", 3),
        ('[Service]\nEnvironment="A=b" CUDA_VISIBLE_DEVICES=1\n', 1),
        ("[Service]\nEnvironment=HF_HOME=/x\nMemoryMax=30G\nNice=5\n# KillMode=none\n", ()),
        ("[Service]\nEnvironment=\nEnvironmentFile=/x\nUnsetEnvironment=CUDA_VISIBLE_DEVICES\n", 3),
    ],
)
def test_drop_ins_that_undo_safety(text: str, found: tuple[str, ...] | int) -> None:
    unsafe = unsafe_settings(text)
    assert (len(unsafe) if isinstance(found, int) else unsafe) == found


def test_drop_ins_are_found_wherever_systemd_looks(files: InstalledUnits, tmp_path: Path) -> None:
    service = replace(ROUTER, id="a-b-c")
    places = [
        tmp_path / ".config/systemd/user/a-b-c.service.d",
        tmp_path / ".config/systemd/user/service.d",
        tmp_path / ".config/systemd/user/a-b-.service.d",
        tmp_path / "run/systemd/user.control/a-b-c.service.d",
        tmp_path / ".local/share/systemd/user/a-.service.d",
    ]
    for folder in places:
        folder.mkdir(parents=True)
        (folder / "x.conf").write_text("[Service]\nKillMode=none\n")
        (folder / "note.txt").write_text("[Service]\nKillMode=none\n")
    other = tmp_path / ".config/systemd/user/other.service.d"
    other.mkdir()
    (other / "x.conf").write_text("[Service]\nKillMode=none\n")
    found = files.unsafe_drop_ins(service)
    assert sorted(text.split(" sets ")[0] for text in found) == sorted(str(folder / "x.conf") for folder in places)


def test_what_is_not_there_is_said(files: InstalledUnits, environ: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "models"
    router = replace(ROUTER, models_dir=folder, api_key_file=tmp_path / "key", unit_vars={"working_dir": "/nowhere"})
    state = UnitState(router.unit, exec_path="/gone/llama-server")
    missing = "\n".join(files.missing_files(router, state))
    for part in ("/gone/llama-server", f"{folder} is not there", f"{tmp_path / 'key'}", "/nowhere"):
        assert part in missing
    folder.mkdir()
    assert f"model model is not in {folder}" in "\n".join(files.missing_files(router, state))
    (folder / "model.gguf").write_bytes(b"x" * 10)
    assert files.missing_files(replace(ROUTER, models_dir=folder), UnitState(router.unit)) == ()
    assert files.file_bytes(replace(ROUTER, models_dir=folder)) == 10


def test_the_program_behind_a_key_reader_is_looked_for(
    files: InstalledUnits, environ: dict[str, str], tmp_path: Path
) -> None:
    key = tmp_path / "key"
    key.write_text("k")
    service = replace(VLLM, api_key_file=key)
    files.write(service, render_unit(service, READING, environ))
    state = UnitState(service.unit, exec_path="/bin/sh")
    assert files.missing_files(service, state) == ()
    (Path(environ["PATH"]) / "vllm").unlink()
    assert files.missing_files(service, state) == (f"program {environ['PATH']}/vllm is not there or cannot be run",)


def test_all_parts_of_a_split_model_count(files: InstalledUnits, tmp_path: Path) -> None:
    service = replace(SINGLE, model_path=tmp_path / "m-00001-of-00003.gguf")
    for part in (1, 2):
        (tmp_path / f"m-{part:05}-of-00003.gguf").write_bytes(b"x" * part)
    assert "m-00003-of-00003.gguf" in files.missing_files(service, UnitState(service.unit))[0]
    assert files.file_bytes(service) is None
    (tmp_path / "m-00003-of-00003.gguf").write_bytes(b"x" * 3)
    assert files.missing_files(service, UnitState(service.unit)) == ()
    assert files.file_bytes(service) == 6
    folder = tmp_path / "models" / "model"
    folder.mkdir(parents=True)
    for part in (1, 2):
        (folder / f"q-{part:05}-of-00002.gguf").write_bytes(b"xx")
    assert files.file_bytes(replace(ROUTER, models_dir=tmp_path / "models")) == 4
    assert files.file_bytes(replace(VLLM)) is None
