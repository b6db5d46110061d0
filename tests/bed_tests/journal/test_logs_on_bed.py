"""The journal pane of the real program, at a real terminal, over a real journald: a flood, a search, the way back."""

import os
import shutil
import time
from pathlib import Path

import pytest

from tests.bed.host import install_unit, systemctl, wait_until
from tests.bed.terminal import dashboard

TOTAL = 20_000


@pytest.mark.bed
def test_a_flood_is_survived_searched_and_looked_back_through() -> None:
    program = Path.home() / "floods.sh"
    program.write_text(
        "#!/bin/bash\n"
        "printf 'first \\033[31mred\\033[0m \\033[2J\\033]0;title\\007 bad \\xff end\\n'\n"
        "while [ ! -e ~/go ]; do sleep 0.1; done\n"
        f"seq -f 'n%.0f of the flood' {TOTAL} | sed 's/^n77 /needle /'\n"
        "echo flood over; exec sleep 1000\n"
    )
    program.chmod(0o755)
    install_unit(
        "floods.service", f"[Service]\nType=exec\nSlice=gpumod.slice\nSyslogIdentifier=%n\nExecStart={program}\n"
    )
    systemctl("start", "floods.service")
    with dashboard(100, 30) as terminal:
        terminal.press("Tab", "z")
        terminal.wait("following", "first red  bad \ufffd end")
        (Path.home() / "go").write_text("")
        terminal.wait("of the flood")
        began = time.monotonic()
        terminal.press("f")
        terminal.wait("standing still")
        assert time.monotonic() - began < 20.0
        terminal.press("f")
        terminal.wait("flood over", "following", timeout_s=60.0)
        terminal.press("/")
        terminal.press(*"[79]99 of")
        terminal.press("Enter")
        terminal.wait(f"n{TOTAL - 1} of the flood", f"n{TOTAL - 201} of the flood", "/[79]99 of/")
        terminal.press("BSpace", "C-f", *"needle", "Enter")
        terminal.wait("No match among")

        def found() -> bool:
            terminal.press("N")
            return "▸" in terminal.text() and "needle of the flood" in terminal.text()

        wait_until(found, 30.0, what="the needle", interval_s=0.5)
        terminal.wait("n76 of the flood", "n78 of the flood", "1/1 match")
        terminal.press("BSpace", "t", *"-0s", "Enter")
        terminal.press("Home", "End")
        terminal.wait("following", "flood over")
        terminal.press("C-s", "C-u", *"~/saved.log", "Enter")
        terminal.wait("lines written to ~/saved.log")
        saved = (Path.home() / "saved.log").read_text().splitlines()
        assert saved[-1].endswith("info: flood over")
        assert len(saved) <= 15_000
        terminal.press("q")
        wait_until(lambda: "Journal" not in terminal.text(), what="the view ends")
    systemctl("stop", "floods.service")


@pytest.mark.bed
def test_a_unit_that_comes_later_is_followed_too() -> None:
    unit = "[Service]\nSlice=gpumod.slice\nSyslogIdentifier=%n\nExecStart=/bin/sh -c 'echo I am {0}; exec sleep 1000'\n"
    install_unit("early.service", unit.format("early"))
    systemctl("start", "early.service")
    with dashboard(100, 30) as terminal:
        terminal.press("z")
        terminal.wait("I am early", "following")
        install_unit("late.service", unit.format("late"))
        systemctl("start", "late.service")
        terminal.wait("I am late", "I am early", "following")
        systemctl("stop", "late.service")
        terminal.wait("Stopped late.service")
        terminal.press("q")
        wait_until(lambda: "Journal" not in terminal.text(), what="the view ends")
    systemctl("stop", "early.service")


@pytest.mark.bed
def test_a_journal_that_cannot_be_read_is_named_until_it_can() -> None:
    said = "No journal files were opened due to insufficient permissions."
    journalctl, works = Path.home() / "bin" / "journalctl", Path.home() / "works"
    journalctl.parent.mkdir()
    journalctl.write_text(
        f"#!/bin/bash\n[ -e {works} ] || {{ echo '{said}' >&2; exit 1; }}\nexec {shutil.which('journalctl')} \"$@\"\n"
    )
    journalctl.chmod(0o755)
    unit = (
        "[Service]\nSlice=gpumod.slice\nSyslogIdentifier=%n\nExecStart=/bin/sh -c 'echo I am here; exec sleep 1000'\n"
    )
    install_unit("early.service", unit)
    systemctl("start", "early.service")
    with dashboard(100, 30, environment=[f"PATH={journalctl.parent}:{os.environ['PATH']}"]) as terminal:
        terminal.wait(
            "Journal ─ the journal cannot be read", "due to insufficient permissions", "needs per-user journals:"
        )
        works.touch()
        terminal.wait("I am here", "following")
        terminal.press("q")
        wait_until(lambda: "Journal" not in terminal.text(), what="the view ends")
    systemctl("stop", "early.service")
