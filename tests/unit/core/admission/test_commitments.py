"""What was promised holds as long as what it was promised to, and counts once."""

from dataclasses import replace

from gpumod_tui.core.admission.commitments import (
    ORPHAN_S,
    REFUSALS_KEPT,
    Asker,
    Commitment,
    Found,
    LedgerState,
    LiveModel,
    LiveUnit,
    Refusal,
    open_bytes,
    settle,
    without_orphans,
)

ASKER, GUARD, CHILD = Asker(7, 70), Asker(8, 80), Asker(9, 90)
NOW = 1000.0
FULL = {0: 20}
OWN = Commitment("own", "a.service", "", {0: 10}, ASKER, NOW, invocation="i1")
PROMISE = Commitment("promise", "a.service", "", {0: 10}, ASKER, NOW, switch="s1")
LOAD = Commitment("load", "r.service", "m", {0: 9}, GUARD, NOW)
A = LiveUnit("a.service", "i1", admitted=True)
ROUTER = LiveUnit("r.service", "r1", admitted=True)
ROUTERS = Commitment("router", "r.service", "", {}, None, NOW, invocation="r1")


def settled(
    *entries: Commitment,
    live: tuple[LiveUnit, ...] = (),
    alive: tuple[Asker, ...] = (ASKER, GUARD, CHILD),
    now: float = NOW,
    known: bool = True,
    full: dict[int, int] | None = FULL,
) -> tuple[Commitment, ...]:
    state = LedgerState(entries, known=known)
    found = None if full is None else Found(full)
    return settle(
        state, {unit.unit: unit for unit in live}, alive.__contains__, lambda _u, _m: found, now, now
    ).commitments


def test_time_alone_never_ends_a_commitment() -> None:
    year = NOW + 3e7
    assert settled(OWN, live=(A,), now=year) == (OWN,)
    assert settled(PROMISE, now=year) == (PROMISE,)
    bound = replace(LOAD, process=CHILD)
    assert settled(bound, ROUTERS, live=(ROUTER,), now=year)[0] == bound


def test_who_asked_holds_it_only_until_the_unit_or_the_model_is_there() -> None:
    assert settled(PROMISE, alive=()) == ()
    assert settled(OWN, live=(A,), alive=()) == (OWN,)
    serving = replace(ROUTER, models=(LiveModel("m", CHILD),))
    (bound, _) = settled(LOAD, ROUTERS, live=(serving,))
    assert bound.process == CHILD
    assert settled(bound, ROUTERS, live=(serving,), alive=(CHILD,)) == (bound, ROUTERS)


def test_a_promise_of_a_dead_switch_is_void_and_a_pid_used_again_is_somebody_else() -> None:
    assert settled(PROMISE, alive=(Asker(ASKER.pid, ASKER.start + 1),)) == ()


def test_a_load_whose_asker_died_holds_until_its_router_ends_or_answers_without_it() -> None:
    (orphan, _) = settled(LOAD, ROUTERS, live=(ROUTER,), alive=())
    assert orphan.is_orphan
    assert settled(orphan, ROUTERS, live=(ROUTER,), alive=(), now=NOW + 3e7)[0] == orphan
    assert settled(orphan, alive=()) == ()
    assert settled(replace(orphan, invocation="r0"), ROUTERS, live=(ROUTER,), alive=()) == (ROUTERS,)
    serving = replace(ROUTER, models=(LiveModel("m", CHILD),))
    assert settled(orphan, ROUTERS, live=(serving,), alive=(CHILD,))[0].process == CHILD


def test_one_answer_without_it_is_not_enough_for_it_may_be_on_its_way() -> None:
    state = LedgerState((replace(LOAD, asker=None), OWN, replace(LOAD, id="asked")))
    absent = {"load": True, "asked": True, OWN.id: True}
    once = without_orphans(state, absent, NOW)
    assert [one.absent_since for one in once.commitments] == [NOW, None, None]
    assert without_orphans(once, absent, NOW + ORPHAN_S - 0.1) == once
    assert without_orphans(once, {}, NOW + 3e7) == once, "a router that does not answer ends nothing"
    assert without_orphans(once, {"load": False}, NOW + 1) == state, "it has arrived"
    assert without_orphans(once, absent, NOW + ORPHAN_S).commitments == state.commitments[1:]


def test_a_unit_ends_with_its_invocation_and_a_model_with_its_process() -> None:
    assert settled(OWN) == ()
    restarted = replace(A, invocation="i2", admitted=False)
    assert settled(OWN, live=(restarted,)) == ()
    serving = replace(LOAD, process=CHILD)
    assert settled(serving, ROUTERS, live=(ROUTER,), alive=(GUARD,)) == (ROUTERS,)


def test_a_stopping_unit_keeps_its_commitment() -> None:
    assert settled(OWN, live=(replace(A, stopping=True),)) == (OWN,)


def test_what_runs_without_an_entry_is_found_at_its_full_need() -> None:
    serving = replace(ROUTER, models=(LiveModel("m", CHILD),))
    found = settled(live=(A, serving))
    assert [(one.unit, one.model, one.needs, one.asker) for one in found] == [
        ("a.service", "", FULL, None),
        ("r.service", "", FULL, None),
        ("r.service", "m", FULL, None),
    ]
    assert settled(*found, live=(A, serving)) == found


def test_what_cannot_be_known_now_is_not_written_down_as_nothing() -> None:
    assert settled(live=(A,), full=None) == ()


def test_a_unit_in_its_exec_condition_counts_only_where_the_ledger_was_lost() -> None:
    asking = replace(A, admitted=False)
    assert settled(live=(asking,)) == ()
    assert [one.unit for one in settled(live=(asking,), known=False)] == ["a.service"]
    assert settled(OWN, live=(asking,)) == (OWN,), "granted, and systemd has not gone on yet"


def test_a_lost_ledger_is_doubted_only_beside_running_units() -> None:
    def doubted(*live: LiveUnit) -> LedgerState:
        units = {unit.unit: unit for unit in live}
        return settle(LedgerState(), units, lambda _asker: True, lambda _u, _m: Found(FULL), NOW, 7.0)

    assert doubted().doubted_at is None
    assert doubted(replace(A, admitted=False)).doubted_at is None
    state = doubted(A)
    assert state.known
    assert state.doubted_at == 7.0


def test_a_doubt_that_an_earlier_boot_left_is_of_now() -> None:
    left = LedgerState(known=True, doubted_at=9000.0)
    assert settle(left, {}, lambda _asker: True, lambda _u, _m: None, NOW, 7.0).doubted_at == 7.0
    left = LedgerState(known=True, doubted_at=5.0)
    assert settle(left, {}, lambda _asker: True, lambda _u, _m: None, NOW, 7.0).doubted_at == 5.0


def test_a_promise_is_bound_to_the_unit_that_came_up_under_it_without_a_condition() -> None:
    assert settled(PROMISE, live=(A,)) == (replace(PROMISE, invocation="i1"),)
    # Not where somebody else's entry holds that invocation, nor to one that is on its way out or has not answered.
    assert settled(OWN, PROMISE, live=(A,)) == (OWN, PROMISE)
    assert PROMISE in settled(PROMISE, live=(replace(A, stopping=True),))
    assert settled(PROMISE, live=(replace(A, admitted=False),)) == (PROMISE,)


def test_the_open_part_is_need_less_measured_also_after_ready() -> None:
    def part(measured: dict[int, int | None]) -> int:
        return open_bytes((OWN,), {"a.service": replace(A, measured=measured)}, 0)

    assert part({}) == 10
    assert part({0: 4}) == 6
    assert part({0: 10}) == 0
    assert part({0: 12}) == 0, "more than its need is not room for others"
    assert part({0: None}) == 10, "what NVML does not tell is not there"
    assert open_bytes((OWN,), {}, 0) == 10
    assert open_bytes((OWN,), {"a.service": replace(A, measured={0: 4})}, 1) == 0


def test_memory_of_another_invocation_or_process_is_not_its_own() -> None:
    assert open_bytes((OWN,), {"a.service": replace(A, invocation="i2", measured={0: 9})}, 0) == 10
    other = replace(ROUTER, measured={0: 5}, models=(LiveModel("m", ASKER, {0: 5}),))
    assert open_bytes((replace(LOAD, process=CHILD),), {"r.service": other}, 0) == 9
    assert open_bytes((LOAD,), {"r.service": other}, 0) == 9


def test_the_newest_refusals_are_kept() -> None:
    state = LedgerState()
    for number in range(REFUSALS_KEPT + 5):
        state = state.with_refusal(Refusal("a.service", "", str(number), NOW))
    assert [one.message for one in state.refusals] == [str(number) for number in range(5, REFUSALS_KEPT + 5)]
