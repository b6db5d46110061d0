"""What if: the same verdict as a switch would get, with figures that add up."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpumod_tui.core.catalog.registry import BLANK_MODE, ServiceRegistry
from gpumod_tui.core.models import DriverKind, Mode, Service
from gpumod_tui.core.switch.manager import Manager
from gpumod_tui.core.switch.plan import Target, plan_switch
from gpumod_tui.core.switch.results import Outcome
from gpumod_tui.core.switch.simulate import (
    Candidate,
    Simulation,
    Verdict,
    WhatIf,
    gpu_sizes,
    imagine,
    look_around,
    sentences,
)
from gpumod_tui.core.text import GIB, MIB
from gpumod_tui.demo.host import DemoHost
from tests.unit.core.switch.test_plan import MARGIN, Box, boxes


def ask(box: Box, *chosen: str, modes: Mapping[str, tuple[str, ...]] = MappingProxyType({})) -> Simulation:
    defined = {"blank": BLANK_MODE, **{name: Mode(name, name, services) for name, services in modes.items()}}
    registry = ServiceRegistry(MappingProxyType(box.services), MappingProxyType(defined))
    return WhatIf(registry, box.survey(), MARGIN).run(chosen)


def test_the_sum_of_what_comes_is_held_against_what_is_free_and_comes_back() -> None:
    box = Box()
    box.add("old", 4000, up=True, held={0: 3900})
    box.add("stays", 3000, up=True, held={0: 2800})
    box.add("new", 10000)
    box.foreign(1228)
    found = ask(box, "new", "stays")
    (row,) = found.gpus
    assert (found.verdict, found.plan.stop, found.plan.keep) == (Verdict.FITS, ("old",), ("stays",))
    free = 24107 - 3900 - 2800 - 1228
    assert row.arithmetic.free_bytes == free * MIB
    assert row.left_bytes == (free + 3900 - 10000) * MIB - MARGIN
    assert [(share.who, share.amount_bytes) for share in row.starts] == [("new", 10000 * MIB)]
    assert [(share.who, share.amount_bytes) for share in row.stays] == [
        ("stays", 2800 * MIB),
        ("python pid 99", 1228 * MIB),
    ]


def test_what_a_service_depends_on_is_counted() -> None:
    box = Box()
    box.add("base", 2000)
    box.add("top", 1000, depends_on=("base",))
    found = ask(box, "top")
    assert (found.chosen, found.services) == (("top",), ("base", "top"))
    assert found.gpus[0].arithmetic.need_bytes == 3000 * MIB


def test_each_gpu_has_its_own_sum() -> None:
    box = Box(2)
    box.add("one", {0: 20000})
    box.add("two", {1: 25000})
    found = ask(box, "one", "two")
    assert found.verdict is Verdict.SHORT
    assert [row.left_bytes for row in found.gpus] == [3595 * MIB, -1405 * MIB]


def test_an_unknown_need_is_unknown_and_never_fits() -> None:
    box = Box()
    box.add("odd", None)
    found = ask(box, "odd")
    assert (found.verdict, found.unknown, found.fits) == (Verdict.UNKNOWN, ("odd",), False)
    assert sentences(found)[0] == "unknown, which never fits"


def test_an_unknown_free_memory_is_unknown() -> None:
    box = Box()
    box.add("one", 1000)
    box.free_mib[0] = None
    assert ask(box, "one").verdict is Verdict.UNKNOWN
    assert ask(box, "one").gpus[0].left_bytes is None
    box.gpu_error = "no NVIDIA driver"
    assert (ask(box, "one").verdict, ask(box, "one").gpus) == (Verdict.UNKNOWN, ())


def test_room_is_told_from_what_else_is_in_the_way() -> None:
    box = Box()
    box.add("one", 1000, port=80)
    box.add("two", 1000, port=80)
    found = ask(box, "one", "two")
    assert (found.verdict, found.fits) == (Verdict.BLOCKED, False)
    assert "same port 80" in sentences(found)[1]


def test_what_sleeps_needs_only_the_rest_to_wake() -> None:
    box = Box()
    box.add("sleeper", 8000, up=True, held={0: 1000}, asleep=True)
    found = ask(box, "sleeper")
    (row,) = found.gpus
    assert (found.verdict, found.plan.wake) == (Verdict.FITS, ("sleeper",))
    assert [(share.who, share.amount_bytes) for share in row.starts] == [("sleeper", 7000 * MIB)]
    assert [(share.who, share.note) for share in row.stays] == [("sleeper", "held while it sleeps")]


def test_other_modes_are_held_beside_what_is_chosen() -> None:
    box = Box()
    for name, need in (("big", 20000), ("small", 2000), ("large", 6000)):
        box.add(name, need)
    modes = {"all-in": ("big",), "fits": ("small",), "no": ("large",), "same": ("big", "small")}
    found = ask(box, "big", modes=modes)
    assert [(one.mode, one.fits) for one in found.beside] == [("fits", True), ("no", False), ("same", True)]
    assert "short by" in found.beside[1].reason
    assert ask(box, "big", "large", modes=modes).beside == (), "beside what does not fit nothing does"


def test_another_gpu_is_named_where_the_chosen_services_would_fit() -> None:
    services = (
        Service("big", "big", DriverKind.FASTAPI, vram_bytes=20 * GIB),
        Service(
            "share", "share", DriverKind.VLLM, vram_bytes=5 * GIB, unit_vars=MappingProxyType({"gpu_mem_util": 0.5})
        ),
        Service("both", "both", DriverKind.FASTAPI, vram_bytes=2 * GIB, gpus=(0, 1)),
    )
    host = DemoHost(registry=registry_of(*services), gpu_count=2)
    found = look_around(host).run(("big", "share", "both"))
    assert (found.verdict, found.elsewhere) == (Verdict.SHORT, (("big", 1), ("share", 1)))
    moved = replace(services[0], gpus=(1,))
    assert look_around(DemoHost(registry=registry_of(moved, *services[1:]), gpu_count=2)).run(found.chosen).fits
    host.foreign(14_000, gpu=1)
    assert look_around(host).run(found.chosen).elsewhere == ()
    assert imagine(host, [24 * GIB, 48 * GIB]).run(("big", "share")).elsewhere == (("big", 1), ("share", 1))
    assert imagine(host, [24 * GIB]).run(("big", "share")).elsewhere == ()


def test_a_vllm_takes_its_share_of_the_other_gpu() -> None:
    services = (
        Service("big", "big", DriverKind.FASTAPI, vram_bytes=20 * GIB),
        Service("share", "share", DriverKind.VLLM, unit_vars=MappingProxyType({"gpu_mem_util": 0.9})),
        Service("there", "there", DriverKind.FASTAPI, vram_bytes=6 * GIB, gpus=(1,)),
    )
    what_if = imagine(DemoHost(registry=registry_of(*services)), [24 * GIB, 30 * GIB])
    assert what_if.run(("big", "share", "there")).elsewhere == (("big", 1),)


def test_memory_that_nobody_shows_is_named() -> None:
    box = Box()
    box.add("one", 1000)
    box.free_mib[0] = 20000
    assert [share.who for share in ask(box, "one").gpus[0].stays] == ["no process"]


@settings(max_examples=200)
@given(boxes())
def test_it_fits_when_and_only_when_the_planner_would_grant_it(given_box: tuple[Box, tuple[str, ...], bool]) -> None:
    box, wanted, _ = given_box
    registry = ServiceRegistry(MappingProxyType(box.services))
    found = WhatIf(registry, box.survey(), MARGIN).run(wanted)
    plan = plan_switch(registry, box.survey(), Target("m", registry.with_dependencies(wanted)), margin_bytes=MARGIN)
    assert found.fits == (not plan.blockers)
    assert found.plan.arithmetic == plan.arithmetic
    for row in found.gpus:
        needed = sum(share.amount_bytes or 0 for share in row.starts)
        assert needed == row.arithmetic.need_bytes
        if found.fits and needed:
            assert row.left_bytes is not None
            assert row.left_bytes >= 0
            assert row.arithmetic.available_bytes == row.left_bytes + needed + MARGIN + row.arithmetic.kept_growth_bytes


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from(["vllm-embedding", "devstral-small-2", "glm-code"]), unique=True, max_size=2),
    st.sampled_from(["rag", "code", "nemotron"]),
    st.integers(0, 24_000),
)
def test_what_is_said_to_fit_a_switch_reaches_and_what_is_not_it_refuses(
    running: list[str], mode: str, foreign_mib: int
) -> None:
    room = {"vllm-embedding": 5900, "devstral-small-2": 15600, "glm-code": 20000}
    if sum(room[name] for name in running) + foreign_mib > 24_000:
        running = []
    host = DemoHost(running=running)
    host.foreign(foreign_mib)
    found = look_around(host).run(host.registry.mode(mode).services, mode)
    manager = Manager(host)
    assert bool(manager.plan(mode).blockers) == (not found.fits)
    result = manager.switch_mode(mode)
    manager.close()
    assert result.outcome is (Outcome.DONE if found.fits else Outcome.REFUSED)
    assert host.overcommits == 0


def test_looking_names_what_runs() -> None:
    assert look_around(DemoHost(running=["vllm-embedding"])).running == ("vllm-embedding",)


def test_candidates_tell_need_and_gpu_and_whether_they_run() -> None:
    found = {one.service: one for one in look_around(DemoHost(running=["vllm-embedding"])).candidates}
    assert found["glm-code"] == Candidate("glm-code", 20480 * MIB, (0,), "declared")
    assert (found["vllm-embedding"].runs, found["devstral-small-2"].runs) == (True, False)
    box = Box()
    box.add("odd", None)
    registry = ServiceRegistry(MappingProxyType(box.services))
    (odd,) = WhatIf(registry, box.survey(), MARGIN).candidates
    assert (odd.need_bytes, odd.gpus, "unknown" in odd.note) == (None, (), True)


def registry_of(*services: Service) -> ServiceRegistry:
    return ServiceRegistry(MappingProxyType({service.id: service for service in services}))


class TestGpusThatAreNotThere:
    def test_they_need_no_nvml_and_no_systemd_and_are_idle(self) -> None:
        host = DemoHost(running=["glm-code"])
        host.gpus.error, host.units.error = "no NVIDIA driver", "no user bus"
        what_if = imagine(host, [24 * GIB])
        found = what_if.run(("nemotron-3-nano",))
        assert (found.verdict, found.gpus[0].stays, what_if.running) == (Verdict.FITS, (), ())
        assert found.gpus[0].arithmetic.free_bytes == 24064 * MIB

    def test_each_has_its_size(self) -> None:
        service = Service("two", "two", DriverKind.FASTAPI, vram_bytes=40 * GIB, gpus=(0, 1))
        host = DemoHost(registry=registry_of(service))
        assert imagine(host, [24 * GIB, 24 * GIB]).run(("two",)).fits
        assert imagine(host, [24 * GIB, 16 * GIB]).run(("two",)).verdict is Verdict.SHORT
        found = imagine(host, [48 * GIB]).run(("two",))
        assert (found.verdict, "wants GPU 1" in sentences(found)[1]) == (Verdict.UNKNOWN, True)

    def test_a_service_bound_to_a_gpu_by_uuid_keeps_its_place(self) -> None:
        service = Service("one", "one", DriverKind.FASTAPI, vram_bytes=GIB, gpus=("GPU-played-1",))
        host = DemoHost(registry=registry_of(service), gpu_count=2)
        found = imagine(host, [8 * GIB, 8 * GIB]).run(("one",))
        assert [row.arithmetic.need_bytes for row in found.gpus] == [0, GIB]
        host.gpus.error = "none"
        assert imagine(host, [8 * GIB, 8 * GIB]).run(("one",)).verdict is Verdict.UNKNOWN

    @pytest.mark.parametrize("declared", [10 * GIB, None])
    def test_what_was_measured_on_real_ones_counts(self, declared: int | None) -> None:
        service = Service("one", "one", DriverKind.FASTAPI, vram_bytes=declared)
        host = DemoHost(registry=registry_of(service))
        reading = host.gpus.read(processes=False)
        host.needs.note(host.needs.unit_key(service, reading), {0: 15 * GIB})
        found = imagine(host, [24 * GIB]).run(("one",))
        assert found.gpus[0].arithmetic.need_bytes == 15 * GIB
        assert "highest ever measured" in found.gpus[0].starts[0].note
        assert imagine(host, [12 * GIB]).run(("one",)).verdict is Verdict.SHORT


@pytest.mark.parametrize(
    ("text", "gib"),
    [("", ()), ("24", (24,)), ("24 48.5", (24, 48.5)), ("24,24", (24, 24)), ("4x80 1", (80, 80, 80, 80, 1))],
)
def test_sizes_of_gpus_as_one_types_them(text: str, gib: tuple[float, ...]) -> None:
    assert gpu_sizes(text) == tuple(int(size * GIB) for size in gib)


@pytest.mark.parametrize(
    "text", ["x", "24x", "0", "nan", "inf", "5000", "-1x24", "17x24", "9x24 9x24", "24GiB", "0x24"]
)
def test_sizes_that_are_none_are_named(text: str) -> None:
    with pytest.raises(ValueError, match=f"found {text.split()[-1]}, expected"):
        gpu_sizes(text)
