"""What the screens look like, at the two sizes that everybody has."""

from collections.abc import Callable
from typing import Any

import pytest
from textual.pilot import Pilot

from gpumod_tui.core.events import Planned, Step, StepEnded, StepProgress, StepStarted, SwitchEnded, SwitchStarted
from gpumod_tui.core.models import Holder, LogLine
from gpumod_tui.core.switch.records import SwitchError
from gpumod_tui.core.switch.results import Blocker, ModeResult, Outcome, SwitchPlan
from gpumod_tui.core.text import MIB
from gpumod_tui.ui.switch.plan_dialog import PlanScreen
from tests.ui.played import Box, a_long_day, plan_for, until

SIZES = [(80, 24), (120, 40)]
Compare = Callable[..., bool]


def _id(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


async def shown(box: Box, pilot: Pilot[Any]) -> None:
    """Everything that was pushed is on screen."""
    await pilot.pause()
    box.snapshots.push(box.look())
    await pilot.pause()
    box.show_lines()
    await pilot.pause()


@pytest.mark.parametrize("size", SIZES, ids=_id)
def test_refused_plan(size: tuple[int, int], snap_compare: Compare) -> None:
    box = Box("glm-code")
    plan = plan_for()
    holder = Holder(8123, 0, 1228 * MIB, "python3", "S", None)
    blocker = Blocker(
        "GPU 0 lacks 673 MiB: needs 23552 MiB, 22879 MiB can be free",
        "end python3 (pid 8123) first",
        (holder,),
    )
    short = SwitchPlan(
        plan.target,
        plan.services,
        plan.stop,
        plan.keep,
        plan.restart,
        plan.start,
        plan.arithmetic,
        (blocker,),
        ("unified memory is switched on for nemotron-3-nano",),
        plan.needs,
    )
    box.commands.answer = short

    async def ask(pilot: Pilot[Any]) -> None:
        await shown(box, pilot)
        await pilot.press("4")
        await until(pilot, lambda: isinstance(box.app.screen, PlanScreen))
        await pilot.pause()
        await pilot.press("enter")

    assert snap_compare(box.app, terminal_size=size, run_before=ask)
    assert ("submit", "nemotron") not in box.commands.asked


def begin(box: Box) -> None:
    """A switch up to its load."""
    at = box.clock.time()
    box.emit(SwitchStarted("nemotron", at - 11.4))
    box.emit(StepStarted(Step.PREFLIGHT))
    box.emit(Planned(plan_for()))
    box.emit(StepEnded(Step.PREFLIGHT, True, "GPU 0: fits", 0.1))
    box.emit(StepEnded(Step.STOP, True, "glm-code, cgroup empty", 0.4))
    box.emit(StepEnded(Step.RELEASE, True, "19.5 GiB back", 0.9))
    box.emit(StepEnded(Step.START, True, "nemotron-3-nano ready", 0.3))
    box.emit(StepStarted(Step.LOAD, at=at - 9.7))
    box.emit(StepProgress(Step.LOAD, "Nemotron-3-Nano-30B-A3B text_model", 0.71))


@pytest.mark.parametrize("size", SIZES, ids=_id)
def test_failed_switch(size: tuple[int, int], snap_compare: Compare) -> None:
    box = Box()
    box.host.foreign(19968, command="llama-server")

    async def run(pilot: Pilot[Any]) -> None:
        await shown(box, pilot)
        begin(box)
        message = "VRAM not released: needs 23552 MiB, free 4139 MiB after 30 s"
        box.emit(StepEnded(Step.RELEASE, False, message, 30.0))
        holder = Holder(4711, 0, 19968 * MIB, "llama-server", "D", "glm-code.service")
        journal = (LogLine(box.clock.time(), "glm-code.service", "cudaMalloc failed: out of memory", 3),)
        error = SwitchError(message, "release", "glm-code.service", (holder,), journal, "gpumod mode switch blank")
        timings = {"preflight": 0.1, "stop": 0.4, "release": 30.0}
        box.emit(SwitchEnded(ModeResult(False, "nemotron", errors=(error,), timings=timings, outcome=Outcome.FAILED)))

    assert snap_compare(box.app, terminal_size=size, run_before=run)


def test_four_gpus_fold_into_bars_at_80x24(snap_compare: Compare) -> None:
    box = Box("glm-code", gpu_count=4)
    box.host.foreign(8000, gpu=2)
    box.host.lose_gpu(3, "GPU is lost: it fell off the bus; reboot the host")
    assert snap_compare(box.app, terminal_size=(80, 24), run_before=lambda pilot: shown(box, pilot))


def test_nothing_can_be_read(snap_compare: Compare) -> None:
    box = Box()
    box.host.gpus.error, box.host.units.error = "the NVIDIA driver was updated", "no user bus"
    assert snap_compare(box.app, terminal_size=(80, 24), run_before=lambda pilot: shown(box, pilot))


ALL_SIZES = [(40, 10), (80, 24), (120, 40), (200, 60)]


@pytest.mark.parametrize("size", ALL_SIZES, ids=_id)
def test_gpus_in_trouble(size: tuple[int, int], snap_compare: Compare) -> None:
    box = Box("glm-code", gpu_count=3)
    box.film(120)
    box.host.xid(0, 31)
    box.host.lose_gpu(1, "GPU is lost: it fell off the bus; reboot, and look for Xid 79 in the kernel log")
    box.host.world.cards[2].xids = None
    box.host.world.cards[2].ecc_errors = 4
    box.film(5)
    assert snap_compare(box.app, terminal_size=size, run_before=lambda pilot: shown(box, pilot))


@pytest.mark.parametrize("size", [(120, 40), (200, 60)], ids=_id)
def test_looking_back(size: tuple[int, int], snap_compare: Compare) -> None:
    box = a_long_day()

    async def look_back(pilot: Pilot[Any]) -> None:
        await shown(box, pilot)
        await pilot.press("space", *["shift+left"] * 6)
        box.film(30)
        await shown(box, pilot)

    assert snap_compare(box.app, terminal_size=size, run_before=look_back)
