"""Whoever names a process, a model or a file cannot make the operator's terminal obey him."""

import ast
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click.testing
import pytest

from gpumod_tui.adapters.proc.processes import ProcFs
from gpumod_tui.cli import _switching, status
from gpumod_tui.cli._output import say, say_text
from gpumod_tui.core.events import Step, StepEnded, StepProgress, StepStarted
from gpumod_tui.core.switch.manager import Manager
from gpumod_tui.core.switch.records import SwitchError
from gpumod_tui.core.text import harmless, in_one_line
from gpumod_tui.demo.host import DemoHost

TITLE = "\x1b]0;x\x07"
"""A terminal that reads it calls its window x."""


@pytest.fixture
def stranger() -> Iterator[int]:
    """A process that chose its own name; its pid."""
    process = subprocess.Popen([f"{TITLE}python3", "-c", "import time; time.sleep(60)"], executable=sys.executable)
    # Until then the command line is still the one of this process.
    end = time.monotonic() + 30.0
    while TITLE not in " ".join(ProcFs().arguments(process.pid)):
        assert time.monotonic() < end
        time.sleep(0.01)
    yield process.pid
    process.kill()
    process.wait()


@pytest.fixture
def host(stranger: int) -> DemoHost:
    """A box with that process on its GPU."""
    info = ProcFs().describe(stranger)
    assert info is not None
    assert TITLE in info.command
    played = DemoHost()
    played.foreign(20_000, command=info.command)
    return played


def test_a_process_that_status_names(host: DemoHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "real_host", lambda: host)
    done = click.testing.CliRunner().invoke(status.status)
    assert "\ufffd]0;x\ufffdpython3 pid " in done.stdout
    assert "\x1b" not in done.stdout
    as_json = click.testing.CliRunner().invoke(status.status, ["--json"])
    assert "\\u001b]0;x\\u0007python3" in as_json.stdout


def test_a_process_that_a_refusal_names(host: DemoHost, capsys: pytest.CaptureFixture[str]) -> None:
    manager = Manager(host)
    assert _switching.tell_plan(manager.plan("code"), as_json=False) == 3
    _switching.tell_result(manager.switch_mode("code"), as_json=False)
    manager.close()
    said = capsys.readouterr()
    assert "refused" in said.err
    assert "\ufffd]0;x\ufffdpython3 pid " in said.err
    assert "\x1b" not in said.out + said.err


def test_an_answer_of_a_server_and_last_words_of_a_unit(capsys: pytest.CaptureFixture[str]) -> None:
    error = SwitchError(f"load: {TITLE}\n  gpumod: done", step="load", hint=f"see {TITLE}")
    _switching.tell_error(error)
    assert capsys.readouterr().err == "  load: \ufffd]0;x\ufffd gpumod: done\n  next: see \ufffd]0;x\ufffd\n"


@pytest.mark.parametrize("live", [False, True])
def test_a_switch_as_it_goes_on(
    live: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_switching, "is_terminal", lambda: live)
    view = _switching.View(quiet=False)
    view(StepStarted(Step.RELEASE, TITLE))
    view(StepProgress(Step.RELEASE, TITLE))
    view(StepEnded(Step.RELEASE, True, TITLE, 1.0))
    assert view.finish()
    said = capsys.readouterr().out
    assert "\ufffd]0;x\ufffd" in said
    assert TITLE not in said
    assert said.count("\x1b") == (3 if live else 0)


def test_what_is_said_is_one_line_and_text_stays_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    say("  two\n   lines\r\nor\x85three")
    say()
    say_text("[Unit]\n\tA=1\n\x1b\n\nB=2")
    assert capsys.readouterr().out == "  two lines or three\n\n[Unit]\n\tA=1\n\ufffd\n\nB=2"


def test_what_no_terminal_obeys_is_kept() -> None:
    text = "a\tb\xa0é漢 ✔ ▸ \u202f–"
    assert harmless(text) == in_one_line(text) == text
    everything = "".join(chr(code) for code in range(0x20)) + "".join(chr(code) for code in range(0x7F, 0xA0))
    assert set(harmless(everything)) == {"\t", "\ufffd"}


def test_no_command_prints_past_it() -> None:
    folder = Path(_switching.__file__).parent
    found = {
        (path.name, ast.unparse(call.func))
        for path in sorted(folder.glob("*.py"))
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call) and ast.unparse(call.func) in PRINTERS
    }
    assert found == {
        ("_output.py", "click.echo"),
        ("_switching.py", "sys.stdout.write"),
        ("_watch.py", "sys.stdout.write"),
    }


PRINTERS = {"print", "click.echo", "click.secho", "click.style", "sys.stdout.write", "sys.stderr.write", "os.write"}
