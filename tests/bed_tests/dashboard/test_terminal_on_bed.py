"""What reaches a real terminal: keys of config.yaml, what rings at the end of a long switch, many GPUs."""

from pathlib import Path

import pytest

from tests.bed.host import run, wait_until
from tests.bed.terminal import Tmux, dashboard

BELL, OSC_9 = "\x07", "\x1b]9;gpumod: "


def settings(text: str) -> None:
    folder = Path.home() / ".config/gpumod"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(text)


@pytest.mark.bed
def test_other_keys_and_what_rings_at_the_end_of_a_long_switch(tmp_path: Path) -> None:
    settings("keys: {app.quit: f10, mode.blank: B}\nbell_after_s: 0.1\n")
    assert run("gpumod", "template", "install", "--yes").returncode == 0
    raw = tmp_path / "raw"
    known = ("env", "-u", "COLUMNS", "-u", "LINES", "-u", "TMUX", "TERM_PROGRAM=WezTerm", "gpumod")
    with Tmux(*known) as terminal:
        terminal.wait("Units", "vllm-embedding", "1 blank", "f10 quit", "B blank")
        terminal.record(raw)
        terminal.press("q", "2")
        terminal.wait("Switch to code", "do it")
        terminal.agree()
        terminal.wait("reached", "✔ verify", timeout_s=60.0)

        def rang() -> bool:
            written = raw.read_text(errors="replace") if raw.exists() else ""
            return OSC_9 in written and BELL in written.replace(written[written.index(OSC_9) :].split(BELL)[0], "")

        wait_until(rang, what="the bell and the notification")
        terminal.press("F10")
        wait_until(lambda: "Units" not in terminal.text(), what="the view ends")


@pytest.mark.bed(gpu={"gpus": [{}] * 16})
def test_sixteen_gpus_are_all_seen() -> None:
    for width, height in ((120, 40), (80, 24)):
        with dashboard(width, height) as terminal:
            assert all(f" {number} " in terminal.text() for number in range(16)), terminal.text()


@pytest.mark.bed(gpu={"gpus": [{"memory": False, "name": "NVIDIA GB10"}]})
def test_memory_that_is_the_hosts_is_called_so() -> None:
    with dashboard() as terminal:
        terminal.wait("memory shared with the host")
        assert run("gpumod", "status").returncode == 0
