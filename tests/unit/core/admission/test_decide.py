"""The one decision, and the door that makes it: what does not fit, or is not known to fit, is refused with numbers."""

import json
from pathlib import Path

import pytest

from gpumod_tui.adapters.files.ledger import FileLedger
from gpumod_tui.adapters.proc.processes import ProcFs
from gpumod_tui.core.admission.commitments import Asker, Commitment, LiveUnit
from gpumod_tui.core.admission.decide import Granted, Refused, admit
from gpumod_tui.core.errors import StateUnavailable, SystemdUnavailable
from gpumod_tui.core.models import ActiveState, GpuReading, GpuSample, Holder, Service
from gpumod_tui.core.text import MIB
from gpumod_tui.core.vram.need import Need, UnknownNeed
from gpumod_tui.guard.http import responses as answers
from tests.ledger_world import DEFAULT, NEEDS, ROUTER, Box, Process

ASKER = Asker(1, 1)
BOTH = Commitment("c", "c.service", "", {0: 8, 1: 8}, ASKER, 0.0)
OTHER = Commitment("o", "o.service", "", {1: 5}, ASKER, 0.0, invocation="i")


def reading(*free: int | None, error: str | None = None) -> GpuReading:
    return GpuReading(
        0.0, "1", tuple(GpuSample(n, total_bytes=24, free_bytes=f, error=error) for n, f in enumerate(free))
    )


def decide(
    now: GpuReading | None,
    asked: Commitment = BOTH,
    others: tuple[Commitment, ...] = (),
    live: dict[str, LiveUnit] | None = None,
    holders: tuple[Holder, ...] = (),
) -> Granted | Refused:
    return admit(asked, "x", others, live or {}, now, holders, margin_bytes=1)


def refused(verdict: Granted | Refused | None) -> Refused:
    assert isinstance(verdict, Refused)
    return verdict


class TestDecision:
    def test_it_fits_to_the_byte_on_every_gpu_or_on_none(self) -> None:
        assert decide(reading(9, 9)) == Granted(BOTH)
        assert refused(decide(reading(9, 8))).gpu == 1
        assert refused(decide(reading(8, 9))).gpu == 0

    def test_the_refusal_tells_the_gpu_that_is_shortest(self) -> None:
        verdict = refused(decide(reading(8, 3)))
        assert (verdict.gpu, verdict.need_bytes, verdict.margin_bytes, verdict.free_bytes) == (1, 8, 1, 3)
        assert verdict.short_bytes == 6

    def test_what_others_were_promised_and_have_not_taken_is_not_free(self) -> None:
        assert decide(reading(9, 14), others=(OTHER,)) == Granted(BOTH)
        assert refused(decide(reading(9, 13), others=(OTHER,))).promised_bytes == 5
        taken = {"o.service": LiveUnit("o.service", "i", admitted=True, measured={1: 4})}
        assert decide(reading(9, 10), others=(OTHER,), live=taken) == Granted(BOTH)

    def test_whose_promises_they_are_is_told_the_three_largest_first(self) -> None:
        others = [
            Commitment(f"o{mib}", "o.service", f"m{mib}" if mib else "", {0: (mib or 9) * MIB}, ASKER, 0.0)
            for mib in (0, 3, 7, 2, 5)
        ]
        now = GpuReading(0.0, "1", (GpuSample(0, total_bytes=24 * MIB, free_bytes=20 * MIB),))
        asked = Commitment("c", "c.service", "", {0: 8 * MIB}, ASKER, 0.0)
        verdict = refused(admit(asked, "x", others, {}, now, (), margin_bytes=MIB))
        assert " + 26 MiB promised to others (o 9 MiB, m7 7 MiB, m5 5 MiB and 2 more) on GPU 0, 20" in str(verdict)
        told = json.loads(answers.refusal(verdict, advice="wait"))["error"]
        assert "(o 9 MiB, m7 7 MiB, m5 5 MiB and 2 more)" in told["message"]
        assert told["promised_mib"] == sum(one["mib"] for one in told["promised"]) == 26
        assert told["promised"][:2] == [
            {"unit": "o.service", "model": None, "mib": 9},
            {"unit": "o.service", "model": "m7", "mib": 7},
        ]

    def test_unknown_free_memory_is_refused(self) -> None:
        assert "unknown" in str(decide(None))
        assert refused(decide(reading(9, None))).gpu == 1
        assert refused(decide(reading(9))).gpu == 1
        assert "fell off" in str(decide(reading(9, 9, error="fell off the bus")))

    def test_what_needs_no_memory_needs_no_knowledge(self) -> None:
        nothing = Commitment("n", "n.service", "", {0: 0}, ASKER, 0.0)
        assert decide(None, nothing) == Granted(nothing)

    def test_memory_of_a_stopping_unit_or_of_nobody_is_not_free_but_worth_waiting_for(self) -> None:
        stopping = {"o.service": LiveUnit("o.service", "i", admitted=True, measured={0: 20}, stopping=True)}
        holder = Holder(5, 0, 20, state="S", unit="o.service")
        assert refused(decide(reading(4, 9), live=stopping, holders=(holder,))).may_pass
        assert refused(decide(reading(4, 9))).may_pass
        assert refused(decide(reading(4, 9), holders=(Holder(5, 0, 20, state="Z"),))).may_pass
        assert not refused(decide(reading(4, 9), holders=(Holder(5, 0, 20, state="S"),))).may_pass

    def test_its_words_hold_need_free_short_and_holders(self) -> None:
        asked = Commitment("c", "c.service", "", {0: 8 * MIB}, ASKER, 0.0)
        holder = Holder(5, 0, 3 * MIB, command="python3", state="S")
        now = GpuReading(0.0, "1", (GpuSample(0, total_bytes=24 * MIB, free_bytes=2 * MIB),))
        verdict = admit(asked, "glm", (), {}, now, (holder,), margin_bytes=MIB)
        assert str(verdict) == (
            "insufficient VRAM: glm needs 8 MiB + 1 MiB margin on GPU 0, 2 MiB free, short by 7 MiB;"
            " held by python3 pid 5 (no unit) 3 MiB"
        )


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path / "run")


def started(box: Box, *names: str) -> None:
    for name in names:
        box.begin(name)
        assert box.ask(name) == "yes"
        box.proceed(name)


def commitments(box: Box) -> list[Commitment]:
    return list(box.admission(box.asker()).take_stock()[0].commitments)


class TestDoor:
    def test_what_cannot_be_asked_is_named_and_does_not_read_as_a_shortage(
        self, box: Box, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def unlocked(*_: object) -> None:
            raise StateUnavailable("/run/ledger.lock: Permission denied", hint="correct its owner")

        def silent() -> None:
            raise SystemdUnavailable("the systemd user manager cannot be asked: no bus", hint="log in again")

        door = box.admission(box.asker())
        box.begin("a.service")
        box.nvml_error = "GPU is lost"
        assert str(door.admit("a.service")).startswith("a is not admitted: free memory is unknown: GPU is lost")
        monkeypatch.setattr(box, "managed", silent)
        said = "a is not admitted: the systemd user manager cannot be asked: no bus; log in again"
        verdict = refused(door.admit("a.service"))
        assert str(verdict) == said
        told = json.loads(answers.refusal(verdict, advice="unload something"))["error"]
        assert (told["type"], told["message"]) == ("insufficient_vram", said)
        monkeypatch.setattr(FileLedger, "locked", unlocked)
        assert str(door.admit("a.service")) == (
            "a is not admitted: what was promised to others is unknown: /run/ledger.lock: Permission denied;"
            " correct its owner"
        )

    def test_of_two_in_their_exec_conditions_the_first_to_answer_wins_and_never_none(self, box: Box) -> None:
        assert commitments(box) == []
        box.begin("a.service")
        box.begin("b.service")
        assert (box.ask("a.service"), box.ask("b.service")) == ("yes", "no")

    def test_also_where_the_ledger_was_lost_exactly_one_wins(self, box: Box) -> None:
        box.begin("a.service")
        box.begin("b.service")
        box.begin("c.service")
        box.damage("lost")
        answers = [box.ask(name) for name in ("a.service", "b.service", "c.service")]
        assert "yes" in answers
        assert answers != ["yes", "yes", "yes"]

    def test_a_switchs_promise_is_adopted_by_the_units_condition_and_counted_once(self, box: Box) -> None:
        switch = box.admission(box.asker())
        assert switch.promise("s", [("b.service", "", NEEDS["b.service", ""])], ()) is None
        started(box, "b.service")
        (entry,) = commitments(box)
        assert (entry.unit, entry.invocation) == ("b.service", box.units_by_name["b.service"].invocation)
        switch.end_switch("s")
        assert commitments(box) == [entry]

    def test_a_switchs_promise_keeps_others_out_until_it_ends_or_dies(self, box: Box) -> None:
        pid = box.asker()
        assert box.admission(pid).promise("s", [("b.service", "", NEEDS["b.service", ""])], ()) is None
        box.begin("a.service")
        assert box.ask("a.service") == "no"
        box.alive.discard(pid)
        assert box.ask("a.service") == "yes"

    def test_a_model_that_is_on_its_way_is_not_promised_again(self, box: Box) -> None:
        started(box, ROUTER)
        guard = box.admission(box.asker())
        assert isinstance(guard.admit(ROUTER, DEFAULT), Granted)
        wanted = [(ROUTER, DEFAULT, NEEDS[ROUTER, DEFAULT])]
        assert box.admission(box.asker()).promise("s", wanted, ()) is None
        assert [entry.model for entry in commitments(box)] == ["", DEFAULT]

    def test_the_guard_adopts_a_switchs_promise_of_the_default_model(self, box: Box) -> None:
        started(box, ROUTER)
        switch = box.admission(box.asker())
        assert switch.promise("s", [(ROUTER, DEFAULT, NEEDS[ROUTER, DEFAULT])], ()) is None
        assert isinstance(box.admission(box.asker()).admit(ROUTER, DEFAULT), Granted)
        switch.end_switch("s")
        assert [entry.model for entry in commitments(box)] == ["", DEFAULT]

    def test_a_refused_second_request_does_not_void_a_load_that_is_under_way(self, box: Box) -> None:
        started(box, ROUTER)
        assert isinstance(box.admission(box.asker()).admit(ROUTER, DEFAULT), Granted)
        box.nvml_error = "GPU is lost"
        assert isinstance(box.admission(box.asker()).admit(ROUTER, DEFAULT), Refused)
        box.nvml_error = ""
        assert [entry.model for entry in commitments(box)] == ["", DEFAULT]

    def test_a_wake_needs_what_was_given_back_and_nothing_twice(self, box: Box) -> None:
        started(box, ROUTER)
        guard = box.admission(box.asker())
        assert isinstance(guard.admit(ROUTER, DEFAULT), Granted)
        model = box.spawn(ROUTER, NEEDS[ROUTER, DEFAULT], DEFAULT)
        box.grow(model, 30)
        box.sleep(model, 1)
        box.release(1, 30)
        foreign = box.spawn(None, {1: 14})
        box.grow(foreign, 30)
        verdict = refused(guard.admit(ROUTER, DEFAULT))
        assert (verdict.need_bytes, verdict.free_bytes, verdict.short_bytes) == (8, 8, 1)
        box.end(foreign)
        box.release(1, 1)
        assert refused(guard.admit(ROUTER, "o")).promised_bytes == 8, "it may be woken at any time"
        box.release(1, 30)
        assert isinstance(guard.admit(ROUTER, DEFAULT), Granted)

    def test_memory_that_is_not_told_by_process_is_promised_in_full(self, box: Box) -> None:
        started(box, "a.service")
        for process in box.processes.values():
            box.grow(process, 30)
        box.begin("c.service")
        box.tells_processes = False
        assert box.ask("c.service") == "no"
        box.tells_processes = True
        assert box.ask("c.service") == "yes"

    def test_a_restart_is_a_new_invocation_and_waits_for_its_own_memory(self, box: Box) -> None:
        started(box, "b.service")
        for process in box.processes.values():
            box.grow(process, 30)
        box.die("b.service", restarts=True)
        box.begin("b.service")
        asked = box.units_by_name["b.service"]
        verdict = refused(box.admission(box.asker()).admit("b.service", invocation=asked.invocation))
        assert verdict.may_pass
        box.release(0, 30)
        assert box.ask("b.service") == "yes"
        assert [entry.invocation for entry in commitments(box)] == [asked.invocation]

    def test_a_queued_start_does_not_take_the_promise_to_its_last_invocation(self, box: Box) -> None:
        started(box, "b.service")
        box.die("b.service", restarts=False)
        assert box.admission(box.asker()).promise("s", [("b.service", "", NEEDS["b.service", ""])], ()) is None
        box.queue("b.service")
        commitments(box)
        box.begin("b.service")
        assert [(entry.switch, entry.invocation) for entry in commitments(box)] == [("s", "")]

    def test_a_unit_that_waits_for_its_restart_was_granted_nothing_by_that(self, box: Box) -> None:
        assert commitments(box) == []
        waiting = box.units_by_name["a.service"]
        waiting.active, waiting.sub, waiting.invocation = (
            ActiveState.ACTIVATING,
            "auto-restart",
            "killed while it asked",
        )
        assert commitments(box) == []

    @pytest.mark.parametrize("how", ["lost", "cut", "overwritten"])
    def test_a_damaged_ledger_is_rebuilt_at_full_need_and_reported(self, box: Box, how: str) -> None:
        started(box, "a.service", ROUTER)
        box.damage(how)
        box.admission(box.asker()).refusals()
        door = box.admission(box.asker())
        state, _, lost = door.take_stock()
        assert [(entry.unit, entry.needs) for entry in state.commitments] == [
            ("a.service", {0: 10}),
            (ROUTER, {1: 0}),
        ]
        assert door.take_news() == (lost,)
        assert ("missing while a, r ran" if how == "lost" else "set aside as ledger.damaged") in lost
        assert door.take_stock()[2] == box.admission(box.asker()).take_stock()[2] == ""
        assert door.take_news() == ()
        assert (box.runtime / "ledger.damaged").exists() is (how != "lost")
        box.begin("c.service")
        assert box.ask("c.service") == "no", "a load may be on its way that the ledger does not know any more"
        box.now += 10
        assert box.ask("c.service") == "yes"

    def test_memory_of_another_users_unit_of_the_same_name_is_no_credit(
        self, box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        theirs = box.spawn(None, {0: 13})
        box.grow(theirs, 13)
        folder = tmp_path / str(theirs.pid)
        folder.mkdir()
        (folder / "cgroup").write_text("0::/user.slice/user-1001.slice/user@1001.service/gpumod.slice/b.service\n")
        (folder / "cmdline").write_bytes(b"server\0")
        (folder / "stat").write_text(f"{theirs.pid} (server) S 1")
        ours = "/user.slice/user-1000.slice/user@1000.service"
        monkeypatch.setattr(box, "describe", ProcFs(tmp_path, lambda: ours).describe)
        box.begin("b.service")
        verdict = refused(
            box.admission(box.asker()).admit("b.service", invocation=box.units_by_name["b.service"].invocation)
        )
        assert (verdict.need_bytes, verdict.free_bytes) == (13, 10)
        assert "b.service of " in str(verdict)
        assert "not ours" in str(verdict)
        assert not verdict.may_pass

    @pytest.mark.parametrize("why", ["its preset is broken", ""])
    def test_while_a_gpu_has_an_error_what_runs_on_another_one_and_is_unknown_refuses_all_the_same(
        self, box: Box, why: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        started(box, "a.service")
        box.damage("lost")
        box.failed.add(1)
        needs = box.model_need

        def need(service: Service, model: str, reading: GpuReading | None) -> Need | UnknownNeed:
            return UnknownNeed(why, "") if why and service.id == "a" else needs(service, model, reading)

        monkeypatch.setattr(box, "model_need", need)
        box.begin("b.service")
        box.now += 10
        verdict = box.admission(box.asker()).admit("b.service", invocation=box.units_by_name["b.service"].invocation)
        wanted = [("b.service", "", NEEDS["b.service", ""])]
        promise = box.admission(box.asker()).promise
        if why:
            assert "a.service runs, and what it may still take is unknown (its preset is broken" in str(verdict)
            assert "a.service runs" in str(promise("s", wanted, ()))
            assert promise("s", wanted, ["a.service"]) is None, "it is stopped first"
        else:
            assert refused(verdict).promised_bytes == 10
        assert not [entry for entry in commitments(box) if entry.unknown], "asked again when the GPU is back"

    def test_what_the_last_invocation_left_behind_is_no_credit_of_the_next_one(self, box: Box) -> None:
        started(box, "b.service")
        left = box.of_unit("b.service")
        box.grow(left[0], 13)
        box.die("b.service", restarts=False, leaves=left)
        box.begin("b.service")
        asked = box.units_by_name["b.service"]
        verdict = refused(box.admission(box.asker()).admit("b.service", invocation=asked.invocation))
        assert (verdict.need_bytes, verdict.free_bytes) == (13, 10)
        assert [holder.pid for holder in verdict.holders] == [left[0].pid]
        assert not verdict.may_pass, "nobody knows when it ends"

    def test_nor_once_it_runs(self, box: Box) -> None:
        started(box, "a.service")
        left = box.of_unit("a.service")
        box.grow(left[0], 10)
        box.die("a.service", restarts=False, leaves=left)
        started(box, "a.service")
        box.begin("c.service")
        invocation = box.units_by_name["c.service"].invocation
        verdict = refused(box.admission(box.asker()).admit("c.service", invocation=invocation))
        assert (verdict.free_bytes, verdict.promised_bytes) == (13, 10)
        box.grow(box.of_unit("a.service")[1], 4)
        verdict = refused(box.admission(box.asker()).admit("c.service", invocation=invocation))
        assert (verdict.free_bytes, verdict.promised_bytes) == (9, 6), "what it takes itself is"

    def test_a_condition_is_judged_by_its_own_environment_and_not_by_what_was_left_behind(self, box: Box) -> None:
        started(box, "a.service")
        box.die("a.service", restarts=False, leaves=box.of_unit("a.service"))
        box.begin("a.service")
        look = box.admission(box.asker()).take_stock()[1]
        assert look.live["a.service"].pid == box.units_by_name["a.service"].asking

    def left_by_its_router(self, box: Box, state: str = "S") -> Process:
        """A model's process, as large as it gets, whose router has ended and runs anew."""
        started(box, ROUTER)
        box.load_default()
        old = box.serving(DEFAULT)
        assert old is not None
        box.grow(old, 9)
        commitments(box)
        old.state = state
        box.die(ROUTER, restarts=False, leaves=[old])
        started(box, ROUTER)
        return old

    @pytest.mark.parametrize("state", ["S", "D"])
    def test_a_load_is_not_credited_with_a_process_of_the_model_that_outlived_its_router(
        self, box: Box, state: str
    ) -> None:
        old = self.left_by_its_router(box, state)
        box.grow(box.spawn(None, {1: 5}), 5)
        guard = box.admission(box.asker())
        verdict = refused(guard.admit(ROUTER, DEFAULT))
        assert (verdict.need_bytes, verdict.free_bytes) == (9, 9)
        box.processes.popitem()
        granted = guard.admit(ROUTER, DEFAULT)
        assert isinstance(granted, Granted)
        box.load(DEFAULT, box.units_by_name[ROUTER].invocation)
        assert guard.keep(granted.commitment)
        box.land()
        new = box.serving(DEFAULT)
        assert new is not None
        bound = {entry.process.pid for entry in commitments(box) if entry.process}
        assert bound == {old.pid, new.pid}
        assert not guard.keep(granted.commitment)

    def test_a_switch_promises_the_model_that_another_process_still_has_from_before(self, box: Box) -> None:
        self.left_by_its_router(box)
        wanted = [(ROUTER, DEFAULT, NEEDS[ROUTER, DEFAULT])]
        assert box.admission(box.asker()).promise("s", wanted, ()) is None
        assert [entry.switch for entry in commitments(box) if entry.model] == ["", "s"]

    def test_unloading_a_model_does_not_make_room_of_what_outlived_its_router(self, box: Box) -> None:
        self.left_by_its_router(box)
        box.load_default()
        new = box.serving(DEFAULT)
        assert new is not None
        box.grow(new, 4)
        door = box.admission(box.asker())
        assert not door.would_admit(ROUTER, "o", without=[DEFAULT]), "14 of 15"
        box.end(box.stuck()[0])
        box.release(1, 9)
        assert door.would_admit(ROUTER, "o", without=[DEFAULT])

    def test_a_ledger_that_is_not_there_yet_is_no_news(self, box: Box) -> None:
        door = box.admission(box.asker())
        box.begin("a.service")
        assert isinstance(door.admit("a.service", invocation=box.units_by_name["a.service"].invocation), Granted)
        box.proceed("a.service")
        assert door.take_stock()[2] == ""
        assert door.take_news() == ()

    @pytest.mark.parametrize("how", ["lost", "cut"])
    def test_who_only_asks_rebuilds_it_too_and_says_so_alone(self, box: Box, how: str) -> None:
        started(box, ROUTER)
        box.damage(how)
        first, second = box.admission(box.asker()), box.admission(box.asker())
        first.would_admit(ROUTER, DEFAULT, without=())
        assert first.take_news()
        box.begin("a.service")
        box.ask("a.service")
        second.take_stock()
        assert second.take_news() == ()

    def test_an_unreadable_ledger_is_refused(self, box: Box) -> None:
        box.runtime.mkdir(parents=True, exist_ok=True)
        # Nobody, root neither, can open what leads to itself.
        (box.runtime / "ledger.json").symlink_to("ledger.json")
        box.begin("a.service")
        assert box.ask("a.service") == "no"

    def test_what_is_found_while_nvml_is_lost_counts_in_full_afterwards(self, box: Box) -> None:
        started(box, "a.service")
        box.damage("lost")
        box.nvml_error = "GPU is lost"
        assert commitments(box) == []
        box.nvml_error = ""
        assert [entry.needs for entry in commitments(box)] == [{0: 10}]
