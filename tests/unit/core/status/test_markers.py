"""What stands on the time axis: each event once, whoever tells it."""

from dataclasses import replace

from gpumod_tui.core.admission.commitments import Refusal
from gpumod_tui.core.events import SwitchEnded, SwitchSeen, SwitchStarted
from gpumod_tui.core.models import ActiveState, Snapshot
from gpumod_tui.core.status.markers import Mark, MarkBook, MarkKind
from gpumod_tui.core.status.mode_status import Recorded
from gpumod_tui.core.status.poller import Poller
from gpumod_tui.core.status.snapshot import take_snapshot
from gpumod_tui.core.switch.records import SwitchRecord
from gpumod_tui.core.switch.results import ModeResult, Outcome
from gpumod_tui.demo.clock import PlayedClock
from gpumod_tui.demo.host import DemoHost


def look(host: DemoHost) -> Snapshot:
    return take_snapshot(host, Recorded)


def kinds(book: MarkBook) -> list[tuple[MarkKind, str]]:
    return [(mark.kind, mark.words) for mark in book.marks]


def test_a_switch_is_marked_where_it_began_and_where_it_ended() -> None:
    book = MarkBook()
    for place, outcome in enumerate(Outcome):
        book.follow(SwitchStarted("code", 100.0 * place), 0.0)
        book.follow(SwitchEnded(ModeResult(outcome is Outcome.DONE, "code", outcome=outcome)), 100.0 * place + 30)
    ends = [(mark.at, mark.kind, mark.words) for mark in book.marks if mark.kind is not MarkKind.BEGAN]
    assert ends == [
        (30.0, MarkKind.ENDED, "code"),
        (130.0, MarkKind.FAILED, "code"),
        (230.0, MarkKind.REFUSED, "code"),
        (430.0, MarkKind.CANCELLED, "code"),
    ]
    assert [mark.at for mark in book.marks if mark.kind is MarkKind.BEGAN] == [0, 100, 200, 300, 400, 500]


def test_a_switch_of_another_process_is_marked_once() -> None:
    book = MarkBook()
    record = SwitchRecord("x", "service start glm-code", 4711, 1, 50.0)
    for _ in range(3):
        book.follow(SwitchSeen(record, running=True), 51.0)
    ended = replace(record, outcome=str(Outcome.DONE), ended_at=62.0)
    for now in (63.0, 64.0):
        book.follow(SwitchSeen(ended, running=False), now)
    assert book.marks == (
        Mark(50.0, MarkKind.BEGAN, "start glm-code"),
        Mark(62.0, MarkKind.ENDED, "start glm-code"),
    )


def test_an_end_that_only_a_newer_gpumod_knows_is_marked_as_a_failure() -> None:
    book = MarkBook()
    record = SwitchRecord("x", "code", 4711, 1, 50.0, outcome="something newer", ended_at=62.0)
    book.follow(SwitchSeen(record, running=False), 63.0)
    assert kinds(book) == [(MarkKind.BEGAN, "code"), (MarkKind.FAILED, "code")]


def test_a_unit_that_fails_is_marked_each_time_at_the_time_of_its_failure() -> None:
    clock, book = PlayedClock(), MarkBook()
    host = DemoHost(clock, running=["glm-code"])
    book.take(look(host))
    assert not kinds(book)
    host.die("glm-code")
    failed_at = host.clock.time()
    clock.advance(3.0)
    book.take(look(host))
    book.take(look(host))
    assert list(book.marks) == [Mark(failed_at, MarkKind.FAILED, "glm-code")]
    host.units.start("glm-code.service")
    clock.advance(30.0)
    book.take(look(host))
    host.die("glm-code")
    book.take(look(host))
    assert kinds(book) == [(MarkKind.FAILED, "glm-code")] * 2


def test_a_failure_whose_time_nobody_tells_is_marked_once() -> None:
    host, book = DemoHost(), MarkBook()
    snapshot = look(host)
    glm = snapshot.services[0]
    failed = replace(glm, state=replace(glm.state, active_state=ActiveState.FAILED, since=None))
    for seconds in (0, 10, 20):
        book.take(replace(snapshot, at=snapshot.at + seconds, services=(failed,)))
    assert [mark.at for mark in book.marks] == [snapshot.at]


def test_a_restart_by_systemd_is_marked() -> None:
    host, book = DemoHost(running=["glm-code"]), MarkBook()
    snapshot = look(host)
    book.take(snapshot)
    glm = snapshot.services[0]
    again = replace(glm, state=replace(glm.state, restarts=1))
    book.take(replace(snapshot, services=(again, *snapshot.services[1:])))
    assert kinds(book) == [(MarkKind.FAILED, "glm-code restarts")]


def test_refused_loads_are_marked_once_and_by_model() -> None:
    host, book = DemoHost(), MarkBook()
    first = Refusal("glm-code.service", "GLM", "GPU 0 lacks 1 GiB", 100.0)
    second = Refusal("nemotron-3-nano.service", "", "GPU 0 lacks 2 GiB", 130.0)
    snapshot = look(host)
    book.take(replace(snapshot, refusals=(first,)))
    book.take(replace(snapshot, refusals=(first, second)))
    book.take(replace(snapshot, refusals=(second,)))
    assert kinds(book) == [(MarkKind.REFUSED, "GLM"), (MarkKind.REFUSED, "nemotron-3-nano")]


def test_a_refusal_at_the_door_reaches_the_next_snapshot() -> None:
    host = DemoHost(running=["glm-code"])
    host.ledger.write(host.ledger.state.with_refusal(Refusal("nemotron-3-nano.service", "", "no room", 5.0)))
    poller, seen = Poller(host, Recorded), list[Snapshot]()
    poller._callback = seen.append
    poller._look_at_refusals()
    poller._look_at_refusals()
    assert [refusal.message for snapshot in seen for refusal in snapshot.refusals] == ["no room"]


def test_marks_are_bounded() -> None:
    book = MarkBook()
    for number in range(1000):
        book.note(Mark(float(number * 10), MarkKind.BEGAN, "code"))
    assert len(book.marks) == 200
    assert book.marks[-1].at == 9990.0
