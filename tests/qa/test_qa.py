"""QA.md to the letter: its own commands, on real systemd, journald, D-Bus and llama-server; only the GPU is played.

`pytest tests/qa -o junit_family=xunit1 --junitxml=qa.xml` keeps what was run and what came of it as properties of each
test, named after the section: the commands, their output, seconds, exit status.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from tests.bed.host import gpu, run, systemctl
from tests.qa.document import COPY, SOURCE, log_command, sections

DOCUMENT: Final = COPY.read_text()
DIGEST: Final = "df485e2ba3cc6025958de7e4890e4216299ec6e1432056df24089a12693aeb44"
"""Of the procedure as it was given; where that lies beside the checkout, it is compared as well."""
SECTIONS: Final = sections(DOCUMENT)

SUBSTITUTIONS: Final = {
    "Test 4": (
        (
            "  sleep 20  # Short wait, may not fully load\n",
            "  sleep 0.5  # Short wait, may not fully load\n",
            2,
            "it wants short waits, and says intentionally aggressive",
        ),
    ),
    "Test 6": (
        (
            "# Replace <server-ip> with the server's external IP\n",
            "# Replace $GPUMOD_BED_EXTERNAL_IP with the server's external IP\n",
            1,
            "it says what to replace",
        ),
        (
            "curl http://<server-ip>:7070/health\n",
            "curl http://$GPUMOD_BED_EXTERNAL_IP:7070/health\n",
            1,
            "it says what to replace",
        ),
    ),
}
"""All that is changed in a section's commands before they run: old, new, how often it is there, why the text allows it.
The other sleeps run as written; the loops that poll for a loaded model never come to theirs, since a switch to a mode
with a router returns with the model loaded."""

WITHOUT_COMMANDS: Final = {"Step 1": "gpumod mode switch blank\n"}
"""Its text says `switch to blank` and has no block: this is the first line of step 5's."""

GIB_MIB: Final = 1024
RULES: Final = (
    {"match": r"--model \S*GLM-4\.7-Flash", "mib": 19968},
    {"match": r"--model \S*Nemotron-3-Nano", "mib": 22528},
)
SLOW_LOADS: Final = {"rules": [{**rule, "load_s": 120.0} for rule in RULES]}
TROUBLE: Final = re.compile(r"\b(error|errors|failed|failure|fatal|critical|traceback|exception)\b|: E ", re.IGNORECASE)
SERVERS: Final = re.compile(r"llama-server|vllm|VLLM")

Record = Callable[[str, object], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a section's commands."""

    output: str
    """stdout and stderr in the order they were written."""
    status: int
    failures: tuple[str, ...]
    """Commands that ended with a status other than 0 outside of conditions, as `STATUS COMMAND`."""

    @property
    def documents(self) -> list[Any]:
        """Every JSON object in the output."""
        found, decoder, at = [], json.JSONDecoder(), 0
        while (at := self.output.find("{", at)) >= 0:
            try:
                value, at = decoder.raw_decode(self.output, at)
            except ValueError:
                at += 1
            else:
                found.append(value)
        return found

    @property
    def chats(self) -> list[dict[str, Any]]:
        """The messages of chat completions."""
        return [choice["message"] for one in self.documents for choice in one.get("choices", ()) if "message" in choice]

    @property
    def used_mib(self) -> list[int]:
        """What each nvidia-smi in it showed."""
        return [int(used) for used in re.findall(r"(\d+)MiB / \d+MiB", self.output)]


def commands_of(name: str) -> str:
    """A section's commands as they run here."""
    commands = SECTIONS[name].commands or WITHOUT_COMMANDS[name]
    for old, new, count, _why in SUBSTITUTIONS.get(name, ()):
        assert commands.count(old) == count, f"{name} changed: {old!r}"
        commands = commands.replace(old, new)
    return commands


def follow(name: str, record: Record, *, timeout_s: float = 120.0) -> Outcome:
    """Run a section's commands in one bash, which notes on a file of its own what fails."""
    failures = Path(os.environ["TMPDIR"]) / "failures"
    failures.write_text("")
    noted = f'trap \'printf "%s %s\\n" "$?" "${{BASH_COMMAND%%$\'"\'"\'\\n\'"\'"\'*}}" >>{failures}\' ERR\n'
    began = time.monotonic()
    done = subprocess.run(
        ["bash", "-c", noted + commands_of(name)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout_s,
    )
    outcome = Outcome(done.stdout, done.returncode, tuple(failures.read_text().splitlines()))
    record(
        f"{name}: {SECTIONS[name].title}",
        json.dumps(
            {
                "commands": commands_of(name),
                "output": outcome.output,
                "seconds": round(time.monotonic() - began, 1),
                "status": outcome.status,
                "failures": outcome.failures,
            }
        ),
    )
    print(f"--- {name}\n{outcome.output}")
    return outcome


def used_mib() -> int:
    """What nvidia-smi shows now."""
    (used,) = Outcome(run("nvidia-smi", check=True).stdout, 0, ()).used_mib
    return used


def about_mib(gib: float) -> Any:
    """`~20GB`."""
    return pytest.approx(gib * GIB_MIB, rel=0.05)


def assert_idle(used: int) -> None:
    """`~15MB`."""
    assert used == pytest.approx(15, abs=16)


def servers() -> dict[int, str]:
    """Command lines of all inference servers, by pid, whoever started them."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            try:
                line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if SERVERS.search(line):
                found[int(folder.name)] = line
    return found


def assert_all_stopped() -> None:
    """No unit of ours is up, no process of one is left, nobody holds VRAM."""
    active = systemctl(
        "list-units", "--type=service", "--state=active,activating,deactivating", "--plain", "--no-legend"
    )
    assert not re.search("vllm|llama|glm|nemotron|devstral", active), active
    assert servers() == {}
    assert_idle(used_mib())


def assert_runs_alone(unit: str) -> None:
    """Every server belongs to this unit: nothing of the mode before is left."""
    for pid, line in servers().items():
        assert unit in Path(f"/proc/{pid}/cgroup").read_text(), f"orphan: pid {pid} {line}"
    assert systemctl("is-active", unit).strip() == "active"


def assert_clean_log(unit: str) -> None:
    """`Service logs are clean`, read with the procedure's own command."""
    command = log_command(DOCUMENT).replace("<unit>", unit)
    lines = run("bash", "-c", command, check=True).stdout.splitlines()
    assert len(lines) > 1
    assert [line for line in lines if TROUBLE.search(line)] == []
    assert run("bash", "-c", f"{command} -p err").stdout.strip() in ("", "-- No entries --")


def install() -> None:
    """The prerequisites' own command."""
    command = re.search(r"^- Unit files installed \(`([^`]+)`\)$", DOCUMENT, re.MULTILINE)
    assert command is not None
    run("bash", "-c", command[1], check=True)


# --- the document itself


def test_the_copy_is_the_procedure() -> None:
    assert hashlib.sha256(COPY.read_bytes()).hexdigest() == DIGEST
    if SOURCE.exists():
        assert COPY.read_bytes() == SOURCE.read_bytes()


def test_every_section_is_run() -> None:
    assert list(SECTIONS) == [f"Step {n}" for n in range(1, 7)] + [f"Test {n}" for n in range(1, 7)]
    source = Path(__file__).read_text()
    for name in SECTIONS:
        assert f'follow("{name}"' in source or f'commands_of("{name}")' in source, f"{name} is not run"


def test_only_the_listed_words_of_the_procedure_are_changed() -> None:
    assert [name for name, section in SECTIONS.items() if not section.commands] == list(WITHOUT_COMMANDS)
    assert WITHOUT_COMMANDS["Step 1"] == SECTIONS["Step 5"].commands.splitlines(keepends=True)[0]
    for name in SECTIONS:
        commands = commands_of(name)
        assert "<" not in commands.replace("</", ""), "a placeholder is not filled"
        changed = [line for line in commands.splitlines() if f"{line}\n" not in DOCUMENT]
        allowed = [new for _old, new, count, _why in SUBSTITUTIONS.get(name, ()) for _ in range(count)]
        assert changed == [new.rstrip("\n") for new in allowed]


# --- the procedure


@pytest.mark.bed
def test_sequence(record_property: Record) -> None:
    install()
    outcome = follow("Step 1", record_property)
    assert (outcome.status, outcome.failures) == (0, ())
    assert_all_stopped()

    outcome = follow("Step 2", record_property)
    assert (outcome.status, outcome.failures) == (0, ())
    assert outcome.output.endswith("\n2048 dims\n")
    assert_runs_alone("vllm-embedding.service")
    assert used_mib() == pytest.approx(15 + 4700, abs=64)
    assert_clean_log("vllm-embedding.service")

    outcome = follow("Step 3", record_property)
    assert (outcome.status, outcome.failures) == (0, ())
    (message,) = outcome.chats
    assert message["role"] == "assistant"
    assert message["content"].strip()
    assert_runs_alone("glm-code.service")
    assert used_mib() == about_mib(20)
    assert_clean_log("glm-code.service")
    assert_clean_log("vllm-embedding.service")

    outcome = follow("Step 4", record_property)
    assert (outcome.status, outcome.failures) == (0, ())
    (message,) = outcome.chats
    assert message["reasoning_content"].strip()
    assert_runs_alone("nemotron-3-nano.service")
    assert used_mib() == about_mib(23)
    assert_clean_log("nemotron-3-nano.service")
    assert_clean_log("glm-code.service")

    outcome = follow("Step 5", record_property)
    assert outcome.status == 1, "grep finds no unit"
    assert len(outcome.failures) == 1
    assert outcome.failures[0].startswith("1 grep")
    assert_all_stopped()

    outcome = follow("Step 6", record_property)
    assert (outcome.status, outcome.failures) == (0, ())
    (message,) = outcome.chats
    assert message["content"].strip()
    assert_all_stopped()
    assert_clean_log("devstral-small-2.service")
    gpu().assert_never_overcommitted()


def test_1_vram_timeout_failure(record_property: Record) -> None:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    environment.pop("PYTEST_ADDOPTS", None)
    done = subprocess.run(
        ["bash", "-c", commands_of("Test 1")],
        cwd=Path(__file__).parents[2],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    record_property("Test 1", json.dumps({"commands": commands_of("Test 1"), "output": done.stdout}))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "All 3 tests pass" in SECTIONS["Test 1"].expected
    assert len(re.findall(r"::TestVramTimeoutAborts::\S+ PASSED", done.stdout)) == 3
    assert re.search(r"= 3 passed in ", done.stdout)


@pytest.mark.bed
def test_2_sequential_mode_switch_success(record_property: Record) -> None:
    install()
    outcome = follow("Test 2", record_property, timeout_s=200)
    assert (outcome.status, outcome.failures) == (0, ())
    fresh, code, back, nemotron = outcome.used_mib
    assert_idle(fresh)
    assert code == about_mib(20)
    assert_idle(back)
    assert nemotron == about_mib(23)
    assert not re.search("VRAM not released|timeout|warning", outcome.output, re.IGNORECASE)
    assert_runs_alone("nemotron-3-nano.service")
    assert_clean_log("nemotron-3-nano.service")
    gpu().assert_never_overcommitted()


@pytest.mark.bed
def test_3_manual_curl_protection(record_property: Record) -> None:
    install()
    outcome = follow("Test 3", record_property)
    assert (outcome.status, outcome.failures) == (0, ())
    # Both run, as the procedure wants it; only one has its model in memory, and the other may not get it.
    assert systemctl("is-active", "glm-code.service", "nemotron-3-nano.service").split() == ["active", "active"]
    (answer,) = outcome.documents
    assert answer["error"]["code"] == 503
    assert answer["error"]["type"] == "insufficient_vram"
    assert re.search(r"insufficient VRAM.*held by llama-server", answer["error"]["message"])
    assert outcome.used_mib == [about_mib(20)] * 2
    assert "mode code: " in outcome.output, "gpumod status works"
    gpu().assert_never_overcommitted()


@pytest.mark.bed
def test_4_rapid_mode_switch_stress_test(record_property: Record) -> None:
    install()
    outcome = follow("Test 4", record_property, timeout_s=240)
    assert (outcome.status, outcome.failures) == (0, ())
    assert re.findall(r"=== (.+) ===", outcome.output) == [*(f"Iteration {n}" for n in range(1, 6)), "Complete"]
    assert "(acceptable)" not in outcome.output, "nothing gets in the way of a switch here"
    assert outcome.used_mib == [about_mib(23)]
    assert "mode nemotron: reached" in outcome.output
    assert_runs_alone("nemotron-3-nano.service")
    gpu().assert_never_overcommitted()


@pytest.mark.bed(gpu=SLOW_LOADS, timeout_s=900)
def test_5_recovery_from_failed_state(record_property: Record) -> None:
    install()
    told: list[tuple[str, object]] = []
    for _ in range(10):
        outcome = follow("Test 5", lambda name, value: told.append((name, value)), timeout_s=200)
        if not outcome.failures and "gpumod: code: failed at load" in outcome.output:
            break
        # Its two seconds were over before the load began: with a router that runs already, they are likelier enough.
        assert_all_stopped()
        run("gpumod", "mode", "switch", "code", "--no-load", check=True, timeout_s=120)
    record_property(*told[-1])
    assert re.search(r"^FAILED load ", outcome.output, re.MULTILINE), "the load was not in progress when pkill hit"
    assert (outcome.status, outcome.failures) == (0, ())
    assert "gpumod: code: failed at load" in outcome.output
    (used,) = outcome.used_mib
    assert_idle(used)
    assert "mode blank: reached" in outcome.output
    assert_all_stopped()
    gpu().assert_never_overcommitted()


@pytest.mark.bed
def test_6_localhost_binding_verification(record_property: Record) -> None:
    install()
    run("gpumod", "mode", "switch", "code", check=True, timeout_s=120)
    outcome = follow("Test 6", record_property)
    assert outcome.status == 7, "the last curl: connection refused"
    assert [line.split(" ")[0] for line in outcome.failures] == ["7"]
    assert outcome.documents[0]["status"] == "ok"
    assert run("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "http://127.0.0.1:7070/health").stdout == "200"
    listening = run("ss", "-Hltn", "sport = :7070").stdout.split()
    assert "127.0.0.1:7070" in listening
    for unit in ("glm-code.service", "nemotron-3-nano.service"):
        text = systemctl("cat", unit)
        assert "0.0.0.0" not in text
        assert not re.search(r"--port\b", text)
