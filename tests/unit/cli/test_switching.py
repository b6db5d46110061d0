"""A switch on the command line: signals that come too early, and state that cannot be read."""

import json
import os
import pty
import signal
import sys
import termios
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace

import pytest

from gpumod_tui.cli import _switching
from gpumod_tui.cli._switching import run_switch, tell_plan
from gpumod_tui.core.errors import StateUnavailable
from gpumod_tui.core.switch.manager import Manager
from gpumod_tui.core.switch.records import StepRecord, StoredState
from gpumod_tui.core.switch.results import ModeResult
from gpumod_tui.demo.host import DemoHost

NUMBERS = (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in NUMBERS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Watched(Manager):
    """Says when it was asked to cancel."""

    told: list[str]

    def cancel(self) -> None:
        self.told.append("cancel")


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    words: list[str] = []
    Watched.told = words
    monkeypatch.setattr(_switching, "Manager", Watched)
    return words


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_an_interrupt_before_there_is_a_job_reaches_it(told: list[str]) -> None:
    def submit(manager: Manager) -> "Future[ModeResult]":
        interrupt()
        told.append("submitted")
        return manager.submit_mode("rag")

    run_switch(DemoHost(), submit, as_json=True)
    assert told == ["submitted", "cancel"]


def test_an_interrupt_while_state_is_read_reaches_the_job(told: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    host = DemoHost()
    read = host.store.read

    def interrupted() -> StoredState:
        if "read" not in told:
            told.append("read")
            interrupt()
        return read()

    monkeypatch.setattr(host.store, "read", interrupted)
    run_switch(host, lambda manager: manager.submit_mode("rag"), as_json=False)
    assert told == ["read", "cancel"]


def test_an_interrupt_during_the_switch_cancels_it() -> None:
    host = DemoHost()

    def submit(manager: Manager) -> "Future[ModeResult]":
        host.at(0.1, lambda: os.kill(os.getpid(), signal.SIGINT))
        return manager.submit_mode("code")

    assert run_switch(host, submit, as_json=True) == 130


def test_state_that_cannot_be_read_is_a_warning_and_bars_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    host = DemoHost(running=["vllm-embedding"])

    def broken() -> StoredState:
        raise StateUnavailable("state.json: permission denied")

    monkeypatch.setattr(host.store, "read", broken)
    assert run_switch(host, lambda manager: manager.submit_mode("blank"), as_json=False) == 0
    assert "warning: state.json: permission denied" in capsys.readouterr().err


@pytest.mark.parametrize("as_json", [False, True])
def test_a_switch_that_was_interrupted_before_is_named(as_json: bool, capsys: pytest.CaptureFixture[str]) -> None:
    host = DemoHost(running=["vllm-embedding"])
    lock = host.store.acquire("code", pid=99)
    assert lock is not None
    lock.write(replace(lock.record, touched=True, steps=(StepRecord("load"),)))
    lock.release()
    assert run_switch(host, lambda manager: manager.submit_mode("blank"), as_json=as_json) == 0
    said = capsys.readouterr()
    assert "gpumod: warning: the switch to code by pid 99 was interrupted at step load" in said.err
    if as_json:
        assert json.loads(said.out)["success"]


def test_a_plan_names_the_models_that_it_loads(capsys: pytest.CaptureFixture[str]) -> None:
    host = DemoHost(running=("glm-code",))
    router = host.registry.service("glm-code")
    assert router.default_model is not None
    host.drivers(router).unload(router, router.default_model)
    plan = Manager(host).plan("code")
    assert plan.keep == ("glm-code",)
    tell_plan(plan, as_json=False)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.split()[0] == "load"]
    assert line.split() == ["load", "GLM-4.7-Flash-UD-Q4_K_XL", "(glm-code),", "20480", "MiB"]


def test_a_terminal_that_does_not_read_holds_up_no_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    master, slave = pty.openpty()
    termios.tcflow(slave, termios.TCOOFF)
    host = DemoHost()
    ended = threading.Event()

    def submit(manager: Manager) -> "Future[ModeResult]":
        future = manager.submit_mode("code")
        future.add_done_callback(lambda _future: ended.set())
        return future

    with os.fdopen(slave, "w", closefd=False) as stopped:
        monkeypatch.setattr(sys, "stdout", stopped)
        monkeypatch.setenv("TERM", "xterm")

        def read_again() -> None:
            ended.wait(60)
            termios.tcflow(slave, termios.TCOON)

        reader = threading.Thread(target=read_again)
        reader.start()
        code = run_switch(host, submit, as_json=False)
        reader.join()
    assert code == 0
    assert ended.is_set()
    assert host.store.read().recorded.mode == "code"
    text = os.read(master, 65536).decode()
    assert "verify" in text
    os.close(slave)
    os.close(master)
