"""The command line in real life: real systemd, journald and llama-server, and everything that can come in between."""

import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from gpumod_tui.core.units.guard import GUARD_UNITS
from tests.bed.host import (
    HOME,
    cgroup_pids,
    gpu,
    pids_named,
    run,
    shell,
    systemctl,
    unit_properties,
    wait_until,
)

GLM = "GLM-4.7-Flash-UD-Q4_K_XL"
NEMOTRON = "Nemotron-3-Nano-30B-A3B-UD-Q4_K_XL"


def rules(load_s: float) -> list[dict[str, Any]]:
    """What the models hold, as in the played GPU's defaults, and how long a load takes."""
    return [
        {"match": r"--model \S*GLM-4\.7-Flash", "mib": 19968, "load_s": load_s},
        {"match": r"--model \S*Nemotron-3-Nano", "mib": 22528, "load_s": load_s},
    ]


ENDLESS = {"rules": rules(200.0)}
"""Loads that go on for as long as a test needs them."""
SLOW = {"rules": rules(6.0)}
"""Loads that are under way for long enough to be seen, and come to their end."""
SERVICES = ("vllm-embedding", "glm-code", "nemotron-3-nano", "devstral-small-2")
HERE = "body.scope"
"""The unit in which a bed runs its command, and so what a test starts."""


@pytest.fixture(autouse=True)
def installed(request: pytest.FixtureRequest) -> Iterator[None]:
    """The units are there; and whatever a test does, the card never holds more than it has."""
    if request.node.get_closest_marker("bed") is None or os.environ.get("GPUMOD_BED") != "1":
        yield
        return
    gpumod("template", "install", "--yes", expect=0)
    yield
    gpu().assert_never_overcommitted()


def gpumod(
    *arguments: str, expect: int | None = None, env: Mapping[str, str] | None = None, timeout_s: float = 120.0
) -> subprocess.CompletedProcess[str]:
    """One call of the command line; a traceback is never an answer."""
    done = run("gpumod", *arguments, env=env, timeout_s=timeout_s)
    assert "Traceback" not in done.stdout + done.stderr, done.stderr
    assert "internal error" not in done.stdout + done.stderr, done.stderr
    if expect is not None:
        assert done.returncode == expect, f"{arguments}: exit {done.returncode}\n{done.stdout}{done.stderr}"
    return done


class Background:
    """A call that goes on beside the test."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            ["gpumod", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def at_step(self, step: str) -> "Background":
        """Wait until its switch is at this step."""
        wait_until(lambda: running_step() == step, what=f"the switch comes to {step}")
        return self

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self, timeout_s: float = 90.0) -> tuple[int, str, str]:
        """(exit code, stdout, stderr)"""
        out, err = self.process.communicate(timeout=timeout_s)
        assert "Traceback" not in out + err, err
        return self.process.returncode, out, err


def stored() -> dict[str, Any]:
    """What lies on disk."""
    read: dict[str, Any] = json.loads((HOME / ".local/state/gpumod/state.json").read_text())
    return read


def running_step() -> str | None:
    if not (HOME / ".local/state/gpumod/state.json").exists():
        return None
    switch = stored()["switch"]
    return switch["steps"][-1]["step"] if switch and switch["outcome"] is None and switch["steps"] else None


def truth() -> tuple[str | None, str, str]:
    """(mode, truth, note) of `gpumod mode status`."""
    view = json.loads(gpumod("mode", "status", "--json", expect=0).stdout)["mode"]
    return view["mode"], view["truth"], view["note"]


def up() -> set[str]:
    """Services with a process or a unit that is not down."""
    return {name for name in SERVICES if cgroup_pids(f"{name}.service") or active(name) not in ("inactive", "failed")}


def active(name: str) -> str:
    return unit_properties(f"{name}.service", "ActiveState")["ActiveState"]


def main_pid(name: str) -> int:
    return int(unit_properties(f"{name}.service", "MainPID")["MainPID"])


def model_status(model: str = GLM) -> str:
    from tests.bed.host import http

    _, body = http("http://127.0.0.1:7070/models")
    return next((str(one["status"]["value"]) for one in body["data"] if one["id"] == model), "absent")


def write_preset(name: str, text: str) -> Path:
    path = HOME / ".config/gpumod/presets" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def configure(text: str) -> None:
    path = HOME / ".config/gpumod/config.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def occupy(mib: float) -> "subprocess.Popen[bytes]":
    """A process outside all units that holds VRAM."""
    process = subprocess.Popen(["sleep", "1000"])
    gpu().declare(process.pid, {0: mib})
    wait_until(lambda: gpu().used_mib() >= mib, what="the card shows it")
    return process


def listen(port: int) -> socket.socket:
    """Takes a port, as soon as it is free."""
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)

    def take() -> bool:
        try:
            server.bind(("127.0.0.1", port))
        except OSError:
            return False
        server.listen()
        return True

    wait_until(take, what=f"port {port} is free", interval_s=0.001)
    return server


# --- what is refused, and how


@pytest.mark.bed
def test_names_that_are_unknown_are_usage_and_touch_nothing() -> None:
    for arguments, hint in (
        (("mode", "switch", "cod"), "code"),
        (("mode", "switch", "cod", "--dry-run"), "code"),
        (("service", "start", "glm"), "glm-code"),
        (("service", "status", "glm"), "glm-code"),
        (("service", "logs", "glm"), "glm-code"),
        (("mode", "swich", "code"), "mode --help"),
        (("status", "--jsno"), "status --help"),
    ):
        done = gpumod(*arguments, expect=2)
        assert done.stdout == ""
        assert hint in done.stderr, done.stderr
    assert up() == set()


@pytest.mark.bed
def test_json_is_alone_on_stdout_also_on_failure() -> None:
    def parsed(*arguments: str, expect: int = 0) -> Any:
        done = gpumod(*arguments, "--json", expect=expect)
        return json.loads(done.stdout)

    assert parsed("mode", "switch", "rag")["started"] == ["vllm-embedding"]
    assert parsed("status")["snapshot"]["mode"]["truth"] == "reached"
    assert {mode["id"] for mode in parsed("mode", "list")["modes"]} == {"blank", "rag", "code", "nemotron"}
    assert parsed("mode", "status")["mode"]["mode"] == "rag"
    plan = parsed("mode", "switch", "code", "--dry-run")
    assert (plan["stop"], plan["start"], plan["blockers"]) == (["vllm-embedding"], [["glm-code"]], [])
    assert len(parsed("service", "list")["services"]) == 4
    assert parsed("service", "status", "vllm-embedding")["state"]["active_state"] == "active"
    assert parsed("service", "logs", "vllm-embedding", "-n", "3")[2]["unit"] == "vllm-embedding.service"
    assert parsed("service", "restart", "vllm-embedding")["success"] is True
    assert parsed("service", "stop", "vllm-embedding")["stopped"] == ["vllm-embedding"]
    assert parsed("service", "start", "vllm-embedding")["started"] == ["vllm-embedding"]
    assert len(parsed("template", "list")["units"]) == 6
    assert "ExecStart" in parsed("template", "show", "base")["text"]
    assert "llama-server" in parsed("template", "generate", "glm-code")["text"]
    assert parsed("template", "install")["applied"] is False
    assert len(parsed("preset", "list")["presets"]) == 8
    assert parsed("preset", "check")["problems"] == []
    assert json.loads(gpumod("preset", "schema", expect=0).stdout)["$schema"]

    foreign = occupy(8000)
    refused = parsed("mode", "switch", "code", expect=3)
    assert (refused["success"], refused["outcome"]) == (False, "refused")
    assert refused["errors"][0]["holders"][0]["pid"] == foreign.pid
    assert parsed("mode", "switch", "code", "--dry-run", expect=3)["blockers"]
    assert parsed("service", "start", "glm-code", expect=3)["errors"]
    for arguments in (
        ("mode", "switch", "cod"),
        ("mode", "switch", "cod", "--dry-run"),
        ("service", "start", "glm"),
        ("service", "status", "glm"),
        ("service", "logs", "glm"),
        ("template", "show", "glm"),
        ("template", "generate", "glm"),
        ("template", "install", "glm"),
        ("preset", "check", "/nowhere"),
        ("status", "--jsno"),
        ("mode", "switch"),
    ):
        answer = parsed(*arguments, expect=2)
        assert answer.get("error") or answer["errors"], answer
    foreign.kill()


@pytest.mark.bed
def test_a_dry_run_shows_the_arithmetic_and_touches_nothing() -> None:
    done = gpumod("mode", "switch", "code", "--dry-run", expect=0)
    assert "start    glm-code" in done.stdout
    assert re.search(
        r"GPU 0: free 24107 MiB \+ stopping 0 MiB = 24107 MiB; needs 20480 MiB \+ margin 512 MiB = 20992 MiB: fits",
        done.stdout,
    )
    assert up() == set()
    assert not (HOME / ".local/state/gpumod").exists()
    foreign = occupy(8000)
    done = gpumod("mode", "switch", "code", "--dry-run", expect=3)
    assert "short by 4885 MiB" in done.stdout
    assert f"sleep pid {foreign.pid} ({HERE}) 8000 MiB" in done.stderr
    assert not (HOME / ".local/state/gpumod").exists()
    foreign.kill()


@pytest.mark.bed
def test_what_cannot_work_is_refused_before_anything_stops() -> None:
    gpumod("mode", "switch", "rag", expect=0)
    before = main_pid("vllm-embedding")

    def refused(*said: str, mode: str = "code") -> None:
        done = gpumod("mode", "switch", mode, expect=3)
        for words in said:
            assert words in done.stderr, done.stderr
        assert "refused, nothing was touched" in done.stderr
        assert main_pid("vllm-embedding") == before
        assert up() == {"vllm-embedding"}
        assert truth()[:2] == ("rag", "reached")

    foreign = occupy(8000)
    refused(
        "needs 20480 MiB + margin 512 MiB", "short by 4885 MiB", f"sleep pid {foreign.pid} ({HERE}) 8000 MiB", "next: "
    )
    foreign.kill()
    foreign.wait()
    wait_until(lambda: gpu().used_mib() < 5000, what="its memory comes back")

    systemctl("stop", *GUARD_UNITS)
    server = listen(7070)
    refused("port 7070 of glm-code is taken by", f"pid {os.getpid()}")
    server.close()

    unit = HOME / ".config/systemd/user/glm-code.service"
    unit.rename(unit.with_suffix(".away"))
    systemctl("daemon-reload")
    refused("glm-code.service is not installed", "gpumod template install glm-code --yes")
    unit.with_suffix(".away").rename(unit)
    systemctl("daemon-reload")

    model = HOME / f"models/{GLM}.gguf"
    model.rename(model.with_suffix(".away"))
    refused(GLM, str(HOME / "models"))
    model.with_suffix(".away").rename(model)

    gpu().config(faults=[{"function": "Init", "code": "LIB_RM_VERSION_MISMATCH"}])
    refused("free VRAM is unknown", "reboot")
    done = gpumod("status", expect=0)
    assert "VRAM is unknown" in done.stdout
    assert re.search(r"vllm-embedding +active running +yes", done.stdout)
    done = gpumod("mode", "switch", "blank", expect=0)
    assert "VRAM could not be measured" in done.stderr
    assert up() == set()


@pytest.mark.bed
def test_a_broken_preset_is_named_and_the_good_ones_still_work() -> None:
    bad = write_preset("bad.yaml", "id: bad\nname: Bad\ndriver: llamacpp\nport: many\n")
    write_preset("worse.yaml", "id: [worse\n")
    done = gpumod("status", expect=0)
    assert f"{bad}: port: found 'many', expected" in done.stderr
    assert "worse.yaml" in done.stderr
    assert len(gpumod("preset", "check", expect=1).stdout.splitlines()) >= 2
    gpumod("mode", "switch", "rag", expect=0)
    assert up() == {"vllm-embedding"}


# --- what fails half-way


@pytest.mark.bed(gpu={"vllm": {"fail": "memory"}})
def test_a_unit_that_dies_on_start_ends_the_switch_with_its_last_words() -> None:
    began = time.monotonic()
    done = gpumod("mode", "switch", "rag", expect=1)
    assert time.monotonic() - began < 40, "its start may take minutes"
    assert "failed at start" in done.stderr
    assert "is less than desired GPU memory utilization" in done.stderr
    assert "journalctl --user -u vllm-embedding.service" in done.stderr
    assert up() == set()
    mode, how, note = truth()
    assert (mode, how) == (None, "unknown")
    assert note.startswith("switch to rag failed at start: vllm-embedding.service")
    gpumod("mode", "switch", "blank", expect=0)
    assert truth()[:2] == ("blank", "reached")


@pytest.mark.bed
def test_a_port_that_is_taken_between_preflight_and_start() -> None:
    gpumod("mode", "switch", "code", expect=0)
    gpu().config(hold=True)
    switch = Background("mode", "switch", "nemotron").at_step("release")
    systemctl("stop", *GUARD_UNITS)
    server = listen(7070)
    gpu().config(hold=False)
    code, _, err = switch.end()
    assert code == 1
    assert "failed at start" in err
    assert "nemotron-3-nano" in err
    assert up() == set()
    server.close()
    gpumod("mode", "switch", "blank", expect=0)


@pytest.mark.bed(gpu=ENDLESS)
def test_a_time_limit_for_the_whole_switch() -> None:
    began = time.monotonic()
    done = gpumod("mode", "switch", "code", "--timeout", "10", expect=1)
    assert time.monotonic() - began >= 10
    assert "failed at load" in done.stderr
    assert up() == set()
    assert gpumod("mode", "switch", "code", "--no-load", expect=0).returncode == 0
    assert model_status() == "unloaded"
    assert truth()[:2] == ("code", "partial"), "its model is not loaded"


@pytest.mark.bed
def test_memory_that_does_not_come_back_aborts_and_blank_recovers() -> None:
    configure("release_timeout_s: 2\n")
    gpumod("mode", "switch", "code", expect=0)
    holder = next(pid for pid in cgroup_pids("glm-code.service") if pid != main_pid("glm-code"))
    gpu().config(hold=True)
    done = gpumod("mode", "switch", "nemotron", expect=1)
    assert "VRAM not released: GPU 0: needs 23040 MiB + margin 512 MiB, free 4139 MiB" in done.stderr
    assert f"pid {holder} " in done.stderr
    assert "19968 MiB" in done.stderr
    assert up() == set()
    assert truth()[2].startswith("switch to nemotron failed at release: VRAM not released")
    gpu().config(hold=False)
    gpumod("mode", "switch", "blank", expect=0)
    gpumod("mode", "switch", "nemotron", expect=0)


# --- what others do beside us


@pytest.mark.bed
def test_what_was_done_by_hand_is_seen_and_put_right() -> None:
    gpumod("mode", "switch", "rag", expect=0)
    systemctl("stop", "vllm-embedding.service")
    assert truth() == ("rag", "partial", "vllm-embedding does not run")
    gpumod("mode", "switch", "rag", expect=0)
    systemctl("start", "devstral-small-2.service")
    assert truth() == ("rag", "drifted", "devstral-small-2 runs too")

    write_preset(
        "gone.yaml",
        "id: gone\nname: Gone\ndriver: command\nport: 9100\nvram_mb: 0\n"
        "unit_vars:\n  command: [python3, -m, http.server, --bind, 127.0.0.1, '9100']\n",
    )
    gpumod("template", "install", "gone", "--yes", expect=0)
    gpumod("service", "start", "gone", expect=0)
    (HOME / ".config/gpumod/presets/gone.yaml").unlink()
    assert cgroup_pids("gone.service")
    done = gpumod("mode", "switch", "blank", expect=0)
    assert "devstral-small-2" in done.stdout
    assert up() == set()
    assert cgroup_pids("gone.service") == []
    assert truth()[:2] == ("blank", "reached")


@pytest.mark.bed
def test_what_does_not_want_to_end_is_killed_to_its_last_process() -> None:
    program = HOME / "stubborn.py"
    program.write_text(
        "import http.server, signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "http.server.HTTPServer(('127.0.0.1', 9100), http.server.SimpleHTTPRequestHandler).serve_forever()\n"
    )
    write_preset(
        "stubborn.yaml",
        "id: stubborn\nname: Stubborn\ndriver: command\nport: 9100\nvram_mb: 0\nstop_timeout: 1\nhealth_endpoint: /\n"
        f"unit_vars:\n  command: [{sys.executable}, {program}]\n",
    )
    gpumod("template", "install", "stubborn", "--yes", expect=0)
    gpumod("service", "start", "stubborn", expect=0)
    gpumod("mode", "switch", "rag", expect=0)
    assert cgroup_pids("stubborn.service") == []
    # Who was first with SIGKILL at the limit: systemd, or we.
    assert unit_properties("stubborn.service", "Result")["Result"] in ("timeout", "signal")

    (engine,) = pids_named("VLLM::EngineCore")
    os.kill(main_pid("vllm-embedding"), signal.SIGKILL)
    gpumod("mode", "switch", "blank", expect=0)
    assert pids_named("VLLM::EngineCore") == []
    assert not Path(f"/proc/{engine}").exists()
    wait_until(lambda: gpu().used_mib() < 16, what="the engine's memory comes back")


# --- two at a time


@pytest.mark.bed(gpu=ENDLESS)
def test_a_second_switch_is_told_who_holds_the_lock_and_ctrl_c_undoes_the_first() -> None:
    first = Background("mode", "switch", "code").at_step("load")
    done = gpumod("mode", "switch", "rag", expect=75)
    assert re.search(rf"busy: pid {first.process.pid} is switching to code, since \d+ s, at step load", done.stderr)
    assert gpumod("service", "start", "vllm-embedding", expect=75).stdout == ""
    assert json.loads(gpumod("mode", "switch", "rag", "--json", expect=75).stdout)["outcome"] == "busy"
    assert f"switching to code (pid {first.process.pid})" in gpumod("status", expect=0).stdout
    assert up() == {"glm-code"}
    first.send(signal.SIGINT)
    code, _, err = first.end()
    assert code == 130
    assert "gpumod: code: cancelled" in err
    assert up() == set()
    assert truth()[2] == "switch to code cancelled at load"


@pytest.mark.bed(gpu=ENDLESS)
def test_blank_makes_the_running_switch_cancel() -> None:
    first = Background("mode", "switch", "code").at_step("load")
    gpumod("mode", "switch", "blank", expect=0)
    assert first.end()[0] == 130, "by asking, not by signals, which come after 15 s"
    assert up() == set()
    assert truth()[:2] == ("blank", "reached")


@pytest.mark.bed(gpu=ENDLESS)
def test_blank_ends_a_holder_that_hangs() -> None:
    first = Background("mode", "switch", "code").at_step("load")
    first.send(signal.SIGSTOP)
    began = time.monotonic()
    gpumod("mode", "switch", "blank", expect=0)
    assert 19 < time.monotonic() - began < 90, "asked for 15 s, SIGTERM, 5 s later SIGKILL"
    assert first.end()[0] == -signal.SIGKILL
    assert up() == set()
    assert truth()[:2] == ("blank", "reached")


@pytest.mark.bed(gpu=ENDLESS)
def test_of_two_that_start_at_once_exactly_one_switches() -> None:
    for _ in range(3):
        both = [Background("mode", "switch", name, "--no-load") for name in ("code", "rag")]
        ended = [one.end() for one in both]
        codes = sorted(code for code, _, _ in ended)
        # The one that comes after the other's end finds the lock free again: then both are done, one after the other.
        assert codes in ([0, 75], [0, 0]), ended
        assert len(up()) == 1
        assert truth()[0] in ("code", "rag")
        gpumod("mode", "switch", "blank", expect=0)
    held = Background("mode", "switch", "code").at_step("load")
    together = [Background("mode", "switch", "rag") for _ in range(4)]
    assert [one.end()[0] for one in together] == [75] * 4
    held.send(signal.SIGINT)
    assert held.end()[0] == 130


# --- what ends the view, and what ends the process


@pytest.mark.bed(gpu=SLOW)
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_signal_that_ends_the_view_leaves_the_switch_alone(number: signal.Signals) -> None:
    switch = Background("mode", "switch", "code").at_step("load")
    switch.send(number)
    assert switch.end()[0] == 0
    assert model_status() == "loaded"
    assert truth()[:2] == ("code", "reached")


@pytest.mark.bed(gpu=SLOW)
def test_a_terminal_that_closes_leaves_the_switch_alone() -> None:
    child, master = pty.fork()
    if child == 0:
        os.environ["TERM"] = "xterm-256color"
        os.execlp("gpumod", "gpumod", "mode", "switch", "code")
    shown = b""
    while b"load" not in shown:
        assert select.select([master], [], [], 60)[0], shown
        shown += os.read(master, 4096)
    assert b"\x1b[K" in shown, "live on a terminal"
    os.close(master)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert model_status() == "loaded"
    assert truth()[:2] == ("code", "reached")


@pytest.mark.bed
def test_output_that_nobody_reads_leaves_the_switch_alone() -> None:
    done = shell("gpumod mode switch code | head -0; echo ${PIPESTATUS[0]}")
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr
    assert done.stdout == "0\n"
    assert truth()[:2] == ("code", "reached")
    for command in ("gpumod mode switch blank >&-", "gpumod status | head -0", "gpumod status >&-"):
        done = shell(f"{command}; echo ${{PIPESTATUS[0]}} >&2")
        assert done.stderr == "0\n", command
    assert truth()[:2] == ("blank", "reached")
    done = shell("gpumod mode switch code >/dev/full 2>/dev/full; echo $?")
    assert done.stdout == "0\n"
    assert truth()[:2] == ("code", "reached")


@pytest.mark.bed(gpu=ENDLESS)
def test_killed_in_the_middle_the_next_one_says_what_was_interrupted() -> None:
    switch = Background("mode", "switch", "code").at_step("load")
    switch.send(signal.SIGKILL)
    assert switch.end()[0] == -signal.SIGKILL
    pid = switch.process.pid
    done = gpumod("status", expect=0)
    assert f"the switch to code by pid {pid} was interrupted at step load" in done.stdout
    assert "gpumod mode switch blank leads back" in done.stdout
    assert json.loads(gpumod("status", "--json", expect=0).stdout)["interrupted"]["target"] == "code"
    assert truth()[1] == "unknown"
    done = gpumod("mode", "switch", "blank", expect=0)
    assert f"the switch to code by pid {pid} was interrupted at step load" in done.stderr
    assert up() == set()
    assert truth()[:2] == ("blank", "reached")
    assert "interrupted" not in gpumod("status", expect=0).stdout


# --- surroundings


@pytest.mark.bed
def test_a_state_folder_that_cannot_be_written_is_told_and_bars_no_way_back() -> None:
    gpumod("mode", "switch", "rag", expect=0)
    folder = HOME / ".local/state/gpumod"
    folder.chmod(0o500)
    done = gpumod("mode", "switch", "blank", expect=0)
    assert str(folder) in done.stderr
    assert "warning" in done.stderr
    assert up() == set()
    folder.chmod(0o000)
    assert str(folder) in gpumod("status", expect=0).stdout
    assert json.loads(gpumod("mode", "switch", "blank", "--json", expect=0).stdout)
    folder.chmod(0o700)
    (folder / "state.json").write_text('{"recorded": {"mode": 7}, "swi')
    assert "damaged" in gpumod("status", expect=0).stdout
    gpumod("mode", "switch", "blank", expect=0)
    assert truth()[:2] == ("blank", "reached")


@pytest.mark.bed
def test_an_environment_without_its_usual_variables() -> None:
    for left_out in (["HOME"], ["XDG_RUNTIME_DIR"], ["HOME", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS", "USER"]):
        words = " ".join(f"-u {name}" for name in left_out)
        done = shell(f"env {words} gpumod mode switch rag && env {words} gpumod status")
        assert done.returncode == 0, done.stderr
        assert "mode rag: reached" in done.stdout
    done = gpumod("mode", "switch", "blank", env={"XDG_RUNTIME_DIR": "/nowhere"}, expect=3)
    assert "/nowhere" in done.stderr
    assert "next: " in done.stderr
    lost = "mount -t tmpfs tmpfs /run/user && exec env -u XDG_RUNTIME_DIR gpumod"
    for command in ("mode switch blank", "status", "mode switch blank --json"):
        done = shell(f"unshare --user --mount --map-user=4200 --keep-caps bash -c '{lost} {command}'")
        assert done.returncode == 3, done.stderr
        assert "no runtime folder: /run/user/4200" in done.stderr
        assert "Traceback" not in done.stderr
        assert not done.stdout or json.loads(done.stdout)["error"]
    assert up() == {"vllm-embedding"}
    assert truth()[:2] == ("rag", "reached")
