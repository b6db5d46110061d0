"""What the doctor finds on sockets, the guard and ports."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from gpumod_tui.adapters.proc.sockets import open_sockets
from gpumod_tui.core.doctor.checks import network as reach
from gpumod_tui.core.doctor.facts import LoadedUnit, OpenSocket, OpenSockets, Severity
from gpumod_tui.core.models import DriverKind, Listener, Service
from gpumod_tui.core.units.addresses import is_loopback
from gpumod_tui.core.units.guard import GUARD_SOCKET
from tests.unit._findings import errors, only


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.9.10", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("::ffff:0.0.0.0", False),
        ("::ffff:10.0.0.1", False),
        ("192.168.1.2", False),
        ("fe80::1%eth0", False),
        ("", False),
        ("*", False),
    ],
)
def test_loopback_is_what_only_this_host_reaches(address: str, expected: bool) -> None:
    assert is_loopback(address) is expected


@pytest.mark.parametrize(
    ("family", "kind", "address", "protocol"),
    [
        (socket.AF_INET, socket.SOCK_STREAM, "127.0.0.1", "tcp"),
        (socket.AF_INET, socket.SOCK_STREAM, "0.0.0.0", "tcp"),
        (socket.AF_INET6, socket.SOCK_STREAM, "::1", "tcp"),
        (socket.AF_INET6, socket.SOCK_STREAM, "::", "tcp"),
        (socket.AF_INET6, socket.SOCK_STREAM, "::ffff:127.0.0.1", "tcp"),
        (socket.AF_INET, socket.SOCK_DGRAM, "0.0.0.0", "udp"),
        (socket.AF_INET6, socket.SOCK_DGRAM, "::1", "udp"),
    ],
)
def test_an_open_socket_is_found_with_its_address(family: int, kind: int, address: str, protocol: str) -> None:
    with socket.socket(family, kind) as one:
        try:
            one.bind((address, 0))
        except OSError:
            pytest.skip(f"{address} cannot be bound here")
        if protocol == "tcp":
            one.listen()
        port = one.getsockname()[1]
        assert OpenSocket(os.getpid(), protocol, address, port) in open_sockets(Path("/proc"), [os.getpid()]).sockets
    assert not [one for one in open_sockets(Path("/proc"), [os.getpid()]).sockets if one.port == port]


def test_connections_and_bound_sockets_that_do_not_listen_are_none() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        with socket.create_connection(server.getsockname()) as client, server.accept()[0]:
            found = open_sockets(Path("/proc"), [os.getpid()]).sockets
            ports = {one.port for one in found}
            assert server.getsockname()[1] in ports
            assert client.getsockname()[1] not in ports
            assert bound.getsockname()[1] not in ports


def test_another_processs_sockets_are_not_laid_to_this_one() -> None:
    with socket.create_server(("0.0.0.0", 0)) as server:
        port = server.getsockname()[1]
        sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        try:
            assert not [one for one in open_sockets(Path("/proc"), [sleeper.pid]).sockets if one.port == port]
        finally:
            sleeper.kill()
            sleeper.wait()


def test_a_process_whose_descriptors_are_closed_to_us_is_named(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "fd").write_text("not a folder, as good as one that may not be read")
    assert open_sockets(tmp_path, [7, 8]) == OpenSockets((), (7,))
    (found,) = reach.check_sockets({"a.service": (7,)}, lambda pids: OpenSockets((), tuple(pids)), lambda _: "secret")
    assert found.severity is Severity.WARNING
    assert "secret pid 7" in found.what


def test_a_server_open_to_the_network_is_an_error_that_names_all() -> None:
    sockets = OpenSockets((OpenSocket(4, "tcp", "0.0.0.0", 7070), OpenSocket(4, "tcp", "127.0.0.1", 41234)))
    (found,) = reach.check_sockets({"a.service": (4,)}, lambda _: sockets, lambda _: "llama-server")
    assert found.severity is Severity.ERROR
    assert found.what == "a.service: llama-server pid 4 listens on 0.0.0.0:7070, beyond loopback"
    assert "systemctl --user stop a.service" in found.todo


def test_ipv6_is_written_with_brackets_and_udp_is_a_warning() -> None:
    sockets = OpenSockets((OpenSocket(4, "tcp", "::", 7070), OpenSocket(4, "udp", "0.0.0.0", 53)))
    found = list(reach.check_sockets({"a.service": (4,)}, lambda _: sockets, lambda _: "x"))
    assert [one.severity for one in found] == [Severity.ERROR, Severity.WARNING]
    assert "[::]:7070" in found[0].what
    assert "UDP on 0.0.0.0:53" in found[1].what


def test_loopback_sockets_are_fine() -> None:
    sockets = OpenSockets((OpenSocket(4, "tcp", "127.0.0.1", 1), OpenSocket(4, "tcp", "::1", 2)))
    (found,) = reach.check_sockets({"a.service": (4,)}, lambda _: sockets, lambda _: "x")
    assert (found.severity, found.what) == (Severity.OK, "open sockets: 2, of 1 units, all on loopback")


@pytest.mark.parametrize(
    ("listens", "bad"),
    [
        (("127.0.0.1:7070", "[::1]:7070", "/run/user/1000/gpumod/g.sock"), []),
        (("127.0.0.1:7070", "[::]:7071"), ["[::]:7071"]),
        (("0.0.0.0:7070",), ["0.0.0.0:7070"]),
        (("7070",), ["7070"]),
    ],
)
def test_the_guards_socket_unit(listens: tuple[str, ...], bad: list[str]) -> None:
    found = list(reach.check_guard(LoadedUnit(GUARD_SOCKET, "loaded", listens=listens), is_up=True))
    assert [one.what for one in errors(found)] == [f"{GUARD_SOCKET} listens on {text}, beyond loopback" for text in bad]
    assert bool(only(found, Severity.OK)) is not bool(bad)


def test_a_guard_that_is_not_installed_is_no_matter() -> None:
    assert list(reach.check_guard(LoadedUnit(GUARD_SOCKET), is_up=False)) == []


def test_a_guard_that_does_not_listen_is_a_warning() -> None:
    unit = LoadedUnit(GUARD_SOCKET, "loaded", listens=("127.0.0.1:7070",))
    (found,) = reach.check_guard(unit, is_up=False)
    assert (found.severity, found.todo) == (Severity.WARNING, f"systemctl --user start {GUARD_SOCKET}")


# -- ports

GLM = Service("glm", "GLM", DriverKind.LLAMACPP, port=7070)
NEMO = Service("nemo", "Nemotron", DriverKind.LLAMACPP, port=7070)


@pytest.mark.parametrize(
    ("listener", "guarded", "severity"),
    [
        (None, False, Severity.OK),
        (Listener(7070, 4, "glm.service", "llama-server"), False, Severity.OK),
        (Listener(7070, 4, "nemo.service", "llama-server"), False, Severity.OK),
        (Listener(7070, 4, "gpumod-guard.service", "python"), True, Severity.OK),
        (Listener(7070, 1, "init.scope", "systemd"), True, Severity.OK),
        (Listener(7070, 1, "init.scope", "systemd"), False, Severity.ERROR),
        (Listener(7070, 9, None, "nginx"), True, Severity.ERROR),
        (Listener(7070, 9, "web.service", "nginx"), False, Severity.ERROR),
        (Listener(7070, None, None), False, Severity.ERROR),
        (Listener(7070, None, None), True, Severity.ERROR),
        (Listener(7070, None, None, is_ours=True), True, Severity.OK),
        (Listener(7070, None, None, is_ours=True), False, Severity.ERROR),
    ],
)
def test_a_port_belongs_to_its_services_and_the_guard(
    listener: Listener | None, guarded: bool, severity: Severity
) -> None:
    held = () if listener is None else (listener,)
    found = list(reach.check_ports([GLM, NEMO], {"glm"}, {7070} if guarded else set(), lambda _: held))
    assert [one.severity for one in found] == [severity]
    if severity is Severity.ERROR:
        assert "port 7070 of glm, nemo" in found[0].what


def test_a_taken_port_of_services_that_are_not_installed_is_a_warning() -> None:
    held = (Listener(7070, 9, "web.service", "nginx"),)
    (found,) = reach.check_ports([GLM], set(), set(), lambda _: held)
    assert (found.severity, found.todo) == (Severity.WARNING, "systemctl --user stop web.service")


def test_the_ports_of_a_socket_unit() -> None:
    unit = LoadedUnit("g.socket", listens=("127.0.0.1:7070", "[::1]:8080", "/run/x.sock"))
    assert reach.ports_of(unit) == {7070, 8080}


# -- the door
