"""Switches on screen: when they are asked about, those of other processes, and what a failure leads to."""

from dataclasses import replace
from typing import Any

import pytest

from gpumod_tui.core.catalog.config import Confirm
from gpumod_tui.core.catalog.registry import ServiceRegistry
from gpumod_tui.core.events import (
    Event,
    Planned,
    Step,
    StepEnded,
    StepProgress,
    StepStarted,
    SwitchEnded,
    SwitchSeen,
    SwitchStarted,
)
from gpumod_tui.core.models import Holder, LogLine, Mode
from gpumod_tui.core.status.mode_status import Recorded
from gpumod_tui.core.switch.manager import Manager
from gpumod_tui.core.switch.records import Level, Moment, StepRecord, SwitchError, SwitchRecord
from gpumod_tui.core.switch.results import Blocker, ModeResult, Outcome
from gpumod_tui.core.switch.watch import SwitchWatch
from gpumod_tui.core.text import GIB, MIB
from gpumod_tui.demo.modes import MemoryModes
from gpumod_tui.ui.common.confirm import Words, WordsScreen
from gpumod_tui.ui.common.question import QuestionScreen
from gpumod_tui.ui.messages import CatalogChanged
from gpumod_tui.ui.modes.pane import ModeBar
from gpumod_tui.ui.options import ViewOptions
from gpumod_tui.ui.switch.plan import PlanView
from gpumod_tui.ui.switch.plan_dialog import PlanScreen
from gpumod_tui.ui.switch.progress import Progress
from tests.ui.common.test_mouse import click
from tests.ui.dashboard.test_screens import begin, shown
from tests.ui.pictures import picture
from tests.ui.played import Box, dialog_text, plan_for, until

STOPS = plan_for()
STARTS = replace(STOPS, stop=())
BLOCKED = replace(STARTS, blockers=(Blocker("insufficient VRAM on GPU 0"),))
LEVEL = Level(0, 24 * GIB, 4 * GIB, 23 * GIB)


def record(box: Box, *steps: StepRecord, **changes: Any) -> SwitchRecord:
    made = SwitchRecord(
        "1", "nemotron", 4711, 1, box.clock.time() - 3.0, steps, command="gpumod mode switch nemotron", touched=True
    )
    return replace(made, **changes)


def steps_text(box: Box) -> str:
    return box.app.dashboard.steps.text()


class TestConfirm:
    @pytest.mark.parametrize(
        ("confirm", "plan", "asks"),
        [
            (Confirm.ALWAYS, STARTS, True),
            (Confirm.ALWAYS, STOPS, True),
            (Confirm.WHEN_STOPS, STARTS, False),
            (Confirm.WHEN_STOPS, STOPS, True),
            (Confirm.WHEN_STOPS, replace(STARTS, restart=("a",)), True),
            (Confirm.WHEN_STOPS, replace(STARTS, sleep=("a",)), True),
            (Confirm.WHEN_STOPS, BLOCKED, True),
            (Confirm.NEVER, STOPS, False),
            (Confirm.NEVER, BLOCKED, True),
        ],
    )
    async def test_a_plan_is_shown_as_configured_and_always_when_it_is_blocked(
        self, confirm: Confirm, plan: Any, asks: bool
    ) -> None:
        box = Box("glm-code", options=ViewOptions(confirm=confirm))
        box.commands.answer = plan
        async with box.app.run_test(size=(120, 40)) as pilot:
            await shown(box, pilot)
            await pilot.press("4")
            submitted = ("submit", "nemotron")
            await until(pilot, lambda: isinstance(box.app.screen, PlanScreen) or submitted in box.commands.asked)
            assert isinstance(box.app.screen, PlanScreen) == asks
            assert (submitted in box.commands.asked) == (not asks)

    async def test_a_plan_that_cannot_be_made_is_told_also_where_nothing_is_asked(self) -> None:
        from gpumod_tui.core.errors import SystemdUnavailable

        box = Box("glm-code", options=ViewOptions(confirm=Confirm.NEVER))
        box.commands.answer = SystemdUnavailable("no user bus")
        async with box.app.run_test(size=(120, 40)) as pilot:
            await shown(box, pilot)
            await pilot.press("4")
            await until(pilot, lambda: isinstance(box.app.screen, PlanScreen))


class TestUnknown:
    async def test_a_mode_that_is_gone_when_its_plan_is_agreed_to_is_told(self) -> None:
        box = Box("glm-code")

        def report(event: Event) -> None:
            box.emit(event)

        box.commands.submit_mode = Manager(box.host, report).submit_mode  # type: ignore[assignment]
        async with box.app.run_test(size=(120, 40)) as pilot:
            await shown(box, pilot)
            await pilot.press("4")
            await until(pilot, lambda: isinstance(box.app.screen, PlanScreen))
            await pilot.pause()
            left = {name: mode for name, mode in box.host.registry.modes.items() if name != "nemotron"}
            box.host.mode_files = MemoryModes(replace(box.host.registry, modes=left))
            await pilot.press("enter")
            told = ("✖ Switch to nemotron", "no mode 'nemotron'", "error")
            await until(
                pilot,
                lambda: told in [(toast.title, toast.message, toast.severity) for toast in box.app._notifications],
            )

    async def test_a_switch_that_runs_stays_on_screen(self) -> None:
        box = Box("glm-code")
        async with box.app.run_test(size=(120, 40)) as pilot:
            await shown(box, pilot)
            begin(box)
            box.emit(SwitchEnded(ModeResult(False, "rag", outcome=Outcome.UNKNOWN_TARGET)))
            await until(pilot, lambda: len(box.app._notifications) == 1)
            assert "Switch to nemotron" in steps_text(box)
            assert box.app.running_switch == "nemotron"


class TestElsewhere:
    async def test_is_shown_step_by_step_and_says_whose_it_is(self) -> None:
        box = Box("nemotron-3-nano")
        async with box.app.run_test(size=(120, 40)) as pilot:
            await shown(box, pilot)
            done = StepRecord("stop", "glm-code", True, 0.4, box.clock.time() - 3)
            release = StepRecord("release", at=box.clock.time() - 2.0)
            moment = Moment("1", "release", "GPU 0: needs …", 0.2, (LEVEL,))
            seen = record(box, done, release, starting=("nemotron-3-nano.service",))
            box.emit(SwitchSeen(seen, True, moment))
            await until(pilot, lambda: "4711" in steps_text(box))
            text = steps_text(box)
            assert "by pid 4711 (gpumod mode switch nemotron)" in text
            assert "✔ stop" in text
            assert "4.0 free of 23.0 GiB needed" in text
            assert "2.0 s" in text
            assert "Switch to nemotron" in box.app.dashboard.header.text()
            box.journal.sink(LogLine(box.clock.time(), "nemotron-3-nano.service", "loading tensors"))
            box.app.flush()
            assert "loading tensors" in steps_text(box)
            ended = replace(seen, steps=(done,), outcome="done", ended_at=box.clock.time())
            box.emit(SwitchSeen(ended, False))
            await until(pilot, lambda: "Switch to nemotron: reached" in steps_text(box))
            box.clock.advance(60.0)
            await shown(box, pilot)
            assert box.app.dashboard.progress is None

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"outcome": "failed", "errors": (SwitchError("VRAM not released", hint="nvidia-smi"),)}, "nvidia-smi"),
            ({"outcome": "failed", "note": "switch to nemotron failed at stop"}, "failed at stop"),
            ({"outcome": "cancelled"}, "cancelled"),
            ({"outcome": "something newer", "ended_at": 1_762_900_000.0}, "failed"),
            ({}, "pid 4711 was killed at step newer"),
        ],
    )
    async def test_its_end_is_told(self, changes: dict[str, Any], words: str) -> None:
        box = Box()
        async with box.app.run_test(size=(120, 40)) as pilot:
            await shown(box, pilot)
            box.emit(SwitchSeen(record(box, StepRecord("stop")), True))
            box.emit(SwitchSeen(record(box, StepRecord("stop"), StepRecord("newer"), **changes), False))
            await until(pilot, lambda: words in steps_text(box))
            box.clock.advance(600.0)
            await shown(box, pilot)
            assert words in steps_text(box), "a bad end stays"

    @pytest.mark.parametrize(("key", "asked"), [("enter", [("cancel", "1")]), ("escape", [])])
    async def test_escape_asks_before_it_asks_the_other_process(self, key: str, asked: list[tuple[str, ...]]) -> None:
        box = Box()
        async with box.app.run_test(size=(80, 24)) as pilot:
            await shown(box, pilot)
            box.emit(SwitchSeen(record(box, StepRecord("stop")), True))
            await pilot.pause()
            await pilot.press("escape")
            await pilot.pause()
            assert isinstance(box.app.screen, WordsScreen)
            assert box.commands.asked == []
            await pilot.press(key)
            await until(pilot, lambda: box.commands.asked == asked)
            assert ("cancelling" in steps_text(box)) == bool(asked)
            box.emit(SwitchSeen(record(box, StepRecord("stop"), StepRecord("rollback")), True))
            await until(pilot, lambda: "rollback" in steps_text(box))
            assert ("cancelling" in steps_text(box)) == bool(asked), "told again, it still is"

    async def test_nothing_but_blank_is_begun_beside_it(self) -> None:
        box = Box()
        async with box.app.run_test(size=(80, 24)) as pilot:
            await shown(box, pilot)
            box.emit(SwitchSeen(record(box), True))
            await pilot.pause()
            await pilot.press("2")
            await until(pilot, lambda: isinstance(box.app.screen, PlanScreen))
            assert "runs in pid 4711" in box.app.screen.query_one("#plan").text()  # type: ignore[attr-defined]
            await pilot.press("enter", "escape")
            await pilot.press("b")
            await until(pilot, lambda: isinstance(box.app.screen, PlanScreen))
            await pilot.press("enter")
            await until(pilot, lambda: box.commands.asked == [("submit", "blank")])

    async def test_leaving_asks_nothing_since_it_goes_on_anyway(self) -> None:
        box = Box()
        async with box.app.run_test(size=(80, 24)) as pilot:
            await shown(box, pilot)
            box.emit(SwitchSeen(record(box), True))
            await pilot.pause()
            await pilot.press("q")
            await pilot.pause()
            assert not isinstance(box.app.screen, WordsScreen)

    async def test_who_is_turned_away_for_it_sees_it_go_on(self) -> None:
        box = Box()
        async with box.app.run_test(size=(120, 40)) as pilot:
            await shown(box, pilot)
            box.emit(SwitchSeen(record(box, StepRecord("stop")), True))
            busy = SwitchError("busy: pid 4711 is switching to nemotron")
            box.emit(SwitchEnded(ModeResult(False, "code", errors=(busy,), outcome=Outcome.BUSY)))
            await pilot.pause()
            assert "by pid 4711" in steps_text(box)

    async def test_ones_own_takes_its_place(self) -> None:
        box = Box()
        async with box.app.run_test(size=(120, 40)) as pilot:
            await shown(box, pilot)
            box.emit(SwitchSeen(record(box, StepRecord("stop")), True))
            box.emit(SwitchStarted("blank", box.clock.time()))
            box.emit(StepStarted(Step.STOP))
            box.emit(SwitchSeen(record(box, StepRecord("stop"), outcome="cancelled"), False))
            await until(pilot, lambda: "Switch to blank" in steps_text(box))
            assert "4711" not in steps_text(box)


class TestWatch:
    def test_tells_what_others_do_and_not_what_was_over_before(self) -> None:
        box = Box()
        store = box.host.store
        told: list[Any] = []
        old = store.acquire("rag", pid=1)
        assert old is not None
        old.write(replace(old.record, outcome="done"))
        old.release()
        watch = SwitchWatch(store, box.clock, 99, told.append)
        watch.look()
        assert told == []
        lock = store.acquire("code", pid=2, command="gpumod mode switch code")
        assert lock is not None
        watch.look()
        watch.look()
        lock.write(replace(lock.record, steps=(StepRecord("load"),)))
        lock.tell(Moment(lock.record.id, "load", "GLM", 0.5))
        watch.look()
        lock.write(replace(lock.record, outcome="failed"))
        watch.look()
        lock.release()
        watch.look()
        assert [(seen.record.step, seen.running, seen.moment is not None) for seen in told] == [
            ("begin", True, False),
            ("load", True, True),
            ("load", False, False),
        ]
        own = store.acquire("code", pid=99)
        watch.look()
        assert len(told) == 3
        assert own is not None

    def test_tells_of_one_that_was_killed_and_of_one_too_short_to_be_seen(self) -> None:
        box = Box()
        store = box.host.store
        told: list[Any] = []
        watch = SwitchWatch(store, box.clock, 99, told.append)
        watch.look()
        lock = store.acquire("code", pid=2)
        assert lock is not None
        watch.look()
        lock.release()
        watch.look()
        lock = store.acquire("rag", pid=2)
        assert lock is not None
        lock.write(replace(lock.record, outcome="refused"))
        lock.release()
        watch.look()
        assert [(seen.record.target, seen.running, seen.record.outcome) for seen in told] == [
            ("code", True, None),
            ("code", False, None),
            ("rag", False, "refused"),
        ]


class TestRunning:
    async def test_the_release_wait_is_a_bar_that_falls_to_its_goal(self) -> None:
        box = Box("glm-code")
        async with box.app.run_test(size=(120, 40)) as pilot:
            await shown(box, pilot)
            box.emit(SwitchStarted("nemotron", box.clock.time()))
            box.emit(StepStarted(Step.RELEASE))
            lengths = []
            for free in (2, 8, 16, 23):
                level = replace(LEVEL, free_bytes=free * GIB)
                box.emit(StepProgress(Step.RELEASE, "GPU 0", 0.1, (level,)))
                await until(pilot, lambda free=free: f"{free}.0 free of 23.0 GiB" in steps_text(box))
                row = next(line for line in steps_text(box).splitlines() if "free of" in line)
                lengths.append(row.count("█"))
                assert "│" in row
            assert lengths == sorted(lengths, reverse=True)
            assert lengths[0] > 40
            assert lengths[-1] <= 2

    async def test_each_units_last_words_are_shown(self) -> None:
        box = Box("glm-code")
        async with box.app.run_test(size=(120, 40)) as pilot:
            await shown(box, pilot)
            begin(box)
            await pilot.pause()
            for unit, words in (
                ("glm-code", "bye"),
                ("nemotron-3-nano", "one"),
                ("nemotron-3-nano", "two"),
                ("x", "no"),
            ):
                box.journal.sink(LogLine(box.clock.time(), f"{unit}.service", words))
            box.app.flush()
            text = steps_text(box)
            assert "[glm-code] bye" in text
            assert "[nemotron-3-nano] two" in text
            assert "one" not in text
            assert "[x]" not in text

    async def test_a_running_step_shows_how_long_it_lasts(self) -> None:
        box = Box("glm-code")
        async with box.app.run_test(size=(120, 40)) as pilot:
            await shown(box, pilot)
            begin(box)
            await pilot.pause()
            box.clock.advance(7.0)
            await shown(box, pilot)
            load = next(line for line in steps_text(box).splitlines() if "▸ load" in line)
            assert "16.7 s" in load


class TestEscape:
    @pytest.mark.parametrize(("stop", "asks"), [(("glm-code",), True), ((), False)])
    async def test_asks_before_it_cancels_what_has_stopped_something(self, stop: tuple[str, ...], asks: bool) -> None:
        box = Box("glm-code")
        async with box.app.run_test(size=(80, 24)) as pilot:
            await shown(box, pilot)
            box.emit(SwitchStarted("nemotron", box.clock.time()))
            box.emit(Planned(replace(STOPS, stop=stop)))
            box.emit(StepStarted(Step.STOP))
            await pilot.pause()
            await pilot.press("escape")
            if asks:
                await until(pilot, lambda: isinstance(box.app.screen, QuestionScreen))
                assert "stops glm-code" in picture(box.app)
                await pilot.press("escape")
                await pilot.pause()
                assert box.commands.asked == []
                await pilot.press("escape")
                await until(pilot, lambda: isinstance(box.app.screen, QuestionScreen))
                await pilot.press("y")
            await until(pilot, lambda: box.commands.asked == [("cancel",)])
            await until(pilot, lambda: "cancelling" in steps_text(box))
            await pilot.press("escape")
            await until(pilot, lambda: box.commands.asked == [("cancel",)] * 2)

    async def test_cancels_at_once_as_long_as_nothing_was_stopped(self) -> None:
        box = Box("glm-code")
        async with box.app.run_test(size=(80, 24)) as pilot:
            await shown(box, pilot)
            box.emit(SwitchStarted("nemotron", box.clock.time()))
            box.emit(Planned(STOPS))
            box.emit(StepStarted(Step.PREFLIGHT))
            await pilot.pause()
            await pilot.press("escape")
            await until(pilot, lambda: box.commands.asked == [("cancel",)])

    async def test_what_is_agreed_to_after_its_end_cancels_nothing(self) -> None:
        box = Box("glm-code")
        async with box.app.run_test(size=(80, 24)) as pilot:
            await shown(box, pilot)
            begin(box)
            await pilot.pause()
            await pilot.press("escape")
            await until(pilot, lambda: isinstance(box.app.screen, QuestionScreen))
            box.emit(SwitchEnded(ModeResult(True, "nemotron")))
            box.emit(SwitchStarted("rag", box.clock.time()))
            await pilot.pause()
            await pilot.press("y")
            await pilot.pause(0.05)
            assert box.commands.asked == []

    @pytest.mark.parametrize(("key", "words"), [("z", "journal alone"), ("space", "frozen graph")])
    async def test_leaves_the_zoom_or_a_frozen_graph_and_nothing_else(self, key: str, words: str) -> None:
        box = Box("glm-code")
        box.film(60)
        async with box.app.run_test(size=(120, 40)) as pilot:
            await shown(box, pilot)
            board = box.app.dashboard
            begin(box)
            await until(pilot, lambda: "esc cancels" in steps_text(box))
            await pilot.press(key)
            assert board.zoomed or board.gpus.frozen, words
            await until(pilot, lambda: "▸ load" in steps_text(box) and "esc" not in steps_text(box))
            assert "esc cancel" not in board.footer.text()
            await pilot.press("escape")
            assert not board.zoomed
            assert not board.gpus.frozen
            await until(pilot, lambda: "esc cancels" in steps_text(box))
            assert box.app.screen is board, "nothing is asked"
            await pilot.press(key)
            box.emit(SwitchEnded(ModeResult(False, "nemotron", outcome=Outcome.FAILED)))
            await until(pilot, lambda: "Switch to nemotron: failed" in steps_text(box))
            await pilot.press("escape")
            assert "Switch to nemotron: failed" in steps_text(box)
            await pilot.press("escape")
            assert board.progress is None
        assert box.commands.asked == []

    async def test_what_waits_is_not_dropped_from_a_zoomed_journal(self) -> None:
        box = Box("glm-code")
        async with box.app.run_test(size=(120, 40)) as pilot:
            await shown(box, pilot)
            begin(box)
            await pilot.pause()
            await pilot.press("3", "z")
            await until(pilot, lambda: "then code" in steps_text(box))
            await pilot.press("escape")
            await pilot.pause()
            assert "then code" in steps_text(box)


class TestFailure:
    async def test_can_be_copied_with_its_evidence(self) -> None:
        box = Box()
        async with box.app.run_test(size=(80, 24)) as pilot:
            await shown(box, pilot)
            await pilot.press("y")
            assert box.app.clipboard == ""
            begin(box)
            box.emit(StepEnded(Step.RELEASE, False, "VRAM not released", 30.0))
            holder = Holder(4711, 0, 512 * MIB, "python3", unit="glm-code.service")
            line = LogLine(box.clock.time(), "glm-code.service", "out of \x1b[31mmemory")
            error = SwitchError("died", "release", "glm-code.service", (holder,), (line,), "look there")
            box.emit(SwitchEnded(ModeResult(False, "nemotron", errors=(error,), outcome=Outcome.FAILED)))
            await pilot.pause()
            await pilot.press("y")
            copied = box.app.clipboard.splitlines()
        assert copied[0] == "Switch to nemotron: failed"
        assert "release failed 30.0 s: VRAM not released" in copied
        assert "held by python3 pid 4711 (glm-code.service, has ended) 512 MiB" in copied
        assert any(text.endswith("glm-code.service: out of memory") for text in copied)
        assert copied[-1] == "look there"


class TestPlan:
    @staticmethod
    async def told(plan: Any, fitting: tuple[str, ...] = ("rag",), width: int = 120) -> str:
        box = Box("glm-code")
        box.commands.answer = plan
        box.commands.fits = fitting
        async with box.app.run_test(size=(width, 40)) as pilot:
            await shown(box, pilot)
            await pilot.press("4")
            await until(pilot, lambda: isinstance(box.app.screen, PlanScreen))
            await pilot.pause()
            text: str = box.app.screen.query_one("#plan").text()  # type: ignore[attr-defined]
            return text

    async def test_shows_memory_now_after_the_stop_needed_and_left(self) -> None:
        text = await self.told(STOPS)
        assert "free 4.0 · after the stop 23.5 · needed 23.0 · left 0.5 GiB: fits" in text
        assert "needed: 22.5 for what starts + 0.5 margin" in text
        now, then = (next(line for line in text.splitlines() if line.split()[:1] == [word]) for word in ("now", "then"))
        assert now.count("░") > 40, "what the stop gives back"
        assert then.count("▓") > 40, "what comes"
        assert "modes that fit" not in text

    async def test_what_does_not_fit_says_by_how_much_and_what_would(self) -> None:
        sums = replace(STARTS.arithmetic[0], stopping_bytes=0)
        plan = replace(BLOCKED, arithmetic=(sums,))
        text = await self.told(plan)
        assert "19.0 GiB short" in text
        assert "modes that fit now: rag" in text
        assert "enter" not in text
        assert "no other mode fits now" in await self.told(plan, ("nemotron",))

    async def test_a_load_by_a_router_that_stays_is_named_with_its_size(self) -> None:
        load = ("glm-code.service", "GLM-4.7", {0: 19968 * MIB})
        plan = replace(STARTS, keep=("glm-code",), start=(), promises=(load,), needs={"glm-code": load[2]})
        lines = [" ".join(line.split()) for line in (await self.told(plan)).splitlines()]
        assert "stays ■ glm-code" in lines
        assert "starts –" in lines
        assert "loads ■ GLM-4.7 19.5 GiB, by glm-code" in lines

    async def test_unknown_memory_is_a_refusal_and_many_gpus_are_told_shortly(self) -> None:
        sums = tuple(replace(STOPS.arithmetic[0], gpu=gpu, free_bytes=None) for gpu in range(4))
        text = await self.told(replace(BLOCKED, arithmetic=sums), width=60)
        assert text.count("unknown: refused") == 4
        assert "now   " not in text


class TestModeBar:
    @staticmethod
    def bar(box: Box, width: int = 80) -> str:
        bar = box.app.dashboard.modes
        return bar.rows(width, 1)[0].text

    @pytest.mark.parametrize(
        ("running", "shown_as"),
        [
            (("vllm-embedding",), "[2 rag]"),
            ((), "[2 rag: partial]"),
            (("vllm-embedding", "glm-code"), "[2 rag: drifted]"),
        ],
    )
    async def test_the_recorded_mode_says_whether_the_box_is_in_it(
        self, running: tuple[str, ...], shown_as: str
    ) -> None:
        box = Box(*running)
        box.recorded = Recorded("rag", since=box.clock.time())
        async with box.app.run_test(size=(80, 24)) as pilot:
            await shown(box, pilot)
            assert shown_as in self.bar(box)
            box.emit(SwitchStarted("code", box.clock.time()))
            await pilot.pause()
            assert "▸3 code…" in self.bar(box)
            assert "[" not in self.bar(box)

    async def test_a_number_means_the_same_mode_as_long_as_the_dashboard_is_open(self) -> None:
        box = Box()
        async with box.app.run_test(size=(120, 40)) as pilot:
            await shown(box, pilot)
            assert "1 blank    2 rag    3 code    4 nemotron" in self.bar(box)
            before = box.host.registry
            modes = {"a-new-one": Mode("a-new-one", "New", ()), **before.modes}
            del modes["rag"]
            box.app.post_message(CatalogChanged(replace(before, modes=modes)))
            await until(pilot, lambda: "1 blank    3 code    4 nemotron    5 a-new-one" in self.bar(box))
            await pilot.press("2")
            await pilot.press("3")
            await until(pilot, lambda: ("plan", "code") in box.commands.asked)
            assert box.commands.asked == [("plan", "code")]
            box.app.post_message(CatalogChanged(before))
            await until(pilot, lambda: "1 blank    2 rag    3 code    4 nemotron" in self.bar(box))

    def test_the_one_that_matters_is_in_sight_however_many_there_are(self) -> None:
        modes = {name: Mode(name, name, ()) for name in ("blank", *(f"mode-{number}" for number in range(30)))}
        bar = ModeBar(ServiceRegistry({}, modes), tuple(modes))
        bar.progress = Progress("mode-15", 0.0)
        text = bar.rows(40, 1)[0].text
        assert "▸  mode-15…" in text
        assert text.startswith(" ‹")
        assert text.rstrip().endswith("›")


class TestLittleRoom:
    async def test_the_step_that_runs_or_failed_is_what_stays(self) -> None:
        box = Box("glm-code")
        async with box.app.run_test(size=(40, 10)) as pilot:
            await shown(box, pilot)
            begin(box)
            await until(pilot, lambda: "▸ load" in steps_text(box))
            assert len(steps_text(box).splitlines()) == 2
            box.emit(StepEnded(Step.LOAD, False, "out of memory", 9.0))
            box.emit(SwitchEnded(ModeResult(False, "nemotron", outcome=Outcome.FAILED)))
            await until(pilot, lambda: "✖ out of memory" in steps_text(box))
            assert "Switch to nemotron: failed" in steps_text(box)

    @pytest.mark.parametrize("size", [(40, 10), (60, 10), (40, 12)])
    async def test_a_failure_says_why_before_it_names_keys(self, size: tuple[int, int]) -> None:
        box = Box("glm-code")
        async with box.app.run_test(size=size) as pilot:
            await shown(box, pilot)
            begin(box)
            hint = "look into its journal: gpumod service logs nemotron-3-nano"
            error = SwitchError("nemotron-3-nano died: exit code 1", "load", "nemotron-3-nano.service", hint=hint)
            box.emit(StepEnded(Step.LOAD, False, error.message, 9.0))
            box.emit(SwitchEnded(ModeResult(False, "nemotron", errors=(error,), outcome=Outcome.FAILED)))
            await until(pilot, lambda: "✖" in steps_text(box))
            await pilot.pause()
            assert "✖" in steps_text(box)
            assert "exit code 1" in steps_text(box)
            rows = len(steps_text(box).splitlines())
            assert ("r retry" in steps_text(box)) == (rows >= 4), rows
            assert "r retry" in box.app.dashboard.footer.text()

    async def test_a_long_reason_fills_what_room_there_is(self) -> None:
        box = Box("glm-code")
        async with box.app.run_test(size=(40, 10)) as pilot:
            await shown(box, pilot)
            begin(box)
            error = SwitchError("VRAM not released: needs 23552 MiB, free 4139 MiB after 30 s")
            box.emit(SwitchEnded(ModeResult(False, "nemotron", errors=(error,), outcome=Outcome.FAILED)))
            await until(pilot, lambda: "✖ VRAM not released: needs 23.0 GiB, f…" in steps_text(box))

    async def test_a_click_on_a_key_is_that_key(self) -> None:
        box = Box("glm-code")
        async with box.app.run_test(size=(80, 24)) as pilot:
            await shown(box, pilot)
            begin(box)
            await until(pilot, lambda: "esc cancels" in steps_text(box))
            await click(pilot, box.app.dashboard.steps, "esc cancels")
            await until(pilot, lambda: isinstance(box.app.screen, QuestionScreen))
            await pilot.press("enter")
            await until(pilot, lambda: ("cancel",) in box.commands.asked)
            error = SwitchError("nemotron-3-nano died: exit code 1")
            box.emit(SwitchEnded(ModeResult(False, "nemotron", errors=(error,), outcome=Outcome.FAILED)))
            await until(pilot, lambda: "r retry" in steps_text(box))
            await click(pilot, box.app.dashboard.steps, "exit code 1")
            await click(pilot, box.app.dashboard.steps, "r retry")
            await until(pilot, lambda: ("plan", "nemotron") in box.commands.asked)

    async def test_a_refusal_comes_first_and_the_rest_is_scrolled_to(self) -> None:
        box = Box("glm-code")
        box.commands.answer = BLOCKED
        async with box.app.run_test(size=(40, 10)) as pilot:
            await shown(box, pilot)
            await pilot.press("4")
            await until(pilot, lambda: isinstance(box.app.screen, PlanScreen))
            await pilot.pause()
            view = box.app.screen.query_one(PlanView)
            assert "✖ insufficient VRAM" in view.text()
            assert "esc close" in dialog_text(box)
            await pilot.press(*["down"] * 20)
            assert "✖" not in view.text()
            assert "needed: 22.5" in view.text()
            assert "esc close" in dialog_text(box)
            await pilot.press(*["up"] * 20)
            assert "✖ insufficient VRAM" in view.text()

    async def test_a_narrow_plan_breaks_its_figures_and_cuts_none(self) -> None:
        text = await TestPlan.told(STOPS, width=40)
        for words in ("free 4.0", "after the stop 23.5", "needed 23.0", "left 0.5 GiB: fits"):
            assert words in text


async def test_progress_within_a_step_repaints_its_own_row_only() -> None:
    box = Box("glm-code")
    async with box.app.run_test(size=(120, 40)) as pilot:
        await shown(box, pilot)
        begin(box)
        await until(pilot, lambda: "71 %" in steps_text(box))
        before = box.app.dashboard.steps.rows_painted
        box.emit(StepProgress(Step.LOAD, "Nemotron-3-Nano-30B-A3B text_model", 0.75))
        await until(pilot, lambda: "75 %" in steps_text(box))
        assert box.app.dashboard.steps.rows_painted == before + 1
        box.emit(StepProgress(Step.LOAD, "Nemotron-3-Nano-30B-A3B text_model", 0.75))
        await pilot.pause(0.05)
        assert box.app.dashboard.steps.rows_painted == before + 1


async def test_what_another_process_was_called_with_cannot_move_the_cursor() -> None:
    box = Box()
    async with box.app.run_test(size=(80, 24)) as pilot:
        await shown(box, pilot)
        box.emit(SwitchSeen(record(box, StepRecord("stop"), command="gpumod mode switch '\x1b[2Ja'"), True))
        await until(pilot, lambda: "4711" in steps_text(box))
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(box.app.screen, WordsScreen))
        painted = steps_text(box) + "".join(view.text() for view in box.app.screen.query(Words))
        assert "gpumod mode switch 'a'" in painted
        assert "\x1b" not in painted
