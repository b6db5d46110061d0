"""Routers on unix sockets and the guard before them, as units of the bed."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.bed.host import install_unit, run, systemctl, unit_properties, wait_until

GUARD = "gpumod-guard.service"
PORT = 7070
GLM = "GLM-4.7-Flash-UD-Q4_K_XL"
NEMOTRON = "Nemotron-3-Nano-30B-A3B-UD-Q4_K_XL"


def runtime() -> Path:
    return Path(os.environ["XDG_RUNTIME_DIR"]) / "gpumod"


def socket_of(service: str) -> Path:
    return runtime() / f"{service}.sock"


def known_ledger() -> None:
    """The ledger is there before anything runs, as the first ExecCondition leaves it: a new one is doubted at first."""
    from gpumod_tui.wiring import real_host

    real_host().admission.take_stock()


def start_router(service: str, *options: str, models: Path | None = None, models_max: int = 4) -> None:
    """A router as its unit runs it: no autoload, on its unix socket only."""
    runtime().mkdir(mode=0o700, exist_ok=True)
    folder = models or Path.home() / "models"
    command = f"{shutil.which('llama-server')} --models-dir {folder} --no-models-autoload --models-max {models_max}"
    # The lines of Test 3's unit, but for its ExecCondition.
    install_unit(
        f"{service}.service",
        f"""[Service]
Type=exec
Slice=gpumod.slice
SyslogIdentifier=%n
ExecStartPre=/bin/rm -f %t/gpumod/{service}.sock
ExecStart={command} --ctx-size 512 --parallel 1 {" ".join(options)} --host %t/gpumod/{service}.sock
SuccessExitStatus=143
KillMode=control-group
TimeoutStopSec=15
""",
    )
    systemctl("restart", f"{service}.service")
    wait_until(lambda: direct(service, "GET", "/health").status == 200, what=f"{service} answers")


def start_guard(*, ports: tuple[int, ...] = (PORT,), env: Mapping[str, str] | None = None) -> None:
    """Socket-activated, as gpumod-guard.socket does it."""
    listen = [f"--socket-property=ListenStream=127.0.0.1:{port}" for port in ports]
    given = {"GPUMOD_DEBUG": "1", "MALLOC_ARENA_MAX": "1", "PATH": os.environ["PATH"], **(env or {})}
    for name in ("LD_LIBRARY_PATH", "GPUMOD_BED_RUN", "PYTHONPATH"):
        if name in os.environ:
            given[name] = os.environ[name]
    run(
        "systemd-run",
        "--user",
        "--unit=gpumod-guard",
        *listen,
        "--property=Type=exec",
        f"--property=SyslogIdentifier={GUARD}",
        f"--working-directory={Path.cwd()}",
        *(f"--setenv={name}={value}" for name, value in given.items()),
        sys.executable,
        "-m",
        "gpumod_tui",
        "guard",
        check=True,
    )


def guard_pid() -> int:
    """0: it does not run."""
    return int(unit_properties(GUARD, "MainPID")["MainPID"] or 0)


@dataclass(slots=True)
class Reply:
    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class _Unix(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("127.0.0.1", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _exchange(
    connection: http.client.HTTPConnection, method: str, path: str, body: object, headers: Mapping[str, str]
) -> Reply:
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    try:
        connection.request(method, path, data, {"Content-Type": "application/json", **headers})
        answer = connection.getresponse()
        return Reply(answer.status, answer.read(), {name.lower(): value for name, value in answer.getheaders()})
    except OSError:
        return Reply(0)
    finally:
        connection.close()


def direct(service: str, method: str, path: str, body: object = None, *, timeout_s: float = 30.0) -> Reply:
    """Past the guard. Status 0: nobody answered."""
    return _exchange(_Unix(socket_of(service), timeout_s), method, path, body, {})


def ask(
    method: str,
    path: str,
    body: object = None,
    *,
    port: int = PORT,
    headers: Mapping[str, str] | None = None,
    timeout_s: float = 120.0,
) -> Reply:
    """Through the guard. Status 0: nobody answered."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    return _exchange(connection, method, path, body, headers or {})


def wait_delivered(service: str, asker: int) -> None:
    """Until a request of the process `asker` lies unread in the socket of a router that is stopped."""
    path = str(socket_of(service))

    def lies_there() -> bool:
        # Netid, state, bytes to read, bytes sent and not read, address, inode, peer's address, peer's inode, process
        rows = [line.split() for line in run("ss", "-xHap", check=True).stdout.splitlines()]
        accepted = {row[5] for row in rows if row[4] == path and row[1] == "ESTAB"}
        sent = [row[7] for row in rows if row[1] == "ESTAB" and int(row[3]) > 0 and f"pid={asker}," in row[-1]]
        # The peer of a connection that is not accepted yet is 0.
        return any(peer == "0" or peer in accepted for peer in sent)

    wait_until(lies_there, what=f"a request of pid {asker} lies in {path}")


def chat(model: str, **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4, **more}


def statuses(service: str) -> dict[str, str]:
    """What the router itself says of its models."""
    return {entry["id"]: entry["status"]["value"] for entry in direct(service, "GET", "/models").json["data"]}


def truth() -> tuple[str | None, str]:
    """What `gpumod mode status` says: the mode and whether it is reached."""
    view: dict[str, Any] = json.loads(run("gpumod", "mode", "status", "--json").stdout)["mode"]
    return view["mode"], view["truth"]


def ledger() -> list[dict[str, Any]]:
    """The commitments on disk."""
    try:
        found: list[dict[str, Any]] = json.loads((runtime() / "ledger.json").read_text())["state"]["commitments"]
    except FileNotFoundError:
        return []
    return found


def children(service: str) -> dict[str, int]:
    """Models that have a process of the unit, by id."""
    from tests.bed.host import cgroup_pids

    found = {}
    for pid in cgroup_pids(f"{service}.service"):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if "--alias" in words:
            found[words[words.index("--alias") + 1]] = pid
    return found
