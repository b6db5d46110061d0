"""`gpumod service logs --follow`: whoever waits for lines hears why none come."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.unit.cli.test_faults import RUN, environment

JOURNALCTL = """#!/bin/bash
echo "$@" >>{folder}/calls
[ $(wc -l <{folder}/calls) -gt 3 ] || {{ echo 'insufficient permissions' >&2; exit 1; }}
case $* in *--follow*) exec sleep 60 ;; esac
echo '{{"MESSAGE": "back", "_SYSTEMD_USER_UNIT": "glm-code.service", "SYSLOG_IDENTIFIER": "x"}}'
"""


def test_why_no_lines_come_is_said_once_and_it_is_tried_again(tmp_path: Path) -> None:
    program = tmp_path / "journalctl"
    program.write_text(JOURNALCTL.format(folder=tmp_path))
    program.chmod(0o755)
    with subprocess.Popen(
        [sys.executable, "-c", RUN, "service", "logs", "glm-code", "--follow"],
        env=environment(tmp_path, PATH=f"{tmp_path}:{os.environ['PATH']}"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().endswith(" x: back\n")
        process.send_signal(signal.SIGINT)
        try:
            said = process.communicate(timeout=60)[1].splitlines()
        finally:
            process.kill()
        assert process.returncode == 0
    assert said[0].startswith("gpumod: warning: the journal cannot be read: insufficient permissions (gpumod needs")
    assert said[0].endswith("; trying again")
    assert said[1:] == ["gpumod: warning: the journal can be read now"]
