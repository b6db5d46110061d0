"""The GPU panel over a real driver library and a real door: foreign memory, a refused start, an Xid, a lost GPU."""

import subprocess

import pytest

from tests.bed.host import gpu, run, systemctl, wait_until
from tests.bed.terminal import dashboard


@pytest.mark.bed
def test_what_happens_to_a_gpu_is_seen_and_alarms_until_it_is_acknowledged() -> None:
    assert run("gpumod", "template", "install", "--yes").returncode == 0
    foreign = subprocess.Popen(["sleep", "1000"])
    gpu().declare(foreign.pid, {0: 12000})
    try:
        with dashboard() as terminal:
            terminal.wait("11.7 / 24.0 GiB used", "▒ not managed")
            assert "Xid unknown" not in terminal.text()
            systemctl("start", "devstral-small-2.service", check=False)
            terminal.wait("refused devstral-small-2⊘")
            # Left of the newest moment nothing may be known yet.
            terminal.press("Space", "Left", "Right")
            terminal.wait("FROZEN", "not managed 11.7 · used 11.7 · free")
            gpu().config(event={"data": 31})
            terminal.wait("ALARM", "Xid 31: a program touched memory it does not have", "a acknowledges", "1 GPU alarm")
            terminal.press("Space", "a")
            wait_until(lambda: "ALARM" not in terminal.text(), what="the acknowledged alarm goes")
            gpu().config(event=None, faults=[{"function": "*", "gpu": 0, "code": 15}])
            terminal.wait("ALARM GPU is lost: it fell off the bus", "cannot be used")
            gpu().config(faults=[])
            wait_until(lambda: "ALARM" not in terminal.text(), what="the alarm ends with its cause")
            terminal.wait("11.7 / 24.0 GiB used")
    finally:
        foreign.kill()
        foreign.wait()
