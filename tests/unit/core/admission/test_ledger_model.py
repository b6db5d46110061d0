"""Whoever asks and whoever is killed when: the cards are never over-committed, and nothing stays promised for ever.

Many askers (starts by hand, systemd's restarts, a guard, a switch, foreign processes) over the real door and the real
ledger's file, in a box in memory. A kill, a world that moves on, or the loss of the ledger can fall between any two
calls. Everything is drawn from a seed, and a failure names it with what happened until then.
"""

import itertools
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies

from gpumod_tui.adapters.files import atomic
from gpumod_tui.core.admission.commitments import ORPHAN_S, Commitment
from gpumod_tui.core.admission.decide import Granted
from gpumod_tui.core.errors import GpumodError
from gpumod_tui.core.ports import Closeable
from gpumod_tui.core.vram import sleep
from tests.ledger_world import DEFAULT, GPUS, NEEDS, ROOM, ROUTER, SLEEPER, UNITS, Box, Killed, MortalFiles

LONG_S = 60.0
"""Longer than anything is waited for."""
SEEDS = 120
MOVES = 60
CALLS = 35
"""About as many as the longest decision makes."""
MODELS = (DEFAULT, "o")


class Switch:
    """A manager's switch, step by step; between and within its steps it may be killed."""

    def __init__(self, box: Box, number: int, target: frozenset[str]) -> None:
        self.box, self.id, self.target = box, f"switch-{number}", target
        self.pid = box.asker()
        self.admission = box.admission(self.pid)
        self.steps: Iterator[None] = self._run()
        self.patience = 25

    def _run(self) -> Iterator[None]:
        yield from self._work()
        self.admission.end_switch(self.id)

    def _work(self) -> Iterator[None]:
        box = self.box
        up = {name for name, unit in box.units_by_name.items() if not unit.is_down}
        starting = sorted(self.target - up)
        wanted = [(name, "", NEEDS[name, ""]) for name in starting]
        serving = box.serving(DEFAULT)
        loads = ROUTER in self.target and (serving is None or serving.asleep)
        if loads:
            wanted.append((ROUTER, DEFAULT, NEEDS[ROUTER, DEFAULT]))
        ending = up - self.target
        try:
            if self.admission.promise(self.id, wanted, ending) is not None:
                return
        except GpumodError:
            return
        for name in sorted(ending):
            box.stop(name)
        while not all(box.units_by_name[name].is_down for name in ending):
            yield
        for gpu in GPUS:
            while box.free(gpu) < sum(need.get(gpu, 0) for _, _, need in wanted) + 1:
                yield
        for name in starting:
            box.queue(name)
            while box.units_by_name[name].sub != "running":
                yield
                if box.units_by_name[name].is_down:
                    return
        router = box.units_by_name[ROUTER]
        if not loads or router.sub != "running" or any(load.model == DEFAULT for load in box.loads):
            return
        invocation = router.invocation
        if isinstance(self.admission.admit(ROUTER, DEFAULT, switch=self.id), Granted):
            box.call()
            box.load(DEFAULT, invocation)
            # The driver's call returns when the load has begun.
            box.land()
            box.call()


class Turning:
    """Somebody puts the sleeper to sleep or wakes it, step by step; between and within its steps it may be killed."""

    def __init__(self, box: Box, verb: str, keep: int) -> None:
        self.box, self.verb, self.keep = box, verb, keep
        self.pid = box.asker()
        self.admission = box.admission(self.pid)
        self.turn: Closeable | None = None
        self.steps = self._run()

    def _run(self) -> Iterator[None]:
        while self.turn is None:
            yield
            self.turn = self.admission.try_turn(SLEEPER)
        with suppress(GpumodError):
            yield from self._sleep() if self.verb == "sleep" else self._wake()
        self.end()

    def _sleep(self) -> Iterator[None]:
        asleep = self._is_asleep()
        yield
        known = self.admission.promises_of(SLEEPER)
        process = self.box.sleeper()
        leaves = {gpu: held if asleep else held // 2 for gpu, held in process.held.items()} if process else {}
        yield
        self._order()
        yield
        if self._is_asleep():
            yield
            self.admission.shrink(SLEEPER, known, leaves)

    def _wake(self) -> Iterator[None]:
        if not self._is_asleep():
            return
        yield
        invocation = self.box.units_by_name[SLEEPER].invocation
        if isinstance(self.admission.admit(SLEEPER, invocation=invocation), Granted):
            yield
            self._order()
            yield
            self._is_asleep()

    def _order(self) -> None:
        self.box.call()
        process = self.box.sleeper()
        if process is not None:
            process.orders.append(self.verb)
        self.box.call()

    def _is_asleep(self) -> bool | None:
        """It answers when it has done what it was told before; None: nobody answers."""
        self.box.call()
        self.box.obey(self.keep)
        process = self.box.sleeper()
        return None if process is None else process.asleep

    def end(self) -> None:
        """Also what the kernel does for a process that was killed."""
        if self.turn is not None:
            self.turn.close()
        self.box.alive.discard(self.pid)


class Story:
    """One seed's moves; each draws what it needs, and does nothing where it does not apply."""

    kills = 0.3
    """How often a call is one's last."""
    happenings: tuple[int, ...] = (0, 0, 0, 1, 2)
    """How many things happen between somebody's calls."""

    def __init__(self, dice: random.Random, name: str, runtime: Path) -> None:
        self.random = dice
        self.box = Box(runtime)
        self.box.tells_processes = self.random.random() < 0.75
        self.guard = self.box.asker()
        self.grants: dict[str, Commitment] = {}
        self.switch: Switch | None = None
        self.switches = 0
        self.turnings: list[Turning] = []
        self.told: list[str] = [f"{name}, process memory {'told' if self.box.tells_processes else 'N/A'}"]
        self.moves: dict[Callable[[], None], int] = {
            self.start_by_hand: 8,
            self.run_job_or_restart: 8,
            self.exec_condition: 16,
            self.systemd_proceeds: 12,
            self.stop_by_hand: 3,
            self.unit_ends: 6,
            self.unit_leaves_processes_behind: 2,
            self.what_was_left_behind_ends: 3,
            self.admitted_things_grow: 6,
            self.memory_comes_back: 12,
            self.foreigner_takes_what_nobody_was_promised: 1,
            self.foreigners_end: 2,
            self.guard_asks: 8,
            self.router_begins_loads: 3,
            self.router_hangs: 1,
            self.router_goes_on: 2,
            self.load_fails: 1,
            self.model_ends: 1,
            self.model_sleeps: 2,
            self.kill_guard: 2,
            self.begin_switch: 3,
            self.switch_goes_on: 24,
            self.kill_switch: 1,
            self.ledger_is_damaged: 3,
            self.somebody_looks: 3,
            self.time_passes: 5,
            self.what_fits_is_granted: 5,
            self.all_ends_and_nothing_is_left: 1,
        }

    def play(self) -> None:
        try:
            for move in self.random.choices([*self.moves], [*self.moves.values()], k=MOVES):
                self.told.append(move.__name__)
                move()
                self.check()
            self.told.append("end")
            self.all_ends_and_nothing_is_left()
        except AssertionError as error:
            raise AssertionError("\n  ".join([str(error), *self.told])) from error

    def check(self) -> None:
        for gpu in GPUS:
            could = self.box.could_be_held(gpu)
            assert could <= ROOM, f"GPU {gpu}: {could} admitted, there is room for {ROOM}"

    def tell(self, text: str) -> None:
        self.told[-1] += f" {text}"

    # -- kills and other happenings between two calls ----------------------------------------------------------

    def arm(self) -> None:
        box, draw = self.box, self.random
        box.calls, box.fuse, box.meddle = 0, None, {}
        if draw.random() < self.kills:
            box.fuse = draw.randrange(CALLS)
            self.tell(f"[killed at call {box.fuse}]")
        for _ in range(draw.choice(self.happenings)):
            box.meddle[draw.randrange(1, CALLS)] = self.happen

    def disarm(self) -> None:
        self.box.fuse, self.box.meddle, self.box.nvml_error = None, {}, ""

    def happen(self) -> None:
        box, draw = self.box, self.random
        unit = draw.choice(UNITS)
        what = draw.randrange(9)
        self.tell(f"[call {box.calls}: happening {what} {unit}]")
        if what == 0:
            self.admitted_things_grow()
        elif what == 1:
            box.release(draw.choice(GPUS), 30)
        elif what == 2:
            box.land()
        elif what == 3:
            box.die(unit, restarts=True)
        elif what == 4:
            box.die(unit, restarts=False)
        elif what == 5:
            box.begin(unit)
        elif what == 6:
            box.proceed(unit)
        elif what == 7 and draw.random() < 0.3:
            box.nvml_error = "GPU is lost"
        elif what == 8 and draw.random() < 0.3:
            box.damage(draw.choice(("lost", "cut", "overwritten")))

    # -- starts by hand, and systemd's own ---------------------------------------------------------------------

    def one(self, applies: Callable[[str], bool]) -> str | None:
        names = [name for name in UNITS if applies(name)]
        name = self.random.choice(names) if names else None
        self.tell(name or "-")
        return name

    def start_by_hand(self) -> None:
        name = self.one(lambda name: self.box.units_by_name[name].is_down)
        if name is not None:
            (self.box.begin if self.random.random() < 0.8 else self.box.queue)(name)

    def run_job_or_restart(self) -> None:
        units = self.box.units_by_name
        name = self.one(lambda name: units[name].sub == "auto-restart" or (units[name].job and units[name].is_dead))
        if name is not None:
            self.box.begin(name)

    def exec_condition(self) -> None:
        units = self.box.units_by_name
        name = self.one(lambda name: units[name].sub == "condition" and not units[name].answer)
        if name is not None:
            self.arm()
            self.tell(self.box.ask(name))
            self.disarm()

    def systemd_proceeds(self) -> None:
        name = self.one(lambda name: bool(self.box.units_by_name[name].answer))
        if name is not None:
            self.box.proceed(name)

    def stop_by_hand(self) -> None:
        self.box.stop(self.one(lambda name: not self.box.units_by_name[name].is_down) or UNITS[0])

    def unit_ends(self) -> None:
        name = self.one(lambda name: bool(self.box.of_unit(name)))
        if name is not None:
            self.box.die(name, restarts=self.random.random() < 0.5)

    def unit_leaves_processes_behind(self) -> None:
        """SIGKILL was not enough, and systemd goes on without them."""
        name = self.one(lambda name: self.box.units_by_name[name].main_pid is not None)
        if name is None:
            return
        left = [process for process in self.box.of_unit(name) if self.random.random() < 0.7]
        for process in left:
            process.state = self.random.choice("SD")
        self.box.die(name, restarts=self.random.random() < 0.5, leaves=left)

    def what_was_left_behind_ends(self) -> None:
        stuck = self.box.stuck()
        if stuck:
            self.box.end(self.random.choice(stuck))

    # -- memory ------------------------------------------------------------------------------------------------

    def admitted_things_grow(self) -> None:
        for process in self.box.processes.values():
            if process.unit is not None:
                self.box.grow(process, self.random.choice((0, 1, 4, 30)))

    def memory_comes_back(self) -> None:
        self.box.release(self.random.choice(GPUS), self.random.choice((1, 5, 30)))

    def foreigner_takes_what_nobody_was_promised(self) -> None:
        gpu = self.random.choice(GPUS)
        left = ROOM - self.box.could_be_held(gpu)
        if left > 0 and self.switch is None:
            self.box.grow(self.box.spawn(None, {gpu: self.random.randint(1, left)}), 30)

    def foreigners_end(self) -> None:
        for process in [one for one in self.box.processes.values() if one.unit is None]:
            self.box.end(process)

    # -- a guard -----------------------------------------------------------------------------------------------

    def guard_asks(self) -> None:
        """A load, or a wake from sleep."""
        box, router, model = self.box, self.box.units_by_name[ROUTER], self.random.choice(MODELS)
        serving = box.serving(model)
        loading = any(load.model == model for load in box.loads)
        if router.sub != "running" or loading or (serving is not None and not serving.asleep):
            return
        self.tell(model)
        invocation = router.invocation
        self.arm()
        try:
            verdict = box.admission(self.guard).admit(ROUTER, model)
            if isinstance(verdict, Granted):
                self.tell("yes")
                box.call()
                self.grants[model] = verdict.commitment
                if serving is None:
                    box.load(model, invocation)
                else:
                    serving.asleep = False
                box.call()
        except Killed:
            self.kill_guard()
        self.disarm()

    def router_begins_loads(self) -> None:
        self.box.land()

    def router_hangs(self) -> None:
        self.box.hangs = self.box.units_by_name[ROUTER].sub == "running"

    def router_goes_on(self) -> None:
        self.box.hangs = False

    def load_fails(self) -> None:
        """The guard hears of it and takes its commitment back."""
        if self.box.hangs:
            return
        for load in self.box.loads:
            if load.model in self.grants:
                self.box.loads.remove(load)
                self.box.admission(self.guard).withdraw(self.grants.pop(load.model))
                return

    def model_ends(self) -> None:
        process = self.box.serving(self.random.choice(MODELS))
        if process is not None:
            self.box.end(process)

    def model_sleeps(self) -> None:
        process = self.box.serving(self.random.choice(MODELS))
        if process is not None:
            self.box.sleep(process, self.random.choice((0, 1)))

    # -- sleep and wake of a whole unit ------------------------------------------------------------------------

    def begin_turn(self) -> None:
        if len(self.turnings) < 3:
            process = self.box.sleeper()
            likely, unlikely = ("wake", "sleep") if process and process.asleep else ("sleep", "wake")
            verb = likely if self.random.random() < 0.7 else unlikely
            self.tell(verb)
            self.turnings.append(Turning(self.box, verb, self.random.choice((0, 1))))

    def turn_goes_on(self) -> None:
        if not self.turnings:
            self.begin_turn()
        turning = self.random.choice(self.turnings)
        self.tell(f"{turning.verb} by {turning.pid}")
        self.arm()
        try:
            for _ in range(self.random.choice((1, 1, 2, 9))):
                next(turning.steps)
        except Killed:
            self.tell("killed")
            self._end_turn(turning)
        except StopIteration:
            self.tell("end")
            self._end_turn(turning)
        self.disarm()

    def kill_turn(self) -> None:
        if self.turnings:
            self._end_turn(self.turnings[0])

    def _end_turn(self, turning: Turning) -> None:
        turning.end()
        self.turnings.remove(turning)

    def sleeper_obeys(self) -> None:
        self.box.obey(self.random.choice((0, 1)))

    def kill_guard(self) -> None:
        """What it has asked of the router is on its way all the same."""
        self.box.alive.discard(self.guard)
        self.guard = self.box.asker()
        self.grants.clear()

    # -- a switch ----------------------------------------------------------------------------------------------

    def begin_switch(self) -> None:
        if self.switch is None:
            self.switches += 1
            target = frozenset(self.random.sample(UNITS, self.random.randrange(3)))
            self.tell(str(sorted(target)))
            self.switch = Switch(self.box, self.switches, target)

    def switch_goes_on(self) -> None:
        if self.switch is None:
            return
        self.arm()
        try:
            next(self.switch.steps)
            self.switch.patience -= 1
        except Killed:
            self.kill_switch()
        except StopIteration:
            self.tell("end")
            self.box.alive.discard(self.switch.pid)
            self.switch = None
        if self.switch is not None and self.switch.patience < 0:
            self.switch.admission.end_switch(self.switch.id)
            self.kill_switch()
        self.disarm()

    def kill_switch(self) -> None:
        if self.switch is not None:
            self.box.alive.discard(self.switch.pid)
            self.switch = None

    # -- the ledger, and the end -------------------------------------------------------------------------------

    def ledger_is_damaged(self) -> None:
        self.box.damage(self.random.choice(("lost", "cut", "overwritten")))

    def somebody_looks(self) -> None:
        self.arm()
        pid = self.box.asker()
        try:
            self.box.admission(pid).take_stock()
        except Killed:
            self.tell("killed")
        self.box.alive.discard(pid)
        self.disarm()

    def time_passes(self) -> None:
        """No router takes that long to begin what it was asked for, but for one that hangs."""
        self.box.land()
        self.box.now += LONG_S

    def what_fits_is_granted(self) -> None:
        """Whoever was killed before: when nobody else asks, and all that was under way has come or gone."""
        box, units = self.box, self.box.units_by_name
        box.hangs = False
        for name in UNITS:
            box.proceed(name)
            if units[name].sub == "stop-sigterm":
                # A router that is stopping answers nobody.
                box.die(name, restarts=False)
        chosen = self.one(lambda name: units[name].is_down)
        asking = any(unit.sub in ("condition", "auto-restart") for unit in units.values())
        if chosen is None or self.switch is not None or asking or not box.tells_processes or box.stuck():
            return
        box.land()
        for model in [model for model in self.grants if box.serving(model) is None]:
            box.admission(self.guard).withdraw(self.grants.pop(model))
        box.now += LONG_S
        box.admission(box.asker()).take_stock()
        for turning in [*self.turnings]:
            self._end_turn(turning)
        box.obey(0)
        # What sleeps is promised its whole need but for a unit that was shrunk.
        still_open = box.admission(box.asker()).still_open()
        asleep, held = [], []
        for process in box.processes.values():
            if process.asleep:
                key = (process.unit or "", process.model)
                asleep.append(process.need if process.model else still_open[key])
                held.append(process.held if process.model else {})
        fits = all(
            box.could_be_held(gpu) + need + sum(one.get(gpu, 0) for one in asleep) - sum(h.get(gpu, 0) for h in held)
            <= ROOM
            for gpu, need in NEEDS[chosen, ""].items()
            if need
        )
        answer = ""
        for _ in range(2):
            # Of a load whose asker was killed the router has to say twice that it does not have it.
            box.begin(chosen)
            answer = box.ask(chosen)
            self.tell(answer)
            if answer == "yes":
                break
            box.proceed(chosen)
            box.now += ORPHAN_S
        assert answer == ("yes" if fits else "no")

    def all_ends_and_nothing_is_left(self) -> None:
        box = self.box
        self.kill_switch()
        self.kill_guard()
        for turning in [*self.turnings]:
            self._end_turn(turning)
        for name in UNITS:
            box.proceed(name)
            box.stop(name)
            box.die(name, restarts=False)
        for process in box.stuck():
            box.end(process)
        self.foreigners_end()
        box.land()
        for gpu in GPUS:
            box.release(gpu, 100)
        assert all(unit.is_down for unit in box.units_by_name.values())
        assert not box.processes
        door = box.admission(box.asker())
        door.take_stock()
        box.now += LONG_S
        left = door.take_stock()[0].commitments
        assert left == (), f"still promised: {left}"
        for name in UNITS:
            box.begin(name)
            assert box.ask(name) == "yes", f"{name} alone on an empty box is refused"
            box.stop(name)
            box.release(0, 100)


class SleepStory(Story):
    """As above around a unit that is up, and that several put to sleep and wake."""

    kills = 0.05
    happenings = (0, 0, 0, 0, 1)

    def __init__(self, dice: random.Random, name: str, runtime: Path) -> None:
        super().__init__(dice, name, runtime)
        self.box.tells_processes = True
        self.moves = {
            self.start_by_hand: 8,
            self.exec_condition: 8,
            self.systemd_proceeds: 8,
            self.stop_by_hand: 1,
            self.unit_ends: 1,
            self.admitted_things_grow: 8,
            self.memory_comes_back: 8,
            self.begin_turn: 16,
            self.turn_goes_on: 48,
            self.kill_turn: 2,
            self.sleeper_obeys: 4,
            self.ledger_is_damaged: 1,
            self.somebody_looks: 2,
            self.what_fits_is_granted: 2,
            self.all_ends_and_nothing_is_left: 0,
        }
        self.box.begin(SLEEPER)
        self.box.ask(SLEEPER)
        self.box.proceed(SLEEPER)
        for process in self.box.of_unit(SLEEPER):
            self.box.grow(process, 30)


class LeftoverStory(Story):
    """As above where units often leave processes behind, and are started again beside them."""

    kills = 0.05
    happenings = (0, 0, 0, 0, 1)

    def __init__(self, dice: random.Random, name: str, runtime: Path) -> None:
        super().__init__(dice, name, runtime)
        self.box.tells_processes = True
        self.moves = {
            self.start_by_hand: 12,
            self.run_job_or_restart: 10,
            self.exec_condition: 20,
            self.systemd_proceeds: 20,
            self.admitted_things_grow: 16,
            self.unit_leaves_processes_behind: 10,
            self.what_was_left_behind_ends: 4,
            self.memory_comes_back: 8,
            self.guard_asks: 10,
            self.router_begins_loads: 6,
            self.model_sleeps: 2,
            self.ledger_is_damaged: 1,
            self.somebody_looks: 2,
            self.time_passes: 4,
            self.what_fits_is_granted: 4,
            self.all_ends_and_nothing_is_left: 0,
        }


@pytest.mark.parametrize("part", range(8))
def test_never_over_committed_and_never_leaked_whoever_is_killed_when(
    part: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(part * SEEDS, (part + 1) * SEEDS):
        with mortal_files(story := Story(random.Random(seed), f"seed {seed}", tmp_path / str(seed)), monkeypatch):
            story.play()


@pytest.mark.parametrize("part", range(4))
def test_the_same_around_a_unit_that_sleeps_and_wakes(
    part: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(part * SEEDS, (part + 1) * SEEDS):
        story = SleepStory(random.Random(seed), f"seed {seed}", tmp_path / str(seed))
        with mortal_files(story, monkeypatch):
            story.play()


@pytest.mark.parametrize("part", range(2))
def test_the_same_where_processes_outlive_their_units(
    part: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(part * SEEDS, (part + 1) * SEEDS):
        story = LeftoverStory(random.Random(seed), f"seed {seed}", tmp_path / str(seed))
        with mortal_files(story, monkeypatch):
            story.play()


def test_who_is_slow_between_the_grant_and_the_wake_keeps_everybody_else_from_turning_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = SleepStory(random.Random(0), "slow", tmp_path)
    box = story.box
    with mortal_files(story, monkeypatch):
        assert [*Turning(box, "sleep", 1).steps]
        (process,) = box.of_unit(SLEEPER)
        slow, other = Turning(box, "wake", 1), Turning(box, "sleep", 1)
        while box.admission(slow.pid).still_open()[SLEEPER, ""] == {0: 0}:
            next(slow.steps)
        for _ in range(50):
            next(other.steps)
        assert other.turn is None
        box.release(0, 30)
        box.begin("b.service")
        assert box.ask("b.service") == "no", "the room is promised to who wakes"
        box.proceed("b.service")
        assert [*slow.steps]
        box.grow(process, 30)
        assert process.held == process.need
        assert [*other.steps]
        assert process.held == {0: 1}
        box.release(0, 30)
        box.begin("b.service")
        assert box.ask("b.service") == "yes", "what sleeps is promised what it holds"
        box.proceed("b.service")
        assert [*Turning(box, "wake", 1).steps]
        assert box.could_be_held(0) <= ROOM, "its wake was refused"


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(dice=strategies.randoms(use_true_random=False))
def test_the_same_with_moves_that_hypothesis_draws_and_shortens(
    dice: random.Random, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mortal_files(story := Story(dice, "drawn", tmp_path_factory.mktemp("box")), monkeypatch):
        story.play()


@contextmanager
def mortal_files(story: Story, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    files = MortalFiles(story.box)
    with monkeypatch.context() as patched:
        patched.setattr(atomic, "os", files.os)
        patched.setattr(atomic, "Path", files.path)
        # A few bytes are a lot here.
        patched.setattr(sleep, "STILL_BYTES", 0)
        yield


def everybody_asks(box: Box) -> None:
    """One after the other asks for more than there is, by each way there is; killed where the fuse says."""
    box.begin(ROUTER)
    box.ask(ROUTER)
    box.proceed(ROUTER)
    guard = box.admission(box.asker())
    if isinstance(guard.admit(ROUTER, "o"), Granted):
        box.call()
        box.load("o", box.units_by_name[ROUTER].invocation)
        box.call()
    switch = box.asker()
    door = box.admission(switch)
    if door.promise("s", [("a.service", "", NEEDS["a.service", ""])], ()) is None:
        box.begin("a.service")
        box.call()
        door.end_switch("s")


def test_killed_at_each_call_in_turn_nobody_is_granted_too_much_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for fuse in itertools.count():
        story = Story(random.Random(0), f"killed at call {fuse}", tmp_path / str(fuse))
        box = story.box
        with mortal_files(story, monkeypatch):
            box.fuse = fuse
            try:
                everybody_asks(box)
            except Killed:
                box.alive.clear()
            survived = box.fuse is not None and box.fuse >= 0
            story.disarm()
            for name in UNITS:
                story.check()
                if box.units_by_name[name].is_down:
                    box.begin(name)
                if box.units_by_name[name].sub == "condition" and not box.units_by_name[name].answer:
                    box.ask(name)
                box.proceed(name)
                story.check()
            box.land()
            for process in box.processes.values():
                box.grow(process, 30)
            story.check()
            story.all_ends_and_nothing_is_left()
        if survived:
            break
    assert fuse > CALLS
