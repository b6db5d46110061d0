"""Whatever the terminal, the disk or the user does, a command answers with a message and an exit code."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gpumod_tui.cli._output import clock_time

RUN = "from gpumod_tui.cli import main; main()"
NO_SYSTEMD = 3


def environment(folder: Path, **more: str) -> dict[str, str]:
    runtime = folder / "runtime"
    runtime.mkdir(mode=0o700, exist_ok=True)
    return {"HOME": str(folder), "XDG_RUNTIME_DIR": str(runtime), "PATH": "/usr/bin:/bin", **more}


def gpumod(*arguments: str, folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-c", RUN, *arguments],
        env=environment(folder, **more),
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=60,
    )
    assert "Traceback" not in done.stderr
    assert "internal error" not in done.stderr
    return done


@pytest.mark.parametrize("command", ["status", "status --json", "mode list", "--help", "nonsense --json"])
@pytest.mark.parametrize("buffered", ["", "1"])
def test_a_full_disk_behind_stdout_is_a_message(command: str, buffered: str, tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", RUN, *command.split()],
            env=environment(tmp_path, PYTHONUNBUFFERED=buffered),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert "Traceback" not in done.stderr
    assert "internal error" not in done.stderr
    if command.startswith("nonsense"):
        assert (done.returncode, "No such command" in done.stderr) == (2, True)
    else:
        assert (done.returncode, "output could not be written: No space left" in done.stderr) == (1, True)


def test_a_full_disk_behind_stderr_leaves_the_exit_code(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-c", RUN, "nonsense"], env=environment(tmp_path), stderr=full)
    assert done.returncode == 2


def test_signs_that_the_terminal_lacks_are_replaced(tmp_path: Path) -> None:
    done = gpumod("mode", "list", folder=tmp_path, PYTHONIOENCODING="latin-1")
    assert done.returncode == 0
    assert "blank" in done.stdout
    assert "–" not in done.stdout


def test_an_interrupt_is_no_traceback_while_commands_are_imported(tmp_path: Path) -> None:
    script = "import gpumod_tui.cli, os, signal; os.kill(os.getpid(), signal.SIGINT); import time; time.sleep(5)"
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment(tmp_path), capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (-2, "")


def test_other_faults_of_imports_are_still_told(tmp_path: Path) -> None:
    script = "import gpumod_tui.cli; raise ValueError('odd')"
    done = subprocess.run([sys.executable, "-c", script], env=environment(tmp_path), capture_output=True, text=True)
    assert "ValueError: odd" in done.stderr


@pytest.mark.parametrize("at", [1e300, -1e300, float("inf"), float("nan")])
def test_what_is_no_time_of_any_calendar_reads_as_unknown(at: float) -> None:
    assert clock_time(at) == "–"


def test_an_odd_time_on_disk_ends_no_command(tmp_path: Path) -> None:
    state = tmp_path / ".local/state/gpumod"
    state.mkdir(parents=True)
    switch = {"id": "x", "target": "code", "pid": 1, "pid_start": 1, "started_at": 1e300}
    (state / "state.json").write_text(json.dumps({"recorded": {"mode": "code", "since": -1e300}, "switch": switch}))
    done = gpumod("status", folder=tmp_path)
    assert done.returncode == 0
    assert "was interrupted at step begin (–)" in done.stdout


@pytest.mark.parametrize("command", ["mode switch code", "service start glm-code"])
@pytest.mark.parametrize("timeout", ["nan", "inf", "-inf", "0", "soon"])
def test_a_timeout_is_a_finite_number_of_seconds(command: str, timeout: str, tmp_path: Path) -> None:
    done = gpumod(*command.split(), "--timeout", timeout, folder=tmp_path)
    assert done.returncode == 2
    assert "--timeout" in done.stderr


def test_a_named_pipe_among_presets_is_named_and_holds_nothing_up(tmp_path: Path) -> None:
    presets = tmp_path / ".config/gpumod/presets"
    presets.mkdir(parents=True)
    os.mkfifo(presets / "pipe.yaml")
    done = gpumod("mode", "list", folder=tmp_path)
    assert (done.returncode, "blank" in done.stdout) == (0, True)
    assert "pipe.yaml: file: found a named pipe, expected a regular file" in done.stderr


@pytest.mark.parametrize("more", [{}, {"GPUMOD_PRESETS": "~who/x"}, {"GPUMOD_MODELS_DIR": "~who/x"}])
def test_a_broken_configuration_bars_the_way_to_modes_but_not_back_to_blank(
    more: dict[str, str], tmp_path: Path
) -> None:
    if not more:
        (tmp_path / ".config/gpumod").mkdir(parents=True)
        (tmp_path / ".config/gpumod/config.yaml").write_text("vram_margin_mb: much\n")
    word = next(iter(more), "vram_margin_mb")
    barred = gpumod("mode", "switch", "code", folder=tmp_path, **more)
    assert (barred.returncode, word in barred.stderr) == (2, True)
    back = gpumod("mode", "switch", "blank", folder=tmp_path, **more)
    assert "warning: " in back.stderr
    assert word in back.stderr
    # As far as it comes without systemd.
    assert (back.returncode, "systemd" in back.stderr.split("going on without it")[-1]) == (NO_SYSTEMD, True)


def presets_of(folder: Path) -> Path:
    presets = folder / ".config/gpumod/presets"
    presets.mkdir(parents=True)
    return presets


@pytest.mark.parametrize("command", ["mode list", "mode list --json", "preset check --json", "status"])
def test_a_preset_whose_file_name_is_no_text_is_as_good_as_any(command: str, tmp_path: Path) -> None:
    presets = presets_of(tmp_path)
    (presets / os.fsdecode(b"odd\xff.yaml")).write_text("id: odd\nservices: [vllm-embedding]\n")
    (presets / os.fsdecode(b"broken\xff.yaml")).write_text("services: [\n")
    done = gpumod(*command.split(), folder=tmp_path)
    assert done.returncode == (1 if command.startswith("preset") else 0)
    if command.endswith("--json"):
        assert "broken?.yaml" in done.stdout
        json.loads(done.stdout)
    if command.startswith("mode"):
        assert "odd" in done.stdout


@pytest.mark.parametrize("command", ["mode switch", "service start", "service load glm-code", "mode save x --services"])
def test_an_argument_that_is_no_text_is_refused(command: str, tmp_path: Path) -> None:
    done = gpumod(*command.split(), os.fsdecode(b"odd\xff"), "--json", folder=tmp_path)
    assert (done.returncode, "is no UTF-8" in json.loads(done.stdout)["error"]["message"]) == (2, True)
    assert "is no UTF-8" in done.stderr


def test_a_file_may_have_a_name_that_is_no_text(tmp_path: Path) -> None:
    file = tmp_path / os.fsdecode(b"odd\xff.gguf")
    file.write_text("no model")
    done = gpumod("estimate", str(file), "--json", folder=tmp_path)
    assert (done.returncode, "expected 'GGUF'" in json.loads(done.stdout)["error"]["message"]) == (2, True)


@pytest.mark.parametrize("name", ["HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"])
def test_a_folder_of_the_environment_is_an_absolute_path(name: str, tmp_path: Path) -> None:
    done = gpumod("mode", "list", folder=tmp_path, **{name: "relative"})
    assert done.returncode == NO_SYSTEMD
    assert f"{name} is 'relative', expected an absolute path" in done.stderr


def test_an_empty_home_is_refused(tmp_path: Path) -> None:
    done = gpumod("mode", "list", folder=tmp_path, HOME="")
    assert (done.returncode, "HOME is ''" in done.stderr) == (NO_SYSTEMD, True)


def without_rights(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """As a user for whom file modes hold, also where the tests run as root."""
    rights = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.getuid() == 0 else []
    if subprocess.run([*rights, sys.executable, "-c", "import gpumod_tui.cli"], capture_output=True).returncode:
        pytest.skip("the checkout cannot be read without root's rights")
    done = subprocess.run(
        [*rights, sys.executable, "-c", RUN, *arguments],
        env=environment(folder), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    assert "internal error" not in done.stderr
    return done


@contextmanager
def closed(folder: Path) -> Iterator[None]:
    folder.chmod(0)
    try:
        yield
    finally:
        folder.chmod(0o700)


@pytest.mark.parametrize("name", ["presets", "presets/mine"])
def test_a_folder_of_presets_that_may_not_be_read_is_named(name: str, tmp_path: Path) -> None:
    (presets_of(tmp_path) / "mine").mkdir()
    folder = tmp_path / ".config/gpumod" / name
    with closed(folder):
        done = without_rights("preset", "check", folder=tmp_path)
    assert done.returncode == 1
    assert f"{folder}: file: found Permission denied" in done.stdout


def test_settings_that_may_not_be_read_are_not_the_settings_of_nobody(tmp_path: Path) -> None:
    folder = presets_of(tmp_path).parent
    with closed(folder):
        done = without_rights("mode", "list", folder=tmp_path)
    assert done.returncode == 2
    assert "config.yaml: file: found Permission denied" in done.stderr


def test_a_runtime_folder_that_may_not_be_entered_leaves_what_is_known(tmp_path: Path) -> None:
    runtime = tmp_path / "runtime"
    runtime.mkdir()
    with closed(runtime):
        done = without_rights("status", folder=tmp_path)
    assert done.returncode == 0
    # As systemd 252 and 257 word it.
    assert "Permission denied" in done.stdout or "Operation not permitted" in done.stdout, done.stdout


def test_services_are_not_listed_as_none_where_systemd_cannot_be_asked(tmp_path: Path) -> None:
    done = gpumod("service", "list", "--json", folder=tmp_path)
    assert done.returncode == NO_SYSTEMD
    assert "systemd user manager cannot be asked" in json.loads(done.stdout)["error"]["message"]


def test_an_unknown_mode_points_to_faults_in_presets(tmp_path: Path) -> None:
    (presets_of(tmp_path) / "mine.yaml").write_text("id: mine\nservices: [nowhere]\n")
    done = gpumod("mode", "switch", "mine", folder=tmp_path)
    assert (done.returncode, "presets with faults: 1, see gpumod preset check" in done.stderr) == (2, True)


def test_whoever_read_enough_of_the_help_ends_it_well(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-c", RUN, "--help"], env=environment(tmp_path), stdout=writing, stderr=subprocess.PIPE
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")
