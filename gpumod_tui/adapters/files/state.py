"""The switch lock and the state file (port `SwitchStore`).

The lock, requests to cancel and how far a step is lie in the runtime folder and are gone after a reboot; the record of
the newest switch, the reached mode and the history lie in the state folder, so that after a crash of the machine it
still says what was under way.
"""

import contextlib
import os
import shlex
import signal as signals
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgspec

from gpumod_tui.adapters.files.atomic import private_folder, write_whole
from gpumod_tui.adapters.files.locks import is_locked, try_lock
from gpumod_tui.adapters.files.switch_log import SwitchLog
from gpumod_tui.core.errors import StateUnavailable
from gpumod_tui.core.status.mode_status import Recorded
from gpumod_tui.core.switch.records import Moment, StoredState, SwitchHistory, SwitchRecord, Tally

_COMMAND_CHARACTERS: Final = 200


class _Stored(msgspec.Struct):
    recorded: Recorded = Recorded()
    switch: SwitchRecord | None = None
    tallies: dict[str, Tally] = {}


class StateDir:
    """The state and runtime folders of one user."""

    def __init__(self, state: Path, runtime: Path) -> None:
        self._file = state / "state.json"
        self._lock_file = runtime / "switch.lock"
        self._cancel_file = runtime / "cancel"
        self._moment_file = runtime / "moment.json"
        self._holder_file = runtime / "switch.json"
        self._log = SwitchLog(state / "switches.json")

    def read(self) -> StoredState:
        """The file is read before and after the lock is looked at: a switch that begins or ends in between must
        not be taken for one that was interrupted."""
        before = self._stored()
        for _ in range(5):
            held = self._held()
            after = self._stored()
            if after.switch == before.switch:
                break
            before = after
        switch = self._holder(after.switch) if held else after.switch
        stored = StoredState(after.recorded, switch, held, after.tallies)
        running = stored.running
        return stored if running is None else replace(stored, moment=self._moment(running))

    def history(self) -> SwitchHistory:
        """The log, and what ended after its newest entry was written."""
        stored = self.read()
        switches, problem = self._log.read()
        newest = stored.switch
        if newest is not None and stored.running is None and all(one.id != newest.id for one in switches):
            switches = (newest, *switches)
        return SwitchHistory(switches, problem)

    def acquire(self, target: str) -> "FileLock | None":
        """None: another process, or another switch of this one, holds it."""
        try:
            descriptor = try_lock(self._lock_file)
        except OSError as error:
            raise _unavailable(self._lock_file, error) from error
        if descriptor is None:
            return None
        try:
            pid = os.getpid()
            record = SwitchRecord(
                os.urandom(16).hex(), target, pid, _start_time(pid) or 0, time.time(), command=_own_command()
            )
            # The switch of a process that was killed is in the record alone, which is written over now.
            self._keep(self._stored().switch)
            lock = FileLock(self, descriptor, record)
            # The lock alone makes it one switch: on a full disk a switch to blank must still lead back, and find whom
            # to ask. The first step writes again, and tells.
            with contextlib.suppress(OSError):
                write_whole(self._holder_file, msgspec.json.encode(record), mode=0o600)
            with contextlib.suppress(StateUnavailable):
                lock.write(record)
        except BaseException:
            os.close(descriptor)
            raise
        return lock

    def request_cancel(self, switch_id: str) -> None:
        """The request names the switch, so that a later one is not hit."""
        try:
            write_whole(self._cancel_file, switch_id, mode=0o600)
        except OSError as error:
            raise _unavailable(self._cancel_file, error) from error

    def cancel_requested(self, switch_id: str) -> bool:
        """Whether that switch is to cancel; an unreadable request is none."""
        try:
            return self._cancel_file.read_text() == switch_id
        except (OSError, UnicodeDecodeError):
            return False

    def signal(self, record: SwitchRecord, signal: int) -> bool:
        """Through a pidfd: between the look at the start time and the signal the pid cannot change hands."""
        try:
            descriptor = os.pidfd_open(record.pid)
        except OSError:
            return False
        try:
            if _start_time(record.pid) != record.pid_start:
                return False
            signals.pidfd_send_signal(descriptor, signal)
        except ProcessLookupError:
            return False
        finally:
            os.close(descriptor)
        return True

    def write(self, record: SwitchRecord, recorded: Recorded | None) -> None:
        """Only for the holder of the lock. Raises: StateUnavailable."""
        before = self._stored()
        stored = _Stored(recorded or before.recorded, record, before.tallies)
        if record.outcome is not None and record.ended_at is not None:
            tally = before.tallies.get(record.outcome, Tally())
            seconds = tally.seconds + max(0.0, record.ended_at - record.started_at)
            stored.tallies = {**before.tallies, record.outcome: Tally(tally.count + 1, seconds)}
        try:
            private_folder(self._file.parent)
            write_whole(self._file, msgspec.json.encode(stored), mode=0o600)
        except OSError as error:
            raise _unavailable(self._file, error) from error
        if record.outcome is not None:
            self._keep(record)

    def tell(self, moment: Moment) -> None:
        """In the runtime folder, which is memory: it costs no disk."""
        with contextlib.suppress(OSError):
            write_whole(self._moment_file, msgspec.json.encode(moment), mode=0o600)

    def _keep(self, record: SwitchRecord | None) -> None:
        """Losing the history loses nothing else: a disk that cannot be written is told by the record's own write."""
        if record is not None:
            with contextlib.suppress(OSError):
                self._log.add(record)

    def _moment(self, running: SwitchRecord) -> Moment | None:
        """None for one of another switch, or of a step that is over."""
        try:
            moment = msgspec.json.decode(self._moment_file.read_bytes(), type=Moment)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return None
        return moment if (moment.switch_id, moment.step) == (running.id, running.step) else None

    def _holder(self, stored: SwitchRecord | None) -> SwitchRecord | None:
        """The switch that holds the lock, as its own record has it, or where that could not be written as it began."""
        try:
            began = msgspec.json.decode(self._holder_file.read_bytes(), type=SwitchRecord)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return stored
        is_other = stored is None or stored.id != began.id
        return began if is_other and _start_time(began.pid) == began.pid_start else stored

    def _stored(self) -> _Stored:
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=_Stored)
        except FileNotFoundError:
            return _Stored()
        except OSError as error:
            return _Stored(Recorded(note=f"{self._file} cannot be read: {error.strerror}"))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, OverflowError):
            return _Stored(Recorded(note=f"{self._file} was damaged and is ignored"))

    def _held(self) -> bool:
        try:
            return is_locked(self._lock_file)
        except OSError as error:
            raise _unavailable(self._lock_file, error) from error


class FileLock:
    """The right to switch: ends with `release`, or with the process."""

    def __init__(self, folder: StateDir, descriptor: int, record: SwitchRecord) -> None:
        self._folder = folder
        self._descriptor: int | None = descriptor
        self._record = record

    @property
    def record(self) -> SwitchRecord:
        """The newest record written."""
        return self._record

    def write(self, record: SwitchRecord, recorded: Recorded | None = None) -> None:
        """Whole, on disk when it returns."""
        self._record = record
        self._folder.write(record, recorded)

    def tell(self, moment: Moment) -> None:
        """For those who look at this switch from outside."""
        self._folder.tell(moment)

    def cancel_requested(self) -> bool:
        """Asked between all steps and inside all waits: a look at one small file."""
        return self._folder.cancel_requested(self._record.id)

    def release(self) -> None:
        """Closing the only descriptor of the description ends its lock."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _own_command() -> str:
    program, *arguments = sys.argv or [""]
    name = Path(program).name
    return shlex.join(["gpumod" if name in ("", "-c", "__main__.py") else name, *arguments])[:_COMMAND_CHARACTERS]


def _start_time(pid: int) -> int | None:
    """Field 22 of /proc/PID/stat, clock ticks since boot; the name before it may hold spaces and parentheses."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return int(stat.rpartition(")")[2].split()[19])


def _unavailable(path: Path, error: OSError) -> StateUnavailable:
    return StateUnavailable(f"{path}: {error.strerror}", hint="make room or correct the owner and mode of the folder")
