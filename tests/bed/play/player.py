"""Plays the memory of GPUs: watches processes, decides what they hold, and writes what the played NVML answers from.

Usage: player.py RUN_DIR. RUN_DIR/config.json holds what differs from defaults.json and may change at any time;
RUN_DIR/mem/PID holds {"GPU": MiB} of processes that declare their memory themselves. Written: state, effective.json,
stats.json, timeline.jsonl. Only the standard library, since it runs without the virtual environment.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sys
import time
from pathlib import Path
from typing import Any

MIB = 1 << 20
CODES = {
    "HANGS": -1,
    "NOT_SUPPORTED": 3,
    "NO_PERMISSION": 4,
    "DRIVER_NOT_LOADED": 9,
    "TIMEOUT": 10,
    "FUNCTION_NOT_FOUND": 13,
    "GPU_IS_LOST": 15,
    "RESET_REQUIRED": 16,
    "LIB_RM_VERSION_MISMATCH": 18,
    "UNKNOWN": 999,
}
YOUNG_S = 1.0
"""Seconds in which a process is looked at in every round, since it may still exec; later in every tenth."""


def merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def effective(changes: dict[str, Any]) -> dict[str, Any]:
    defaults = json.loads(Path(__file__).with_name("defaults.json").read_text())
    config = merge(defaults, changes)
    gpus = []
    for index, gpu in enumerate(config["gpus"]):
        identity = {
            "uuid": f"GPU-5d0bed{index:02x}-0000-4000-8000-00000000000{index:x}",
            "bus": f"00000000:{index + 1:02X}:00.0",
            "minor": index,
        }
        gpus.append(merge(merge(identity, config["gpu"]), gpu))
    config["gpus"] = gpus
    return config


def write_atomically(path: Path, text: str) -> None:
    temporary = path.with_name(path.name + ".new")
    temporary.write_text(text)
    temporary.rename(path)


def read_bytes(path: str) -> bytes:
    try:
        with open(path, "rb") as file:  # noqa: PTH123  a hundred rounds a second: pathlib costs three times as much
            return file.read()
    except OSError:
        return b""


def newest_pid() -> bytes:
    """Of all processes ever begun in this pid namespace: unchanged, there is none that was not seen."""
    return read_bytes("/proc/loadavg").rpartition(b" ")[2]


def start_time(pid: int) -> str | None:
    """The kernel's start time of a living process; None for one that is gone or a zombie: its memory is being freed."""
    fields = read_bytes(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    if len(fields) < 20 or fields[0] in (b"Z", b"X"):
        return None
    return fields[19].decode()


def visible_gpus(pid: int, config: dict[str, Any]) -> list[int]:
    every = list(range(len(config["gpus"])))
    for item in read_bytes(f"/proc/{pid}/environ").split(b"\0"):
        name, _, value = item.decode(errors="replace").partition("=")
        if name == "CUDA_VISIBLE_DEVICES":
            return resolve_gpus(value, config)
    return every


def resolve_gpus(value: str, config: dict[str, Any]) -> list[int]:
    """As CUDA does: numbers or UUID prefixes, and an unknown one hides itself and all that follow."""
    found: list[int] = []
    for part in filter(None, (p.strip() for p in value.split(","))):
        matches = [i for i, g in enumerate(config["gpus"]) if part == str(i) or g["uuid"].startswith(part)]
        if len(matches) != 1:
            break
        found.append(matches[0])
    return found


class Holder:
    """A process and the memory it holds or, after its end, still holds."""

    def __init__(self, pid: int, started: str, now: float) -> None:
        self.pid = pid
        self.started = started
        self.since = now
        self.gone_at: float | None = None
        self.release_s: float | None = None
        self.continue_at: float | None = None
        self.rule: dict[str, Any] | None = None
        self.shares: dict[int, float] = {}
        self.declared = False
        self.mib: dict[int, float] = {}

    def take_rule(self, rule: dict[str, Any], argv: list[str], config: dict[str, Any]) -> None:
        self.rule = rule
        self.release_s = rule.get("release_s")
        gpus = [rule["gpu"]] if "gpu" in rule else visible_gpus(self.pid, config)
        weights = [1.0] * len(gpus)
        if "--tensor-split" in argv[:-1]:
            given = [float(w) for w in argv[argv.index("--tensor-split") + 1].split(",")]
            weights = (given + [0.0] * len(gpus))[: len(gpus)]
        whole = sum(weights) or 1.0
        self.shares = {gpu: weight / whole for gpu, weight in zip(gpus, weights, strict=True)}
        if load_s := rule.get("load_s", 0):
            os.kill(self.pid, signal.SIGSTOP)
            self.continue_at = self.since + load_s

    def grow(self, now: float) -> None:
        if self.rule is None:
            return
        grow_s = self.rule.get("grow_s", 0)
        part = min(1.0, (now - self.since) / grow_s) if grow_s else 1.0
        self.mib = {gpu: self.rule["mib"] * share * part for gpu, share in self.shares.items()}
        if self.continue_at is not None and now >= self.continue_at:
            self.continue_at = None
            os.kill(self.pid, signal.SIGCONT)


class Player:
    def __init__(self, run: Path) -> None:
        self.run = run
        self.config_file = run / "config.json"
        self.config_stamp: tuple[int, int] | None = None
        self.config: dict[str, Any] = {}
        self.rules: list[tuple[re.Pattern[str], re.Pattern[str], dict[str, Any]]] = []
        self.holders: dict[int, Holder] = {}
        self.dead: list[Holder] = []
        self.seen: dict[int, float] = {}
        self.newest = b""
        self.young_until = 0.0
        self.declared_ns = 0
        self.last_held: object = None
        self.wanted: list[float] = []
        self.event_sequence = 0
        self.round = 0
        self.overcommitted: list[int] = []
        self.high_water: list[float] = []
        self.last_state = ""
        self.last_stats = 0.0
        self.timeline = (run / "timeline.jsonl").open("a", buffering=1)

    def reload(self) -> None:
        try:
            stat = self.config_file.stat()
        except FileNotFoundError:
            return
        stamp = (stat.st_mtime_ns, stat.st_ino)
        if stamp == self.config_stamp:
            return
        changes = json.loads(self.config_file.read_text())
        event_before = self.config.get("event")
        self.config = effective(changes)
        self.config_stamp = stamp
        self.rules = [
            (re.compile(rule.get("argv0", "^llama-server$")), re.compile(rule["match"]), rule)
            for rule in self.config["rules"]
        ]
        if self.config["event"] and self.config["event"] != event_before:
            self.event_sequence += 1
        count = len(self.config["gpus"])
        self.overcommitted += [0] * (count - len(self.overcommitted))
        self.high_water += [0.0] * (count - len(self.high_water))
        self.last_state, self.last_held = "", None
        self.write_state()
        write_atomically(self.run / "effective.json", json.dumps({**self.config, "config_mtime_ns": stat.st_mtime_ns}))

    def look(self, now: float) -> None:
        self.round += 1
        newest = newest_pid()
        if newest != self.newest:
            self.newest, self.young_until = newest, now + YOUNG_S
        self.look_for_the_dead(now)
        if now <= self.young_until or self.round % 10 == 0:
            alive = {int(name) for name in os.listdir("/proc") if name.isdigit()}  # noqa: PTH208
            for pid in self.seen.keys() - alive:
                del self.seen[pid]
            for pid in alive:
                first = self.seen.setdefault(pid, now)
                if pid in self.holders or (now - first > YOUNG_S and self.round % 10):
                    continue
                self.look_at(pid, now)
        self.read_declared(now)
        for holder in self.holders.values():
            with contextlib.suppress(ProcessLookupError):
                holder.grow(now)

    def look_for_the_dead(self, now: float) -> None:
        for pid, holder in list(self.holders.items()):
            if start_time(pid) == holder.started:
                continue
            holder.gone_at = now
            self.dead.append(holder)
            del self.holders[pid]
            self.seen.pop(pid, None)
            if holder.declared:
                (self.run / "mem" / str(pid)).unlink(missing_ok=True)
        if self.config["hold"]:
            return
        default = self.config["release_s"]
        self.dead = [h for h in self.dead if now - (h.gone_at or 0) < (default if h.release_s is None else h.release_s)]

    def look_at(self, pid: int, now: float) -> None:
        argv = read_bytes(f"/proc/{pid}/cmdline").decode(errors="replace").split("\0")[:-1]
        if not argv:
            return
        name, line = argv[0].rpartition("/")[2], " ".join(argv)
        for argv0, match, rule in self.rules:
            if argv0.search(name) and match.search(line):
                if started := start_time(pid):
                    holder = Holder(pid, started, now)
                    holder.take_rule(rule, argv, self.config)
                    self.holders[pid] = holder
                return

    def read_declared(self, now: float) -> None:
        changed_ns = (self.run / "mem").stat().st_mtime_ns
        # A second change within one tick of the kernel's clock leaves the time as it is.
        if changed_ns == self.declared_ns and time.time_ns() - changed_ns > 100_000_000:
            return
        self.declared_ns = changed_ns
        for name in os.listdir(self.run / "mem"):  # noqa: PTH208
            if not name.isdigit():
                continue
            pid = int(name)
            try:
                mib = {
                    int(gpu): float(value) for gpu, value in json.loads((self.run / "mem" / name).read_text()).items()
                }
            except (OSError, ValueError):
                continue
            holder = self.holders.get(pid)
            if holder is None:
                started = start_time(pid)
                if started is None:
                    (self.run / "mem" / name).unlink(missing_ok=True)
                    continue
                holder = self.holders[pid] = Holder(pid, started, now)
            holder.declared, holder.mib = True, mib

    def wanted_mib(self, gpu: int) -> float:
        """MiB that lie on the card besides what is reserved; may be more than the card has."""
        held = sum(h.mib.get(gpu, 0.0) for h in (*self.holders.values(), *self.dead))
        foreign = sum(p["mib"] for p in self.config["processes"] if p.get("gpu", 0) == gpu)
        return float(self.config["gpus"][gpu]["base_used_mib"] + held + foreign)

    def process_lines(self, gpu: int) -> list[str]:
        listed = [*self.holders.values(), *(self.dead if self.config["list_dead"] else [])]
        rows = [(h.pid, h.mib[gpu], "C") for h in listed if h.mib.get(gpu)]
        rows += [(p["pid"], p["mib"], p.get("type", "C")) for p in self.config["processes"] if p.get("gpu", 0) == gpu]
        known = self.config["process_memory"]
        return [f"proc\t{gpu}\t{pid}\t{int(mib * MIB) if known else -1}\t{kind}" for pid, mib, kind in rows]

    def write_state(self) -> None:
        held = [[(one.pid, *one.mib.items()) for one in some] for some in (self.holders.values(), self.dead)]
        if held == self.last_held:
            return
        self.last_held = held
        self.wanted = [self.wanted_mib(gpu) for gpu in range(len(self.config["gpus"]))]
        config = self.config
        lines = [f"driver\t{config['driver']}", f"nvml\t{config['nvml']}", f"cuda\t{config['cuda']}"]
        faults = list(config["faults"])
        for index, gpu in enumerate(config["gpus"]):
            total, reserved = gpu["total_mib"] * MIB, gpu["reserved_mib"] * MIB
            used = min(int(self.wanted_mib(index) * MIB), total - reserved)

            def field(name: str, scale: int = 1, gpu: dict[str, Any] = gpu) -> int:
                return -1 if gpu[name] is None else int(gpu[name] * scale)

            major, minor = gpu["compute_capability"]
            values = [index, total, reserved, used, field("util"), field("memutil"), field("temp_c")]
            values += [field("power_w", 1000), field("limit_w", 1000), gpu["clock_reasons"], gpu["minor"]]
            values += [major, minor, field("fan"), gpu["bus"], gpu["uuid"], gpu["name"]]
            lines.append("gpu\t" + "\t".join(map(str, values)))
            lines += self.process_lines(index)
            if not gpu["memory"]:
                faults.append({"function": "DeviceGetMemoryInfo", "gpu": index, "code": "NOT_SUPPORTED"})
        for fault in faults:
            code = CODES[fault["code"]] if isinstance(fault["code"], str) else fault["code"]
            lines.append(f"fault\t{fault['function']}\t{fault.get('gpu', -1)}\t{code}")
        if event := config["event"]:
            lines.append(
                f"event\t{self.event_sequence}\t{event.get('gpu', 0)}\t{event.get('type', 8)}\t{event['data']}"
            )
        state = "\n".join(lines) + "\n"
        if state != self.last_state:
            self.last_state = state
            write_atomically(self.run / "state", state)
            self.note_change()

    def note_change(self) -> None:
        gpus = range(len(self.config["gpus"]))
        held = {h.pid: h.mib for h in self.holders.values() if h.mib}
        dead = {h.pid: h.mib for h in self.dead if h.mib}
        entry = {
            "t": time.time(),
            "wanted_mib": [round(self.wanted_mib(g), 1) for g in gpus],
            "held": held,
            "dead": dead,
        }
        self.timeline.write(json.dumps(entry) + "\n")

    def count(self, now: float) -> None:
        wanted = self.wanted
        over = False
        for index, (gpu, mib) in enumerate(zip(self.config["gpus"], wanted, strict=True)):
            if mib + gpu["reserved_mib"] > gpu["total_mib"]:
                self.overcommitted[index] += 1
                over = True
            over = over or mib > self.high_water[index]
            self.high_water[index] = max(self.high_water[index], mib)
        if over or now - self.last_stats > 0.05:
            self.last_stats = now
            stats = {
                "t": time.time(),
                "samples": self.round,
                "wanted_mib": wanted,
                "high_water_mib": self.high_water,
                "overcommitted_samples": self.overcommitted,
            }
            write_atomically(self.run / "stats.json", json.dumps(stats))

    def play(self) -> None:
        while True:
            now = time.monotonic()
            self.reload()
            self.look(now)
            self.write_state()
            self.count(now)
            time.sleep(max(0.001, self.config["interval_s"] - (time.monotonic() - now)))


def go_before_others() -> None:
    """A tiny model is loaded in 14 ms: on a busy machine a player that waits for its turn would stop it too late."""
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    except OSError:
        with contextlib.suppress(OSError):
            os.nice(-15)


if __name__ == "__main__":
    go_before_others()
    Player(Path(sys.argv[1])).play()
