"""Runs single tests inside beds, each in a fork of a pytest that has collected and run nothing.

A bed would else have to import pytest, gpumod and the tests anew, which takes longer than most of the tests.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
from _pytest.runner import runtestprotocol

NAMESPACES: Final = ("pid", "mnt", "net", "ipc", "cgroup")
PR_SET_PDEATHSIG: Final = 1
PR_SET_DUMPABLE: Final = 4
NVML: Final = Path("/run/gpumod-bed/lib/libnvidia-ml.so.1")
REPORTS: Final = "reports.jsonl"
OUTPUT: Final = "output"
FAILED: Final = 70
"""Exit status of a fork that could not enter its bed; the reason is in the output."""


class ForkServer:
    """The process that forks. It is itself a fork of this pytest, without its threads and open capture files."""

    def __init__(self, session: pytest.Session) -> None:
        self._channel, theirs = socket.socketpair()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # the threads of execnet hold no lock that we take
            self._pid = os.fork()
        if self._pid == 0:
            try:
                self._channel.close()
                serve(session, theirs)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(FAILED)
        theirs.close()
        self._channel.recv(64)

    def run(self, nodeid: str, bed: subprocess.Popen[Any], share: Path) -> None:
        """Begins a test in the bed of this `enter`; its reports go to `share`."""
        self._channel.sendall((json.dumps([nodeid, bed.pid, str(share)]) + "\n").encode())

    def wait(self, timeout_s: float) -> int | None:
        """The exit status of the test's process; None: it has not ended within `timeout_s`."""
        if not select.select([self._channel], [], [], timeout_s)[0]:
            return None
        return int(self._channel.recv(64) or FAILED)

    def close(self) -> None:
        """Ends the server; a test that still runs ends with its bed."""
        self._channel.close()
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)


def serve(session: pytest.Session, channel: socket.socket) -> None:
    """Answers each request with the exit status of the fork that ran it."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    plugins = session.config.pluginmanager
    capture: Any = plugins.getplugin("capturemanager")
    if capture is not None:
        capture.stop_global_capturing()
    for name in ("workerinteractor", "terminalreporter"):
        if plugins.has_plugin(name):
            plugins.unregister(name=name)
    items = {item.nodeid: item for item in session.items}
    channel.sendall(b"ready\n")
    for line in channel.makefile("r"):
        nodeid, enter_pid, share = json.loads(line)
        child = os.fork()
        if child == 0:
            output = os.open(Path(share) / OUTPUT, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            _apart(partial(_enter, items[nodeid], enter_pid, output), output)
        _, status = os.waitpid(child, 0)
        channel.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())


def _apart(what: Callable[[], int], output: int) -> None:
    """Does it and ends this process with its exit status; an exception is written to `output`, open since before."""
    status = FAILED
    try:
        status = what()
    except BaseException:
        os.write(output, traceback.format_exc().encode(errors="replace"))
    finally:
        os._exit(status if status >= 0 else 128 - status)


def _enter(item: pytest.Item, enter_pid: int, output: int) -> int:
    """Joins the namespaces and the cgroup of the bed. The test runs in a child: only that is in the pid namespace."""
    cgroup = _body(enter_pid)
    inside = int((cgroup / "cgroup.procs").read_text().split()[0])
    entries = Path(f"/proc/{inside}/environ").read_bytes().decode().split("\0")
    environment = dict(entry.partition("=")[::2] for entry in entries if entry)
    user = (Path(f"/proc/{inside}").stat().st_uid, Path(f"/proc/{inside}").stat().st_gid)
    namespaces = [os.open(f"/proc/{inside}/ns/{name}", os.O_RDONLY) for name in NAMESPACES]
    root = os.open(f"/proc/{inside}/root", os.O_RDONLY)
    (cgroup / "cgroup.procs").write_text("0")
    libc = ctypes.CDLL(None, use_errno=True)
    for namespace in namespaces:
        if libc.setns(namespace, 0):
            raise OSError(ctypes.get_errno(), "setns")
        os.close(namespace)
    # A mount namespace's root is that of the machine, also where the bed was entered in a chroot.
    os.fchdir(root)
    os.chroot(".")
    os.close(root)
    child = os.fork()
    if child == 0:
        _apart(partial(_run, item, user, environment, output), output)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def _body(enter_pid: int) -> Path:
    """The cgroup of the command that a bed runs."""
    for root in (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup")):
        for found in root.glob(f"gpumod-bed.{enter_pid}/user.slice/*/*/app.slice/body.scope"):
            return found
    raise FileNotFoundError(f"no cgroup of the bed {enter_pid}")


def _run(item: pytest.Item, user: tuple[int, int], environment: dict[str, str], output: int) -> int:
    """Becomes what the bed's command would be, and runs the test. Returns what pytest would exit with."""
    uid, gid = user
    share = Path(environment["GPUMOD_BED_SHARE"])
    os.setgroups([gid])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    _prctl(PR_SET_DUMPABLE, 1)  # else /proc/self belongs to root
    os.setsid()
    os.chdir(item.config.rootpath)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    tempfile.tempdir = None
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    # The loader took LD_LIBRARY_PATH when this program began; a library that is loaded is found by its soname.
    ctypes.CDLL(str(NVML))
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    if item.config.getoption("capture") != "no":
        os.dup2(output, 1)
        os.dup2(output, 2)
    capture: Any = item.config.pluginmanager.getplugin("capturemanager")
    if capture is not None:
        capture.start_global_capturing()
    factory: Any = item.config._tmp_path_factory  # type: ignore[attr-defined]
    factory._basetemp, factory._given_basetemp = None, Path(environment["TMPDIR"]) / "pytest"
    from tests.bed import plugin

    plugin.watch_limit(share / plugin.AT_LIMIT, float(environment["GPUMOD_BED_LIMIT_S"]))
    failed = False
    reports = runtestprotocol(item, log=False, nextitem=None)
    with (share / REPORTS).open("w") as file:
        for report in reports:
            failed |= report.failed
            data = item.config.hook.pytest_report_to_serializable(config=item.config, report=report)
            file.write(json.dumps(data) + "\n")
    sys.stdout.flush()
    sys.stderr.flush()
    return int(failed)


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
