"""What a test inside the bed needs to see and move: the played GPU, units, the journal, processes."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

T = TypeVar("T")
HOME: Final = Path("/home/gpu")
"""Of the bed's user; for names that are made before a bed is entered."""


def wait_until(predicate: Callable[[], T], timeout_s: float = 60.0, *, what: str = "", interval_s: float = 0.02) -> T:
    """The first truthy value of `predicate`. Raises: AssertionError, after `timeout_s`, with the last value."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s} s: {what or predicate!r} (last: {value!r})")
        time.sleep(interval_s)


def run(
    *argv: str | Path,
    timeout_s: float = 120.0,
    check: bool = False,
    stdin: str = "",
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Runs a command with its output captured; `env` is added to this process's environment."""
    done = subprocess.run(
        [str(part) for part in argv],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env={**os.environ, **(env or {})},
        cwd=cwd,
    )
    if check and done.returncode:
        raise AssertionError(f"{done.args} exited {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def shell(script: str, *, timeout_s: float = 120.0, check: bool = False) -> subprocess.CompletedProcess[str]:
    """Runs a bash script, as the text of QA.md wants it."""
    return run("bash", "-c", script, timeout_s=timeout_s, check=check)


# --- units


def systemctl(*arguments: str, check: bool = True, timeout_s: float = 120.0) -> str:
    return run("systemctl", "--user", "--no-pager", *arguments, check=check, timeout_s=timeout_s).stdout


def unit_properties(unit: str, *names: str) -> dict[str, str]:
    """Properties as systemd prints them; without names those that say how a unit fares."""
    wanted = names or ("LoadState", "ActiveState", "SubState", "Result", "MainPID", "NRestarts", "ControlGroup")
    text = systemctl("show", unit, *(f"--property={name}" for name in wanted))
    return dict(line.partition("=")[::2] for line in text.splitlines())


def install_unit(name: str, text: str, *, reload: bool = True) -> Path:
    """Writes a unit file where the user manager looks, e.g. `install_unit("a.service", "[Service]…")`."""
    path = Path.home() / ".config" / "systemd" / "user" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    if reload:
        systemctl("daemon-reload")
    return path


def remove_unit(name: str) -> None:
    (Path.home() / ".config" / "systemd" / "user" / name).unlink(missing_ok=True)
    systemctl("daemon-reload")


def cgroup_of(unit: str) -> Path | None:
    """The unit's folder under /sys/fs/cgroup; None for a unit without processes."""
    group = unit_properties(unit, "ControlGroup")["ControlGroup"]
    return Path("/sys/fs/cgroup") / group.lstrip("/") if group else None


def cgroup_pids(unit: str) -> list[int]:
    group = cgroup_of(unit)
    if group is None or not group.exists():
        return []
    return [int(pid) for file in group.rglob("cgroup.procs") for pid in file.read_text().split()]


def kill_cgroup(unit: str) -> None:
    """SIGKILL for every process of a unit, at once and behind systemd's back."""
    group = cgroup_of(unit)
    if group is not None:
        (group / "cgroup.kill").write_text("1")


_MARKS = "gpumod-bed-mark"
_marks = itertools.count()


def of_unit(unit: str) -> list[str]:
    """Matches for journalctl: what its processes wrote, what systemd wrote about it.

    The identifier (`SyslogIdentifier=%n`) is all that tells it of a process that had died before journald looked at it.
    """
    return [f"_SYSTEMD_USER_UNIT={unit}", "+", f"USER_UNIT={unit}", "+", f"SYSLOG_IDENTIFIER={unit}"]


def journal(unit: str | None = None, *options: str, lines: int = 1000) -> list[str]:
    """Messages of the user's journal, oldest first, without their time stamps: all that was written before the call.

    journald reads what processes wrote when it comes to it; a line of our own behind theirs tells that it did.
    """
    read = ("journalctl", "--user", "--no-pager", "--output=cat")

    def caught_up() -> bool:
        # On a busy machine journald can lose track of who wrote a line; then another one tells.
        mark = f"{_MARKS}-{os.getpid()}-{next(_marks)}"
        run("systemd-cat", f"--identifier={_MARKS}", "echo", mark, check=True)
        until = time.monotonic() + 3.0
        while time.monotonic() < until:
            if mark in run(*read, "--lines=50", f"--identifier={_MARKS}").stdout.splitlines():
                return True
            time.sleep(0.02)
        return False

    wait_until(caught_up, what="journald")
    said = run(*read, f"--lines={lines}", *options, *(of_unit(unit) if unit else ())).stdout.splitlines()
    return [line for line in said if not line.startswith(_MARKS)]


# --- processes and sockets


def pids_named(name: str) -> list[int]:
    """Processes whose command line begins with `name`, or whose program has that file name."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            first = (folder / "cmdline").read_bytes().split(b"\0")[0].decode(errors="replace")
        except OSError:
            continue
        if first == name or first.rpartition("/")[2] == name:
            found.append(int(folder.name))
    return found


def http(url: str, body: object = None, *, timeout_s: float = 40.0) -> tuple[int, Any]:
    """(status, parsed JSON or text); POSTs `body` as JSON if given. Status 0: the connection failed."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as answer:
            status, raw = answer.status, answer.read()
    except urllib.error.HTTPError as error:
        status, raw = error.code, error.read()
    except OSError:
        return 0, None
    text = raw.decode(errors="replace")
    try:
        return status, json.loads(text)
    except ValueError:
        return status, text


# --- the played GPU


@dataclass(frozen=True, slots=True)
class GpuStats:
    """One reading of the player; lists have one entry a GPU, in MiB."""

    samples: int
    wanted_mib: tuple[float, ...]
    """What lies on the card besides what is reserved; more than the card has is a crash of a real host."""
    high_water_mib: tuple[float, ...]
    overcommitted_samples: tuple[int, ...]


class PlayedGpu:
    """The played GPU: its configuration (keys as in play/defaults.json), its figures, its record."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read_config(self) -> dict[str, Any]:
        """What differs from play/defaults.json."""
        config: dict[str, Any] = json.loads((self.folder / "config.json").read_text())
        return config

    def config(self, **changes: Any) -> None:
        """Replaces whole top-level keys, e.g. `config(hold=True)`; returns when the player has taken them up."""
        self.replace_config({**self.read_config(), **changes})

    def replace_config(self, config: Mapping[str, Any]) -> None:
        temporary = self.folder / "config.json.new"
        temporary.write_text(json.dumps(config))
        stamp = temporary.stat().st_mtime_ns
        temporary.rename(self.folder / "config.json")
        wait_until(
            lambda: self.effective().get("config_mtime_ns") == stamp, what="the player takes up its configuration"
        )

    def effective(self) -> dict[str, Any]:
        config: dict[str, Any] = json.loads((self.folder / "effective.json").read_text())
        return config

    def stats(self) -> GpuStats:
        """A reading made after this call."""
        asked = time.time()

        def fresh() -> dict[str, Any] | None:
            try:
                read: dict[str, Any] = json.loads((self.folder / "stats.json").read_text())
            except FileNotFoundError:
                return None
            return read if read["t"] > asked else None

        read = wait_until(fresh, what="the player writes its figures", interval_s=0.01)
        assert read is not None
        return GpuStats(
            samples=read["samples"],
            wanted_mib=tuple(read["wanted_mib"]),
            high_water_mib=tuple(read["high_water_mib"]),
            overcommitted_samples=tuple(read["overcommitted_samples"]),
        )

    def used_mib(self, gpu: int = 0) -> float:
        return self.stats().wanted_mib[gpu]

    def assert_never_overcommitted(self) -> None:
        stats = self.stats()
        assert not any(stats.overcommitted_samples), f"a real host would have crashed: {stats}\n{self.timeline()[-20:]}"

    def timeline(self) -> list[dict[str, Any]]:
        """Every change of what processes hold: {"t", "wanted_mib": [a GPU], "held": {pid: {gpu: MiB}}, "dead": {…}}."""
        return [json.loads(line) for line in (self.folder / "timeline.jsonl").read_text().splitlines()]

    def declare(self, pid: int, mib: Mapping[int, float]) -> None:
        """Lets a living process hold memory, {GPU: MiB}, as long as it lives (and release_s longer)."""
        path = self.folder / "mem" / str(pid)
        temporary = path.with_name(f".{pid}")
        temporary.write_text(json.dumps({str(gpu): value for gpu, value in mib.items()}))
        temporary.rename(path)


def gpu() -> PlayedGpu:
    """The played GPU of this bed."""
    return PlayedGpu(Path(os.environ["GPUMOD_BED_RUN"]))


def external_ip() -> str:
    """An address of this host that is not loopback."""
    return os.environ["GPUMOD_BED_EXTERNAL_IP"]


def model_files() -> list[Path]:
    """The tiny models in ~/models, named like those of QA.md."""
    return sorted((Path.home() / "models").glob("*.gguf"))


def copy_models(names: Iterable[str], folder: Path) -> None:
    """Copies of the first tiny model under other names, so that a router lists them under these ids."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        shutil.copy(model_files()[0], folder / f"{name}.gguf")
