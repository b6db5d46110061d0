"""What is told to somebody who looks elsewhere: toasts for failures, a bell when a long switch ends."""

import pytest
from textual.widgets._toast import Toast

from gpumod_tui.core.events import SwitchEnded, SwitchStarted
from gpumod_tui.core.switch.records import SwitchError
from gpumod_tui.core.switch.results import ModeResult, Outcome
from gpumod_tui.ui.base_app import MOST_TOASTS
from gpumod_tui.ui.notifications import desktop_notice, failures
from gpumod_tui.ui.options import ViewOptions
from tests.ui.counted import CountedApp
from tests.ui.dashboard.test_screens import begin, shown
from tests.ui.played import Box, until


def test_what_fails_between_two_looks_is_told_once() -> None:
    box = Box("glm-code")
    calm = box.look()
    assert failures(None, calm) == ()
    assert failures(calm, box.look()) == ()
    box.host.die("glm-code")
    box.clock.advance(1.0)
    dead = box.look()
    (notice,) = failures(calm, dead)
    assert (notice.title, notice.text) == ("glm-code", f"failed: {dead.services[0].state.result}")
    assert failures(dead, box.look()) == ()
    assert failures(None, dead) == ()


def test_what_can_be_read_no_more_is_told_once() -> None:
    box = Box("glm-code", gpu_count=2)
    calm = box.look()
    box.host.lose_gpu(1, "GPU is lost: it fell off the bus")
    lost = box.look()
    assert [notice.title for notice in failures(calm, lost)] == ["GPU 1"]
    assert failures(lost, box.look()) == ()
    box.host.gpus.error, box.host.units.error = "the NVIDIA driver was updated", "no user bus"
    blind = box.look()
    assert [notice.title for notice in failures(lost, blind)] == ["GPUs", "units"]
    assert failures(blind, box.look()) == ()


async def test_a_failure_is_a_toast() -> None:
    box = Box("glm-code")
    async with box.app.run_test(size=(120, 40)) as pilot:
        await shown(box, pilot)
        box.host.die("glm-code")
        box.clock.advance(1.0)
        await shown(box, pilot)
        assert ("✖ glm-code", "error") in [(toast.title, toast.severity) for toast in box.app._notifications]


@pytest.mark.parametrize(
    ("seconds", "bell_after_s", "rings"), [(30.0, 10.0, True), (5.0, 10.0, False), (3000.0, 0.0, False)]
)
@pytest.mark.parametrize(("outcome", "words"), [(Outcome.DONE, "reached"), (Outcome.FAILED, "failed")])
async def test_the_bell_rings_when_a_long_switch_ends(
    seconds: float, bell_after_s: float, rings: bool, outcome: Outcome, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TMUX", "STY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM_PROGRAM", "WezTerm")
    box = Box("glm-code", options=ViewOptions(bell_after_s=bell_after_s))
    box.app = box.make(CountedApp)
    written: list[str] = []
    async with box.app.run_test(size=(80, 24)) as pilot:
        await shown(box, pilot)
        assert box.app._driver is not None
        monkeypatch.setattr(box.app._driver, "write", written.append)
        box.emit(SwitchStarted("nemotron", box.clock.time()))
        await pilot.pause()
        box.clock.advance(seconds)
        await shown(box, pilot)
        box.emit(SwitchEnded(ModeResult(outcome is Outcome.DONE, "nemotron", outcome=outcome)))
        await pilot.pause()
    text = "".join(written)
    assert text.count("\x1b]9;gpumod: Switch to nemotron: ") == rings
    assert text.replace("\x1b]9;gpumod: Switch to nemotron: " + words + "\x07", "").count("\x07") == rings


ERRORS = (SwitchError("VRAM not released: free 4139 MiB", hint="nvidia-smi"), SwitchError("and more"))


def end(box: Box, outcome: Outcome) -> None:
    box.emit(SwitchEnded(ModeResult(outcome is Outcome.DONE, "nemotron", errors=ERRORS, outcome=outcome)))


def toasts(box: Box) -> list[tuple[str, str, str]]:
    return [(toast.title, toast.message, toast.severity) for toast in box.app._notifications]


@pytest.mark.parametrize("keys", ["enter", "w", "m", "h", "question_mark", "z"])
async def test_a_switch_that_fails_out_of_sight_is_told(keys: str) -> None:
    box = Box("glm-code")
    async with box.app.run_test(size=(120, 40)) as pilot:
        await shown(box, pilot)
        await pilot.press(keys)
        await pilot.pause()
        begin(box)
        end(box, Outcome.FAILED)
        told = ("✖ Switch to nemotron", "failed: VRAM not released: free 4.0 GiB", "error")
        await until(pilot, lambda: toasts(box) == [told])


@pytest.mark.parametrize(
    ("keys", "outcome", "told"),
    [
        ("h", Outcome.DONE, []),
        ("h", Outcome.CANCELLED, [("! Switch to nemotron", "cancelled: VRAM not released: free 4.0 GiB", "warning")]),
        ("", Outcome.FAILED, []),
    ],
)
async def test_a_good_end_and_one_in_sight_are_no_toast(
    keys: str, outcome: Outcome, told: list[tuple[str, str, str]]
) -> None:
    box = Box("glm-code")
    async with box.app.run_test(size=(120, 40)) as pilot:
        await shown(box, pilot)
        await pilot.press(*keys)
        await pilot.pause()
        begin(box)
        end(box, outcome)
        board = box.app.dashboard
        await until(pilot, lambda: board.progress is not None and not board.progress.running)
        await pilot.pause()
        assert toasts(box) == told


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        ({"TERM_PROGRAM": "iTerm.app"}, True),
        ({"TERM": "xterm-kitty"}, True),
        ({"TERM": "foot"}, True),
        ({"TERM_PROGRAM": "WezTerm", "TMUX": "/tmp/tmux"}, False),
        ({"TERM_PROGRAM": "Apple_Terminal", "TERM": "xterm-256color"}, False),
        ({}, False),
    ],
)
def test_only_terminals_known_for_it_get_a_notification(environ: dict[str, str], told: bool) -> None:
    assert bool(desktop_notice("done", environ)) == told


def test_a_name_cannot_break_out_of_the_notification() -> None:
    text = desktop_notice("a\x07b\x1b]0;title\x07c", {"TERM_PROGRAM": "iTerm.app"})
    assert text.count("\x1b") == 1
    assert text.count("\x07") == 1


def test_errors_of_a_gpu_are_told_once() -> None:
    box = Box("glm-code")
    calm = box.look()
    box.host.xid(0, 79)
    box.host.world.cards[0].ecc_errors = 1
    bad = box.look()
    xid, ecc = failures(calm, bad)
    assert (xid.title, ecc.title) == ("GPU 0", "GPU 0")
    assert xid.text.endswith("Xid 79: the GPU fell off the bus: reboot")
    assert ecc.text == "1 memory error that ECC could not correct"
    assert failures(bad, box.look()) == ()


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_toasts_are_few_stand_above_the_journal_and_go_by_a_key(size: tuple[int, int]) -> None:
    box = Box("glm-code")
    async with box.app.run_test(size=size, notifications=True) as pilot:
        await shown(box, pilot)
        assert not box.app.check_action("dismiss", ())
        box.app.notify("it cannot be read", severity="error", timeout=600)
        for number in range(5):
            box.app.notify(f"{number} of many " + "very long words " * 40, timeout=600)
        await until(pilot, lambda: len(box.app.query(Toast)) == MOST_TOASTS)
        messages = [toast.message[:9] for toast in box.app._notifications]
        assert messages == ["it cannot", "4 of many"]
        await until(pilot, lambda: all(toast.region.height for toast in box.app.query(Toast)))
        assert max(toast.region.bottom for toast in box.app.query(Toast)) <= size[1] // 2 + 1
        await pilot.press("ctrl+l")
        await until(pilot, lambda: not box.app.query(Toast))
        assert not box.app.check_action("dismiss", ())
