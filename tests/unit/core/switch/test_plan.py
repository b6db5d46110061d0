"""From a survey to a plan: what stops, stays and starts, in which order, and whether it fits."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpumod_tui.core.catalog.registry import ServiceRegistry
from gpumod_tui.core.models import (
    ActiveState,
    DriverKind,
    GpuProcess,
    GpuReading,
    GpuSample,
    Health,
    Holder,
    Listener,
    ModelState,
    ModelStatus,
    Probe,
    Service,
    UnitState,
)
from gpumod_tui.core.observation import Sighting, Survey
from gpumod_tui.core.switch.plan import HOST_BYTES_PER_SERVICE, Target, plan_switch
from gpumod_tui.core.switch.results import SwitchPlan
from gpumod_tui.core.text import GIB, MIB
from gpumod_tui.core.vram.drift import Stale
from gpumod_tui.core.vram.need import Need, UnknownNeed

MARGIN = 512 * MIB
READY = Probe(Health.READY)


class Box:
    """A survey in the making: GPUs of 24564 MiB, of which 457 are never free."""

    def __init__(self, gpus: int = 1) -> None:
        self.gpus = gpus
        self.services: dict[str, Service] = {}
        self.sightings: dict[str, Sighting] = {}
        self.holders: list[Holder] = []
        self.promised: dict[tuple[str, str], Mapping[int, int]] = {}
        self.free_mib: dict[int, int | None] = dict.fromkeys(range(gpus), 24107)
        self.lists = True
        self.gpu_error: str | None = None
        self.host_available_bytes: int | None = 64 * GIB
        self.guard = UnitState("gpumod-guard.socket")

    def add(
        self,
        name: str,
        mib: Mapping[int, int] | int | None = 0,
        *,
        driver: DriverKind = DriverKind.VLLM,
        up: bool = False,
        held: Mapping[int, int | None] | None = None,
        preset: bool = True,
        **more: Any,
    ) -> None:
        """A service. `mib`: its need by GPU, None: unknown; `held`: what it holds, MiB, None: N/A."""
        by_gpu = {0: mib} if isinstance(mib, int) else mib
        fields = {key: more.pop(key) for key in ("port", "depends_on", "default_model") if key in more}
        gpus = tuple(by_gpu) if by_gpu else (0,)
        service = Service(name, name, driver, vram_bytes=0 if mib == 0 else None, gpus=gpus, **fields)
        if preset:
            self.services[name] = service
        need = (
            UnknownNeed(f"{name}: its VRAM need is unknown", "declare vram_mb")
            if by_gpu is None
            else Need({gpu: amount * MIB for gpu, amount in by_gpu.items() if amount}, "declared")
        )
        active = ActiveState.ACTIVE if up else ActiveState.INACTIVE
        state = more.pop("state", None) or UnitState(f"{name}.service", active_state=active)
        bytes_held = {gpu: None if amount is None else amount * MIB for gpu, amount in (held or {}).items()}
        pid = 100 + len(self.sightings)
        for gpu, amount in bytes_held.items():
            self.holders.append(Holder(pid, gpu, amount, "server", "S", f"{name}.service"))
            free = self.free_mib[gpu]
            if free is not None:
                self.free_mib[gpu] = free - (amount or 0) // MIB
        router = fields.get("default_model") is not None
        self.sightings[name] = Sighting(
            name,
            service if preset else None,
            state,
            pids=(pid,) if up else (),
            held=bytes_held,
            own_need=Need({}, "router") if router else need,
            model_need=need if router else None,
            **{"probe": READY if up else None, **more},
        )

    def foreign(self, mib: int | None, gpu: int = 0, *, state: str = "S") -> None:
        """Somebody else's process."""
        self.holders.append(Holder(99, gpu, None if mib is None else mib * MIB, "python", state, None))
        self.free_mib[gpu] = (self.free_mib[gpu] or 0) - (mib or 0)

    def survey(self) -> Survey:
        samples = tuple(
            GpuSample(
                gpu,
                f"GPU-{gpu}",
                total_bytes=24564 * MIB,
                free_bytes=None if free is None else free * MIB,
                reserved_bytes=442 * MIB,
                processes=tuple(GpuProcess(h.pid, h.used_bytes) for h in self.holders if h.gpu == gpu)
                if self.lists
                else None,
            )
            for gpu, free in self.free_mib.items()
        )
        reading = None if self.gpu_error else GpuReading(0.0, "560", samples)
        return Survey(
            self.sightings,
            reading,
            self.gpu_error,
            tuple(self.holders) if self.lists else (),
            self.host_available_bytes,
            MappingProxyType(self.promised),
            self.guard,
        )

    def plan(self, *services: str, **more: Any) -> SwitchPlan:
        registry = ServiceRegistry(MappingProxyType(self.services))
        target = Target("mode", registry.with_dependencies(services), **more)
        return plan_switch(registry, self.survey(), target, margin_bytes=MARGIN)


def reasons(plan: SwitchPlan) -> list[str]:
    return [blocker.reason for blocker in plan.blockers]


class TestWhatHappensToWhom:
    def test_every_managed_unit_outside_the_target_stops_with_or_without_a_preset(self) -> None:
        box = Box()
        box.add("wanted", 1000)
        box.add("other", up=True)
        box.add("orphan", up=True, preset=False)
        box.add("down")
        plan = box.plan("wanted")
        assert (plan.stop, plan.keep, plan.restart, plan.starting) == (("other", "orphan"), (), (), ("wanted",))
        assert plan.blockers == ()

    def test_a_unit_that_is_down_with_a_process_left_stops(self) -> None:
        box = Box()
        box.add("left", state=UnitState("left.service", active_state=ActiveState.FAILED))
        box.sightings["left"] = Sighting("left", None, box.sightings["left"].state, pids=(5,), held={})
        assert box.plan().stop == ("left",)

    @pytest.mark.parametrize(
        ("probe", "active", "sub", "kept"),
        [
            (READY, ActiveState.ACTIVE, "running", True),
            (None, ActiveState.ACTIVE, "running", True),
            (Probe(Health.LOADING), ActiveState.ACTIVE, "running", True),
            (Probe(Health.DOWN), ActiveState.ACTIVE, "running", False),
            (Probe(Health.DEAD), ActiveState.ACTIVE, "running", False),
            (None, ActiveState.ACTIVATING, "auto-restart", False),
            (None, ActiveState.FAILED, "failed", False),
        ],
    )
    def test_what_is_ready_or_on_its_way_is_kept_and_what_is_broken_starts_anew(
        self, probe: Probe | None, active: ActiveState, sub: str, kept: bool
    ) -> None:
        box = Box()
        box.add("one", 1000, up=True, state=UnitState("one.service", active_state=active, sub_state=sub), probe=probe)
        plan = box.plan("one")
        assert plan.keep == (("one",) if kept else ())
        assert plan.restart == plan.starting == (() if kept else ("one",))

    def test_a_model_that_is_to_be_loaded_is_named_also_where_its_router_stays(self) -> None:
        box = Box()
        box.add("stays", 9000, driver=DriverKind.LLAMACPP, default_model="glm", up=True)
        box.add("comes", 1000, driver=DriverKind.LLAMACPP, default_model="tiny")
        plan = box.plan("stays", "comes")
        assert (plan.keep, plan.starting) == (("stays",), ("comes",))
        assert plan.loads == (("stays", "glm", 9000 * MIB), ("comes", "tiny", 1000 * MIB))
        assert box.plan("stays", "comes", load_models=False).loads == ()

    def test_what_would_take_other_memory_than_its_preset_says_is_not_started_woken_or_asked_to_load(self) -> None:
        stale = Stale("it was installed for something else", "install it")
        box = Box()
        box.add("comes", 1000, stale_unit=stale)
        box.add("sleeps", 1000, up=True, asleep=True, stale_process=stale)
        box.add("loads", 1000, driver=DriverKind.LLAMACPP, default_model="m", up=True, stale_process=stale)
        box.add("stays", 1000, up=True, stale_unit=stale, stale_process=stale)
        plan = box.plan("comes", "sleeps", "loads", "stays")
        assert reasons(plan) == [f"{name}: {stale.reason}" for name in ("comes", "sleeps", "loads")]
        assert {blocker.hint for blocker in plan.blockers} == {"install it"}

    def test_a_bystander_is_neither_repaired_nor_stopped(self) -> None:
        box = Box()
        box.add("broken", up=True, probe=Probe(Health.DEAD))
        box.add("going", up=True)
        plan = box.plan("broken", stop=frozenset({"going"}), only=frozenset())
        assert (plan.keep, plan.stop, plan.start) == (("broken",), ("going",), ())


class TestOrder:
    def test_dependencies_come_first_and_the_rest_in_parallel(self) -> None:
        box = Box()
        box.add("base", driver=DriverKind.COMMAND)
        box.add("middle", driver=DriverKind.COMMAND, depends_on=("base",))
        box.add("top", driver=DriverKind.COMMAND, depends_on=("middle", "base"))
        box.add("free", driver=DriverKind.COMMAND)
        assert box.plan("top", "free").start == (("base", "free"), ("middle",), ("top",))

    def test_a_vllm_starts_alone_on_its_gpu_and_beside_others_elsewhere(self) -> None:
        box = Box(2)
        box.add("first", {0: 1000})
        box.add("second", {0: 1000})
        box.add("elsewhere", {1: 1000})
        box.add("router", {0: 1000}, driver=DriverKind.LLAMACPP)
        box.add("light", 0, driver=DriverKind.FASTAPI)
        waves = box.plan("first", "second", "elsewhere", "router", "light").start
        assert waves == (("first", "elsewhere", "light"), ("second",), ("router",))

    def test_a_dependency_that_is_kept_delays_nobody(self) -> None:
        box = Box()
        box.add("base", up=True)
        box.add("top", driver=DriverKind.COMMAND, depends_on=("base",))
        plan = box.plan("top")
        assert (plan.keep, plan.start) == (("base",), (("top",),))


class TestMemory:
    def test_the_sum_of_what_comes_must_fit_not_the_largest(self) -> None:
        box = Box()
        for name in ("one", "two", "three"):
            box.add(name, 8000)
        (reason,) = reasons(box.plan("one", "two", "three"))
        assert reason.startswith(
            "insufficient VRAM on GPU 0: needs 24000 MiB + margin 512 MiB, free after stop 24107 MiB of 24564 MiB,"
            " short by 405 MiB"
        )
        assert reasons(box.plan("one", "two")) == []

    def test_it_fits_to_the_last_byte(self) -> None:
        for mib, fits in ((24107 - 512, True), (24107 - 511, False)):
            box = Box()
            box.add("one", mib)
            assert (box.plan("one").blockers == ()) is fits

    def test_each_gpu_counts_for_itself(self) -> None:
        box = Box(2)
        box.add("split", {0: 12000, 1: 12000})
        box.add("second", {1: 12000})
        (reason,) = reasons(box.plan("split", "second"))
        assert reason.startswith("insufficient VRAM on GPU 1: needs 24000 MiB")

    def test_what_stops_counts_as_free_and_what_is_foreign_does_not(self) -> None:
        box = Box()
        box.add("going", up=True, held={0: 20000})
        box.add("coming", 20000)
        assert box.plan("coming").blockers == ()
        box.foreign(4000)
        (blocker,) = box.plan("coming").blockers
        assert "held by python pid 99 (no unit) 4000 MiB" in blocker.reason
        assert [holder.pid for holder in blocker.holders] == [99]
        assert not blocker.may_pass

    def test_what_kept_services_were_promised_is_left_to_them(self) -> None:
        box = Box()
        box.add("kept", 10000, up=True, held={0: 4000})
        box.promised["kept.service", ""] = {0: 6000 * MIB}
        box.add("coming", 14000)
        (reason,) = reasons(box.plan("kept", "coming"))
        assert "needs 14000 MiB + 6000 MiB that kept services may grow (kept 6000 MiB) + margin 512 MiB" in reason
        (row,) = box.plan("kept", "coming").arithmetic
        assert [(one.unit, one.model, one.bytes) for one in row.kept_growth] == [("kept.service", "", 6000 * MIB)]
        box.promised.clear()
        assert box.plan("kept", "coming").blockers == ()

    def test_what_goes_was_promised_nothing_any_more(self) -> None:
        box = Box()
        box.add("going", up=True, held={0: 4000})
        box.promised["going.service", ""] = {0: 16000 * MIB}
        box.add("coming", 20000)
        assert box.plan("coming").blockers == ()

    def test_a_kept_router_without_its_model_needs_room_for_it(self) -> None:
        box = Box()
        models = (ModelState("glm", ModelStatus.UNLOADED),)
        box.add("router", 20000, driver=DriverKind.LLAMACPP, default_model="glm", up=True, models=models)
        plan = box.plan("router")
        assert (plan.keep, plan.arithmetic[0].need_bytes) == (("router",), 20000 * MIB)
        box.foreign(4000)
        assert reasons(box.plan("router"))
        assert box.plan("router", load_models=False).blockers == ()

    def test_without_memory_by_process_the_upper_bound_decides(self) -> None:
        box = Box()
        box.add("going", up=True, held={0: None})
        box.free_mib[0] = 4000
        box.add("coming", 23000)
        plan = box.plan("coming")
        assert (plan.arithmetic[0].stopping_bytes, plan.arithmetic[0].bound_bytes) == (None, 24122 * MIB)
        assert plan.blockers == ()
        box.lists = False
        assert box.plan("coming").blockers == ()
        box.add("more", 1000)
        assert reasons(box.plan("coming", "more"))

    def test_unknown_is_a_refusal(self) -> None:
        box = Box()
        box.add("one", 1000)
        box.free_mib[0] = None
        assert "free VRAM is unknown" in reasons(box.plan("one"))[0]
        box.gpu_error = "driver is gone"
        assert reasons(box.plan("one")) == ["free VRAM is unknown: driver is gone"]
        assert box.plan().blockers == ()
        box.add("light", 0)
        assert box.plan("light").blockers == (), "no GPU, no question"

    def test_an_unknown_need_is_a_refusal(self) -> None:
        box = Box()
        box.add("one", None)
        assert reasons(box.plan("one")) == ["one: its VRAM need is unknown"]

    def test_memory_of_the_dead_is_on_its_way_back(self) -> None:
        box = Box()
        box.free_mib[0] = 4000
        box.add("one", 20000)
        assert [blocker.may_pass for blocker in box.plan("one").blockers] == [True]
        box.foreign(0)
        box.free_mib[0] = 24107
        box.foreign(20000, state="?")
        assert [blocker.may_pass for blocker in box.plan("one").blockers] == [True], "listed, and gone"

    def test_host_memory_is_counted_too(self) -> None:
        box = Box()
        box.add("one", 1000)
        box.add("two", 1000)
        box.host_available_bytes = 2 * HOST_BYTES_PER_SERVICE - 1
        assert reasons(box.plan("one", "two"))[0].startswith("insufficient host memory: 2 service(s) need 2048 MiB")
        assert box.plan("one").blockers == ()
        box.host_available_bytes = None
        assert box.plan("one", "two").blockers == ()


class TestFilesAndPorts:
    @pytest.mark.parametrize(
        ("load_state", "said"),
        [("not-found", "is not installed"), ("masked", "masked"), ("bad-setting", "bad-setting"), ("error", "error")],
    )
    def test_a_unit_that_cannot_start_is_a_blocker_with_a_way_out(self, load_state: str, said: str) -> None:
        box = Box()
        box.add("one", 1000, state=UnitState("one.service", load_state=load_state), missing=("no model file",))
        (blocker,) = box.plan("one").blockers
        assert said in blocker.reason
        assert blocker.hint

    def test_every_missing_file_is_named(self) -> None:
        box = Box()
        box.add("one", 1000, missing=("program x is not there", "model y is not there"))
        assert reasons(box.plan("one")) == ["one: program x is not there", "one: model y is not there"]

    def test_a_port_held_by_what_stops_is_free_and_by_others_it_is_not(self) -> None:
        box = Box()
        box.add("going", port=7070, up=True)
        box.add("coming", port=7070, listeners=(Listener(7070, 100, "going.service", "llama-server"),))
        assert box.plan("coming").blockers == ()
        box.add("other", port=7071, listeners=(Listener(7071, 99, None, "nginx"),))
        assert reasons(box.plan("other")) == ["port 7071 of other is taken by nginx pid 99 (no unit)"]
        box.add("hidden", port=7072, listeners=(Listener(7072, None, None),))
        assert reasons(box.plan("hidden")) == ["port 7072 of hidden is taken by a process of another user"]

    def test_two_services_of_one_mode_cannot_share_a_port(self) -> None:
        box = Box()
        box.add("one", port=7070, up=True)
        box.add("two", port=7070)
        assert "one and two want the same port 7070" in reasons(box.plan("one", "two"))

    def test_services_behind_the_guard_can(self) -> None:
        box = Box()
        box.guard = replace(box.guard, active_state=ActiveState.ACTIVE)
        held = (Listener(7070, 1, "init.scope", "systemd"), Listener(7070, 2, "gpumod-guard.service", "python"))
        box.add("one", port=7070, up=True, driver=DriverKind.LLAMACPP)
        box.add("two", port=7070, driver=DriverKind.LLAMACPP, listeners=held)
        assert box.plan("one", "two").blockers == ()
        box.add("three", port=7070)
        assert reasons(box.plan("one", "two", "three")) == ["one and three want the same port 7070"]

    @pytest.mark.parametrize(
        ("listener", "free"),
        [
            (Listener(7070, 1, "init.scope", "systemd"), True),
            (Listener(7070, 2, "gpumod-guard.service", "python"), True),
            (Listener(7070, None, None, is_ours=True), True),
            (Listener(7070, None, None), False),
            (Listener(7070, 99, None, "nginx"), False),
            (Listener(7070, 98, "glm-old.service", "llama-server"), False),
        ],
    )
    def test_a_guarded_port_is_held_by_the_guard_or_the_user_manager_for_it(
        self, listener: Listener, free: bool
    ) -> None:
        box = Box()
        box.guard = replace(box.guard, active_state=ActiveState.ACTIVE)
        box.add("one", port=7070, driver=DriverKind.LLAMACPP, listeners=(listener,))
        assert (reasons(box.plan("one")) == []) is free
        if not free:
            assert "port 7070 of one is taken by" in reasons(box.plan("one"))[0]
        box.add("direct", port=7070, listeners=(listener,))
        assert reasons(box.plan("direct")), "where no guard stands, nobody may hold the port"

    def test_without_a_guard_nothing_behind_it_is_started(self) -> None:
        box = Box()
        box.add("one", port=7070, driver=DriverKind.LLAMACPP)
        assert box.plan("one").blockers == (), "its socket is down: the server's start brings it up"
        box.guard = replace(box.guard, load_state="not-found")
        (blocker,) = box.plan("one").blockers
        assert blocker.reason == "one: gpumod-guard.socket is not installed (not-found)"
        assert blocker.hint == "gpumod template install --yes"
        box.guard = replace(box.guard, load_state="loaded", active_state=ActiveState.ACTIVE)
        assert reasons(box.plan("one")) == ["one: gpumod-guard.socket does not hold port 7070"]


# --- whatever the survey

MIBS = st.integers(0, 30_000)


@st.composite
def boxes(draw: st.DrawFn) -> tuple[Box, tuple[str, ...], bool]:
    box = Box(2)
    box.free_mib = {gpu: draw(st.one_of(st.none(), MIBS)) for gpu in range(2)}
    box.lists = draw(st.booleans())
    for number in range(draw(st.integers(1, 5))):
        name = f"s{number}"
        up = draw(st.booleans())
        gpus = draw(st.lists(st.sampled_from([0, 1]), unique=True, min_size=1))
        router = draw(st.booleans())
        models = (ModelState("glm", draw(st.sampled_from([ModelStatus.LOADED, ModelStatus.UNLOADED]))),)
        box.add(
            name,
            draw(st.one_of(st.none(), st.fixed_dictionaries(dict.fromkeys(gpus, MIBS)))),
            driver=DriverKind.LLAMACPP if router else draw(st.sampled_from([DriverKind.VLLM, DriverKind.FASTAPI])),
            default_model="glm" if router else None,
            depends_on=tuple(draw(st.lists(st.sampled_from([f"s{one}" for one in range(number)]), unique=True)))
            if number
            else (),
            up=up,
            models=models if router and up else (),
            probe=draw(st.sampled_from([READY, Probe(Health.DOWN), Probe(Health.LOADING)])) if up else None,
        )
        if up:
            held = {gpu: draw(st.one_of(st.none(), MIBS)) for gpu in gpus if draw(st.booleans())}
            amounts = {gpu: None if mib is None else mib * MIB for gpu, mib in held.items()}
            seen = box.sightings[name]
            box.sightings[name] = Sighting(**{**_fields(seen), "held": amounts})
            box.holders += [Holder(100 + number, gpu, mib, "x", "S", f"{name}.service") for gpu, mib in amounts.items()]
            if draw(st.booleans()):
                box.promised[f"{name}.service", draw(st.sampled_from(["", "glm"]))] = {
                    gpu: draw(MIBS) * MIB for gpu in gpus
                }
    if draw(st.booleans()):
        box.holders.append(Holder(99, draw(st.sampled_from([0, 1])), draw(MIBS) * MIB, "python", "S", None))
    wanted = tuple(name for name in box.services if draw(st.booleans()))
    return box, wanted, draw(st.booleans())


def _fields(sighting: Sighting) -> dict[str, Any]:
    return {name: getattr(sighting, name) for name in Sighting.__slots__}


def may_be_free(survey: Survey, gpu: int, ending: Iterable[str]) -> int | None:
    """The most that can be free on a GPU once these have ended, counted anew; None: nobody can know."""
    assert survey.reading is not None
    sample = survey.reading.gpus[gpu]
    gone = [survey.units[name] for name in ending]
    shown = [unit.held.get(gpu, 0) for unit in gone]
    if any(unit.pids for unit in gone) and (sample.processes is None or None in shown):
        units = {unit.state.unit for unit in gone}
        staying = sum(h.used_bytes or 0 for h in survey.holders if h.gpu == gpu and h.unit not in units)
        return (sample.total_bytes or 0) - (sample.reserved_bytes or 0) - staying
    return None if sample.free_bytes is None else sample.free_bytes + sum(filter(None, shown))


@given(boxes())
def test_a_plan_without_blockers_never_lets_needs_and_margin_exceed_what_may_be_free(
    made: tuple[Box, tuple[str, ...], bool],
) -> None:
    box, wanted, load_models = made
    plan = box.plan(*wanted, load_models=load_models)
    if plan.blockers:
        return
    survey = box.survey()
    ending = (*plan.stop, *plan.restart)
    for gpu in range(2):
        coming = 0
        ours = set()
        for name in plan.services:
            unit = survey.units[name]
            loads = load_models and unit.model_need and (name in plan.starting or unit.wants_load)
            under_way = survey.promised.get((f"{name}.service", "glm")) if name in plan.keep else None
            rest = unit.model_need if under_way is None else Need(under_way, "a load under way")
            for what, need in (
                ("", unit.own_need if name in plan.starting else None),
                ("glm", rest if loads else None),
            ):
                if need is not None:
                    assert isinstance(need, Need), "an unknown need is a blocker"
                    coming += need.by_gpu.get(gpu, 0)
                    ours.add((f"{name}.service", what))
        promised = sum(
            by_gpu.get(gpu, 0)
            for (unit_name, what), by_gpu in survey.promised.items()
            if unit_name.removesuffix(".service") not in ending and (unit_name, what) not in ours
        )
        if coming:
            free = may_be_free(survey, gpu, ending)
            assert free is not None
            assert coming + promised + MARGIN <= free


@given(boxes())
def test_every_wanted_service_is_kept_or_started_once_after_what_it_depends_on(
    made: tuple[Box, tuple[str, ...], bool],
) -> None:
    box, wanted, load_models = made
    plan = box.plan(*wanted, load_models=load_models)
    assert set(wanted) <= set(plan.services)
    assert sorted([*plan.keep, *plan.starting]) == sorted(plan.services)
    assert set(plan.restart) <= set(plan.starting)
    assert not set(plan.stop) & set(plan.services)
    assert set(plan.stop) == {
        name for name, unit in box.sightings.items() if not unit.is_down and name not in plan.services
    }
    wave_of = {name: number for number, wave in enumerate(plan.start) for name in wave}
    for name, wave in wave_of.items():
        assert all(wave_of.get(one, -1) < wave for one in box.services[name].depends_on)
    for wave_names in plan.start:
        measuring = [box.services[name] for name in wave_names if box.services[name].vram_bytes != 0]
        for one in measuring:
            if one.driver is DriverKind.VLLM:
                assert not any(set(one.gpus) & set(other.gpus) for other in measuring if other is not one)
