"""A load whose asker was killed: its router alone can say what became of it, and nobody guesses meanwhile."""

from pathlib import Path

import pytest

from gpumod_tui.core.admission.commitments import ORPHAN_S
from gpumod_tui.core.admission.decide import Granted, Refused
from tests.ledger_world import DEFAULT, ROUTER, Box

OTHER = "c.service"
"""Needs 8 on the router's GPU of 22, the model 15."""
YEAR_S = 3e7


@pytest.fixture
def box(tmp_path: Path) -> Box:
    box = Box(tmp_path)
    box.start_router()
    return box


def admit_and_die(box: Box, *, sent: bool) -> None:
    guard = box.asker()
    assert isinstance(box.admission(guard).admit(ROUTER, "o"), Granted)
    if sent:
        box.load("o", box.units_by_name[ROUTER].invocation)
    box.alive.discard(guard)


def ask_for(box: Box, unit: str) -> Granted | Refused:
    return box.admission(box.asker()).admit(unit, invocation="its own")


def test_while_its_router_hangs_it_is_promised(box: Box) -> None:
    admit_and_die(box, sent=True)
    box.hangs = True
    for _ in range(3):
        verdict = ask_for(box, OTHER)
        assert isinstance(verdict, Refused)
        assert not verdict.may_pass
        box.now += YEAR_S
    box.hangs = False
    assert isinstance(ask_for(box, OTHER), Refused), "the answer is older than the load"
    box.now += ORPHAN_S
    assert isinstance(ask_for(box, OTHER), Refused)
    serving = box.serving("o")
    assert serving is not None
    box.grow(serving, 30)
    assert box.could_be_held(1) == 15


def test_one_that_was_never_sent_is_dropped_once_the_router_has_said_so_twice(box: Box) -> None:
    admit_and_die(box, sent=False)
    verdict = ask_for(box, OTHER)
    assert isinstance(verdict, Refused)
    assert verdict.may_pass, "who waits will have it"
    box.now += ORPHAN_S - 0.1
    assert isinstance(ask_for(box, OTHER), Refused)
    box.now += 0.1
    assert isinstance(ask_for(box, OTHER), Granted)


def test_a_clock_that_is_set_makes_no_time_pass(box: Box) -> None:
    admit_and_die(box, sent=False)
    assert isinstance(ask_for(box, OTHER), Refused)
    for seconds in (YEAR_S, -YEAR_S):
        box.set_by = seconds
        assert isinstance(ask_for(box, OTHER), Refused)
    box.now += ORPHAN_S
    assert isinstance(ask_for(box, OTHER), Granted)


def test_a_switch_asks_too(box: Box) -> None:
    admit_and_die(box, sent=False)
    door = box.admission(box.asker())
    wanted = [(OTHER, "", {0: 8, 1: 8})]
    assert door.promise("s", wanted, ()) is not None
    box.now += ORPHAN_S
    assert door.promise("s", wanted, ()) is None


def test_it_ends_with_its_router(box: Box) -> None:
    admit_and_die(box, sent=True)
    box.hangs = True
    box.die(ROUTER, restarts=True)
    assert isinstance(ask_for(box, OTHER), Granted)


def test_a_load_that_a_switch_asked_a_hanging_router_for_outlives_the_switch(box: Box) -> None:
    switch = box.asker()
    door = box.admission(switch)
    assert door.promise("s", [(ROUTER, DEFAULT, {1: 9}), ("b.service", "", {0: 13})], ()) is None
    assert isinstance(door.admit(ROUTER, DEFAULT, switch="s"), Granted)
    box.load(DEFAULT, box.units_by_name[ROUTER].invocation)
    box.hangs = True
    door.end_switch("s")
    (left,) = [entry for entry in door.take_stock()[0].commitments if not entry.is_bound]
    assert (left.unit, left.model) == (ROUTER, DEFAULT), "what was only promised is void"
    assert isinstance(box.admission(box.asker()).admit(ROUTER, "o"), Refused)
    box.hangs = False
    box.land()
    assert [entry.model for entry in door.take_stock()[0].commitments if entry.process] == [DEFAULT]


def test_after_the_ledger_was_lost_every_router_has_to_answer_first(box: Box) -> None:
    guard = box.admission(box.asker())
    assert isinstance(guard.admit(ROUTER, "o"), Granted)
    box.load("o", box.units_by_name[ROUTER].invocation)
    box.hangs = True
    box.damage("lost")
    soon = ask_for(box, OTHER)
    assert isinstance(soon, Refused)
    assert soon.may_pass
    box.now += YEAR_S
    verdict = ask_for(box, OTHER)
    assert isinstance(verdict, Refused)
    assert not verdict.may_pass
    assert "r does not answer" in str(verdict)
    assert "gpumod service stop r" in str(verdict)
    refused = guard.promise("s", [(OTHER, "", {0: 8, 1: 8})], ())
    assert refused is not None
    assert "r does not answer" in str(refused)
    assert guard.promise("s", [(OTHER, "", {0: 8, 1: 8})], (ROUTER,)) is None, "the switch stops it first"
    guard.end_switch("s")
    box.hangs = False
    box.land()
    assert isinstance(ask_for(box, OTHER), Refused), "it was on its way"
    box.end(next(one for one in box.processes.values() if one.model))
    assert isinstance(ask_for(box, OTHER), Granted)


def test_a_router_that_asks_to_start_need_not_answer_for_itself(box: Box) -> None:
    box.damage("lost")
    box.admission(box.asker()).take_stock()
    box.die(ROUTER, restarts=False)
    box.now += YEAR_S
    box.begin(ROUTER)
    box.begin("a.service")
    assert box.ask("a.service") == "yes"
