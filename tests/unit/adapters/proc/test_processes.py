"""Who a process is: its unit, its cgroup, its port, read from /proc as it is and as it may be."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gpumod_tui.adapters.proc.processes import ProcFs, innermost_unit, short_command, unit_in_path
from gpumod_tui.core.errors import NotPermitted, SystemdUnavailable
from gpumod_tui.core.models import GpuProcess, GpuReading, GpuSample
from gpumod_tui.core.status.attribution import attribute, find_holders

MANAGER = "/user.slice/user-1000.slice/user@1000.service"


@pytest.mark.parametrize(
    ("path", "unit"),
    [
        (f"{MANAGER}/gpumod.slice/glm-code.service", "glm-code.service"),
        (f"{MANAGER}/app.slice/run-r12.scope/child", "run-r12.scope"),
        (f"{MANAGER}/init.scope", "init.scope"),
        (f"{MANAGER}/gpumod.slice/box.service/system.slice/inner.service", "box.service"),
        (f"{MANAGER}/gpumod.slice/box.service{MANAGER}/gpumod.slice/a.service", "box.service"),
        (rf"{MANAGER}/app.slice/dbus-\x2d1.service", r"dbus-\x2d1.service"),
        (f"{MANAGER}/gpumod.slice/_io.service", "io.service"),
        (f"{MANAGER}/gpumod.slice/no-unit/a.service", None),
        (f"/docker/0123abcd{MANAGER}/gpumod.slice/a.service", None),
        (f"/../other{MANAGER}/gpumod.slice/a.service", None),
        ("/user.slice/user-1000.slice/user@1000.service.d/gpumod.slice/a.service", None),
        ("/user.slice/user-1001.slice/user@1001.service/gpumod.slice/a.service", None),
        ("/system.slice/a.service", None),
        ("/system.slice/outer.service/inner.service", None),
        (MANAGER, None),
        ("/user.slice/user-1000.slice/session-3.scope", None),
        ("/", None),
        ("", None),
    ],
)
def test_only_below_our_own_manager_a_cgroup_is_of_a_unit_of_ours(path: str, unit: str | None) -> None:
    assert unit_in_path(path, MANAGER) == unit


@pytest.mark.parametrize(
    ("manager", "path", "unit"),
    [
        (f"/docker/0123abcd{MANAGER}", f"/docker/0123abcd{MANAGER}/gpumod.slice/a.service", "a.service"),
        (f"/docker/0123abcd{MANAGER}", f"/docker/4567{MANAGER}/gpumod.slice/a.service", None),
        (f"/docker/0123abcd{MANAGER}", f"{MANAGER}/gpumod.slice/a.service", None),
        ("", "/gpumod.slice/a.service", "a.service"),
        ("/", "/gpumod.slice/a.service", "a.service"),
        ("", "/../system.slice/a.service", None),
    ],
)
def test_wherever_our_manager_is(manager: str, path: str, unit: str | None) -> None:
    assert unit_in_path(path, manager) == unit


@pytest.mark.parametrize(
    ("path", "unit"),
    [
        ("/system.slice/docker-0123.scope", "docker-0123.scope"),
        (f"/docker/0123abcd{MANAGER}/gpumod.slice/_io.service/child", "io.service"),
        (MANAGER, "user@1000.service"),
        ("/docker/0123abcd", ""),
        ("", ""),
    ],
)
def test_where_somebody_elses_process_is_is_named(path: str, unit: str) -> None:
    assert innermost_unit(path) == unit


def played(proc: Path, pid: int, cgroup: str) -> None:
    folder = proc / str(pid)
    folder.mkdir()
    (folder / "cgroup").write_text(f"0::{cgroup}\n")
    (folder / "cmdline").write_bytes(b"server\0")
    (folder / "stat").write_text(f"{pid} (server) S 1")


OTHERS = (
    "/user.slice/user-1001.slice/user@1001.service/gpumod.slice/a.service",
    "/system.slice/a.service",
    f"/docker/0123abcd{MANAGER}/gpumod.slice/a.service",
)


def test_memory_in_a_unit_of_the_same_name_is_not_our_units(tmp_path: Path) -> None:
    for pid, cgroup in enumerate((f"{MANAGER}/gpumod.slice/a.service", *OTHERS)):
        played(tmp_path, pid, cgroup)
    reading = GpuReading(0.0, "1", (GpuSample(0, processes=tuple(GpuProcess(pid, 10 + pid) for pid in range(4))),))
    processes = ProcFs(tmp_path, lambda: MANAGER)
    held = attribute(reading, processes, ["a.service"])
    assert held.by_unit == {"a.service": {0: 10}}
    assert {(holder.pid, holder.unit, holder.elsewhere) for holder in held.orphans} == {
        (pid, None, "a.service") for pid in (1, 2, 3)
    }
    user = held.orphans[0].user
    assert str(held.orphans[0]) == f"server pid 3 (a.service of {user}, not ours) 0 MiB"


def test_where_our_managers_cgroup_is_unknown_no_memory_is_anybodys_and_it_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    played(tmp_path, 7, f"{MANAGER}/gpumod.slice/a.service")
    known = False
    asked = 0

    def manager() -> str:
        nonlocal asked
        asked += 1
        if not known:
            raise SystemdUnavailable("no bus")
        return MANAGER

    reading = GpuReading(0.0, "1", (GpuSample(0, processes=(GpuProcess(7, 10),)),))
    processes = ProcFs(tmp_path, manager)
    assert [(holder.unit, holder.elsewhere) for holder in find_holders(processes, reading)] == [(None, "a.service")]
    with pytest.raises(SystemdUnavailable, match="no bus"):
        processes.unit_of(7)
    assert asked == 1, "not for every process"
    known = True
    later = time.monotonic() + 60
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert processes.unit_of(7) == "a.service"
    known = False
    assert processes.unit_of(7) == "a.service"


def test_a_hybrid_hosts_other_hierarchies_do_not_count(tmp_path: Path) -> None:
    folder = tmp_path / "7"
    folder.mkdir()
    lines = ["4:memory:/system.slice/wrong.service", f"0::{MANAGER}/gpumod.slice/right.service (deleted)", ""]
    (folder / "cgroup").write_text("\n".join(lines))
    processes = ProcFs(tmp_path, lambda: MANAGER)
    assert processes.unit_of(7) == "right.service"
    (folder / "cgroup").write_text(lines[0])
    assert processes.unit_of(7) is None
    assert processes.unit_of(8) is None


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["/usr/bin/llama-server", "--port", "7070"], "llama-server"),
        (["/v/bin/python3.11", "/v/bin/vllm", "serve", "m"], "python3.11 vllm"),
        (["python", "-m", "uvicorn", "app:app"], "python -m uvicorn"),
        (["python3", "-u", "serve.py"], "python3 serve.py"),
        (["VLLM::EngineCore"], "VLLM::EngineCore"),
        (["nginx: worker process"], "nginx:"),
        (["bash"], "bash"),
        ([], ""),
    ],
)
def test_a_command_gets_a_short_name(arguments: list[str], name: str) -> None:
    assert short_command(arguments) == name


def test_a_process_is_described_until_it_is_gone() -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    info = ProcFs().describe(process.pid)
    assert info is not None
    assert info.command.startswith("python")
    assert info.user
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    zombie = ProcFs().describe(process.pid)
    assert zombie is not None
    assert (zombie.state, zombie.command) == ("Z", Path(sys.executable).name[:15])
    process.wait()
    assert ProcFs().describe(process.pid) is None


def test_a_name_with_parentheses_does_not_hide_the_state(tmp_path: Path) -> None:
    folder = tmp_path / "9"
    folder.mkdir()
    (folder / "stat").write_text("9 (a) R (b) D 1 9 9")
    (folder / "cmdline").write_bytes(b"")
    (folder / "cgroup").write_text("0::/\n")
    info = ProcFs(tmp_path).describe(9)
    assert info is not None
    assert (info.command, info.state) == ("a) R (b", "D")


def test_processes_of_a_cgroup_and_below(tmp_path: Path) -> None:
    mount = tmp_path / "with space"
    group = mount / "a.slice" / "b.service"
    (group / "child").mkdir(parents=True)
    (group / "cgroup.procs").write_text("12\n10\n")
    (group / "child" / "cgroup.procs").write_text("11\n")
    (tmp_path / "self").mkdir()
    escaped = str(mount).replace(" ", r"\040")
    mountinfo = (
        f"30 1 0:1 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n41 31 0:38 / {escaped} rw,relatime - cgroup2 cgroup2 rw\n"
    )
    (tmp_path / "self" / "mountinfo").write_text(mountinfo)
    proc = ProcFs(tmp_path)
    assert proc.in_cgroup("/a.slice/b.service") == (10, 11, 12)
    assert proc.in_cgroup("/a.slice/gone.service") == ()
    # The whole hierarchy must never be taken for the cgroup of a unit that has none.
    (mount / "cgroup.procs").write_text("1\n")
    assert proc.in_cgroup("") == ()
    assert proc.in_cgroup("/") == ()
    (tmp_path / "self" / "mountinfo").write_text("")
    with pytest.raises(SystemdUnavailable, match="cgroup v2"):
        proc.in_cgroup("/a.slice/b.service")


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "::1"])
def test_listeners_are_found_on_any_address(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as listener:
        listener.bind((address, 0))
        port = listener.getsockname()[1]
        assert ProcFs().listeners(port) == ()
        listener.listen()
        (found,) = ProcFs().listeners(port)
        assert (found.port, found.pid, found.addresses) == (port, os.getpid(), (address,))
        assert found.command
    assert ProcFs().listeners(port) == ()


def test_all_addresses_of_one_process_are_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.socket(socket.AF_INET6) as other:
        other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        other.bind(("::", one.getsockname()[1]))
        other.listen()
        (found,) = ProcFs().listeners(one.getsockname()[1])
        assert found.addresses == ("127.0.0.1", "::")


def test_a_connection_is_no_listener() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        assert ProcFs().listeners(client.getsockname()[1]) == ()


@pytest.mark.parametrize("mine", [True, False])
def test_a_listener_that_cannot_be_looked_into_is_named_without_a_process(tmp_path: Path, mine: bool) -> None:
    """Another user's, or a process of one's own that has capabilities."""
    (tmp_path / "net").mkdir()
    uid = os.getuid() if mine else os.getuid() + 1
    entry = f"   0: 0100007F:1B9E 00000000:0000 0A 00000000:00000000 00:00000000 00000000 {uid} 0 4242 1 0 100 0\n"
    (tmp_path / "net" / "tcp").write_text(f"  sl  local_address rem_address\n{entry}")
    (found,) = ProcFs(tmp_path).listeners(0x1B9E)
    assert (found.pid, found.unit, found.command, found.is_ours) == (None, None, None, mine)
    assert found.addresses == ("127.0.0.1",)


def test_host_memory_is_known_or_unknown(tmp_path: Path) -> None:
    available = ProcFs().host_available_bytes()
    assert available is not None
    assert available > 0
    assert ProcFs(tmp_path).host_available_bytes() is None


def test_a_signal_reaches_the_process_that_was_meant_and_no_other() -> None:
    processes = ProcFs()
    child = subprocess.Popen(["sleep", "60"])
    try:
        start = processes.start_time(child.pid)
        assert start is not None
        assert not processes.signal(child.pid, start + 1, signal.SIGTERM)
        assert child.poll() is None
        assert processes.signal(child.pid, start, signal.SIGTERM)
        assert child.wait(10) == -signal.SIGTERM
        assert not processes.signal(child.pid, start, signal.SIGTERM)
    finally:
        child.kill()
        child.wait()


def test_who_may_not_signal_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_descriptor: int, _number: int) -> None:
        raise PermissionError

    monkeypatch.setattr(signal, "pidfd_send_signal", refuse)
    processes = ProcFs()
    with pytest.raises(NotPermitted, match="belongs to another user"):
        processes.signal(os.getpid(), processes.start_time(os.getpid()) or 0, signal.SIGTERM)


def test_since_when_a_process_runs_and_whose_it_is() -> None:
    before = time.time()
    child = subprocess.Popen(["sleep", "60"])
    try:
        about = ProcFs().describe(child.pid)
        assert about is not None
        assert about.started_at is not None
        # btime is in whole seconds, and ticks are hundredths.
        assert before - 2 < about.started_at < time.time() + 2
        assert about.is_ours
    finally:
        child.kill()
        child.wait()
