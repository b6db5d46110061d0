"""`gpumod doctor` on a real box: what is wrong is found and named, and a clean box has no errors."""

import json
import os
import re
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from gpumod_tui.core.units.unit_file import stamped
from tests.bed.host import HOME, cgroup_pids, external_ip, gpu, install_unit, run, systemctl, wait_until

UNITS = HOME / ".config" / "systemd" / "user"
CONDITION = f"ExecCondition={sys.executable} -m gpumod_tui preflight --unit %n"
Findings = list[dict[str, str]]


@pytest.fixture(autouse=True)
def installed(request: pytest.FixtureRequest) -> None:
    """Units are there, and all of them ask for their VRAM."""
    if request.node.get_closest_marker("bed") is not None and os.environ.get("GPUMOD_BED") == "1":
        run("gpumod", "template", "install", "--yes", check=True)
        for path in UNITS.glob("*.service"):
            put_behind_the_door(path)
        systemctl("daemon-reload")


def put_behind_the_door(path: Path) -> None:
    text = path.read_text()
    if "\nSlice=gpumod.slice" in text and "\nExecCondition=" not in text:
        body = text.partition("\n")[2]
        path.write_text(stamped(body.replace("\nExecStart=", f"\n{CONDITION}\nExecStart=", 1)))


def doctor(*, expect: int | None = None, env: Mapping[str, str] | None = None, under: Sequence[str] = ()) -> Findings:
    """The findings of `gpumod doctor --json`; a traceback is never an answer."""
    done = run(*under, "gpumod", "doctor", "--json", env=env)
    assert "Traceback" not in done.stdout + done.stderr, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    findings: Findings = answer["findings"]
    assert answer["ok"] is (done.returncode == 0)
    assert answer["counts"]["error"] == len(of(findings, "error"))
    assert all(one["todo"] for one in findings if one["severity"] != "ok"), findings
    if expect is not None:
        assert done.returncode == expect, json.dumps(of(findings, "error"), indent=1)
    return findings


def of(findings: Findings, severity: str, check: str = "") -> list[str]:
    return [one["what"] for one in findings if one["severity"] == severity and check in ("", one["check"])]


@pytest.mark.bed
def test_a_clean_box_has_no_errors_and_is_left_as_it_was() -> None:
    def places() -> list[tuple[str, float]]:
        folders = (UNITS, Path.home() / ".local/state/gpumod", Path(os.environ["XDG_RUNTIME_DIR"]) / "gpumod")
        return [(str(path), path.stat().st_mtime) for folder in folders for path in sorted(folder.rglob("*"))]

    before = places()
    findings = doctor(expect=0)
    assert of(findings, "error") == []
    checks = {one["check"] for one in findings if one["severity"] == "ok"}
    assert checks >= {"sockets", "door", "presets", "ports", "nvidia", "memory", "session", "state"}
    assert any("560.35.03" in text for text in of(findings, "ok", "nvidia"))
    assert "units that ask for their VRAM before they start (ExecCondition): 4" in of(findings, "ok", "door")
    assert places() == before


@pytest.mark.bed
def test_a_box_at_work_has_no_errors_either() -> None:
    run("gpumod", "mode", "switch", "code", check=True)
    findings = doctor(expect=0)
    (sockets,) = [text for text in of(findings, "ok", "sockets") if "all on loopback" in text]
    assert int(sockets.removeprefix("open sockets: ").partition(",")[0]) >= 1
    assert not [text for text in of(findings, "warning") if "not managed" in text]


@pytest.mark.bed
def test_a_server_on_all_addresses_is_named_with_unit_pid_and_port() -> None:
    server = f"[Service]\nSlice=gpumod.slice\nExecStart={sys.executable} -m http.server 8123 --bind 0.0.0.0\n"
    install_unit("wide.service", server)
    systemctl("start", "wide.service")
    wait_until(lambda: reachable(8123), what="the server listens")
    (pid,) = cgroup_pids("wide.service")
    findings = doctor(expect=1)
    (found,) = of(findings, "error", "sockets")
    assert re.fullmatch(rf"wide\.service: \S+ pid {pid} listens on 0\.0\.0\.0:8123, beyond loopback", found)
    (door,) = of(findings, "error", "door")
    assert door == "wide.service as systemd has it loaded has no ExecCondition= of gpumod"
    shown = run("gpumod", "doctor")
    assert shown.returncode == 1
    assert shown.stdout.startswith("Errors\n")
    assert f"pid {pid} listens on 0.0.0.0:8123" in shown.stdout
    assert re.fullmatch(r"\d+ errors?, (no|\d+) warnings?, \d+ in order", shown.stdout.splitlines()[-1])


def reachable(port: int) -> bool:
    try:
        socket.create_connection((external_ip(), port), 1.0).close()
    except OSError:
        return False
    return True


@pytest.mark.bed
def test_a_guard_on_all_addresses_is_found_before_it_runs() -> None:
    install_unit("gpumod-guard.socket", "[Socket]\nListenStream=127.0.0.1:7070\nListenStream=[::]:7071\n")
    install_unit("gpumod-guard.service", "[Service]\nExecStart=/bin/sleep 60\n")
    found = of(doctor(expect=1), "error", "sockets")
    assert found == ["gpumod-guard.socket listens on [::]:7071, beyond loopback"]


@pytest.mark.bed
def test_a_port_that_the_guards_socket_holds_belongs_to_it() -> None:
    install_unit("gpumod-guard.socket", "[Socket]\nListenStream=127.0.0.1:7070\n")
    install_unit("gpumod-guard.service", "[Service]\nExecStart=/bin/sleep 60\n")
    systemctl("start", "gpumod-guard.socket")
    assert of(doctor(), "error", "ports") == []


@pytest.mark.bed
def test_an_edited_unit_and_one_without_its_condition_are_told_apart() -> None:
    edited = UNITS / "vllm-embedding.service"
    edited.write_text(edited.read_text() + "\n# by hand\n")
    open_door = UNITS / "glm-code.service"
    open_door.write_text(re.sub(r"\nExecCondition=.*", "", open_door.read_text()))
    systemctl("daemon-reload")
    findings = doctor(expect=1)
    assert f"vllm-embedding.service is hand-edited: {edited}" in of(findings, "warning", "units")
    assert of(findings, "error") == ["glm-code.service has no ExecCondition= of gpumod in its file"]


@pytest.mark.bed
def test_a_drop_in_that_opens_the_door_is_found_once_systemd_has_it() -> None:
    systemctl("start", "glm-code.service")  # What is not loaded, systemd reads anew whenever it is asked about it.
    drop_in = UNITS / "glm-code.service.d" / "open.conf"
    drop_in.parent.mkdir()
    drop_in.write_text("[Service]\nExecCondition=\n")
    before = doctor(expect=1)
    assert of(before, "error") == [f"glm-code.service: drop-in {drop_in} sets ExecCondition="]
    assert "glm-code.service was changed since systemd read it" in of(before, "warning", "door")
    systemctl("daemon-reload")
    after = doctor(expect=1)
    assert of(after, "error", "door") == ["glm-code.service as systemd has it loaded has no ExecCondition= of gpumod"]
    (todo,) = [one["todo"] for one in after if one["check"] == "door" and one["severity"] == "error"]
    assert str(drop_in) in todo


@pytest.mark.bed
def test_a_condition_whose_refusal_is_not_heard_is_an_error() -> None:
    drop_in = UNITS / "glm-code.service.d" / "open.conf"
    drop_in.parent.mkdir()
    drop_in.write_text(f"[Service]\nExecCondition=\n{CONDITION.replace('=', '=-', 1)}\n")
    systemctl("daemon-reload")
    (found,) = of(doctor(expect=1), "error", "door")
    assert "does not heed" in found


@pytest.mark.bed
def test_a_gpumod_that_is_gone_is_an_error() -> None:
    path = UNITS / "glm-code.service"
    path.write_text(re.sub(r"\nExecCondition=\S+", "\nExecCondition=/opt/gone/python", path.read_text()))
    systemctl("daemon-reload")
    (found,) = of(doctor(expect=1), "error", "door")
    assert found.startswith("/opt/gone/python, which decides for glm-code.service")


@pytest.mark.bed
def test_a_driver_that_was_updated_while_it_ran_is_an_error() -> None:
    gpu().config(faults=[{"function": "Init", "code": "LIB_RM_VERSION_MISMATCH"}])
    findings = doctor(expect=1)
    (found,) = [one for one in findings if one["severity"] == "error"]
    assert (found["check"], "was updated" in found["what"]) == ("nvidia", True)
    assert "reboot" in found["todo"]


@pytest.mark.bed
def test_unified_memory_in_the_managers_environment_is_an_error() -> None:
    file = Path.home() / ".config" / "environment.d" / "unified.conf"
    file.parent.mkdir(parents=True)
    file.write_text("GGML_CUDA_ENABLE_UNIFIED_MEMORY=0\n")
    systemctl("daemon-reload")
    assert of(doctor(expect=1), "error") == [
        "GGML_CUDA_ENABLE_UNIFIED_MEMORY=0 is set in the user manager's environment"
    ]
    file.unlink()
    systemctl("daemon-reload")
    systemctl("unset-environment", "GGML_CUDA_ENABLE_UNIFIED_MEMORY")
    doctor(expect=0)


@pytest.mark.bed
def test_a_stranger_on_a_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 8200)):
        (found,) = of(doctor(expect=1), "error")
    assert found.startswith("port 8200 of vllm-embedding is held by ")
    assert f"pid {os.getpid()}" in found
    doctor(expect=0)


@pytest.mark.bed
def test_a_stranger_on_the_gpu_is_a_warning() -> None:
    gpu().declare(os.getpid(), {0: 700})
    wait_until(lambda: gpu().used_mib() >= 700, what="the stranger holds memory")
    assert any(f"pid {os.getpid()}" in text for text in of(doctor(expect=0), "warning", "memory"))


@pytest.mark.bed
def test_linger_is_known_where_there_is_a_logind() -> None:
    """A namespace with a /var/lib/systemd and a /run/systemd of its own; systemd stays the same."""
    script = (
        "set -e; mount -t tmpfs none /var/lib/systemd; mkdir /var/lib/systemd/linger;"
        " mount -t tmpfs none /run/systemd; mkdir /run/systemd/users;"
        ' [ "$1" = no ] || touch "/var/lib/systemd/linger/$1";'
        ' shift; exec "$@"'
    )
    namespace = ["unshare", "--user", "--map-current-user", "--keep-caps", "--mount", "bash", "-c", script, "bash"]
    if run(*namespace, "no", "true").returncode:
        pytest.skip("no namespaces for users here")
    assert "no linger for gpu" in of(doctor(under=[*namespace, "no"], expect=0), "warning", "session")
    assert "units of gpu live on without a login (linger)" in of(doctor(under=[*namespace, "gpu"], expect=0), "ok")
    assert "linger is unknown: there is no logind here" in of(doctor(), "ok")


@pytest.mark.bed
def test_an_open_runtime_folder_and_a_damaged_ledger_are_errors() -> None:
    runtime = Path(os.environ["XDG_RUNTIME_DIR"]) / "gpumod"
    runtime.mkdir(exist_ok=True)
    runtime.chmod(0o755)
    (runtime / "ledger.json").write_text("{")
    found = of(doctor(expect=1), "error", "state")
    assert f"{runtime} is open to others (mode 755)" in found
    assert any("is damaged" in text for text in found)
    assert (runtime / "ledger.json").read_text() == "{"


@pytest.mark.bed
def test_without_a_user_manager_every_check_that_can_be_made_is_made(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    findings = doctor(expect=1, env={"XDG_RUNTIME_DIR": str(tmp_path), "DBUS_SESSION_BUS_ADDRESS": ""})
    (found,) = [one for one in findings if "systemd" in one["what"] and one["severity"] == "error"]
    assert {"sockets", "door"} <= set(found["why"].removeprefix("could not be checked: ").split(", "))
    assert of(findings, "ok", "nvidia")


@pytest.mark.bed
def test_a_broken_configuration_is_a_finding() -> None:
    file = Path.home() / ".config" / "gpumod" / "config.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("vram_margin_mb: much\n")
    findings = doctor(expect=1)
    (found,) = of(findings, "error")
    assert "vram_margin_mb" in found
    assert of(findings, "ok", "nvidia")


@pytest.mark.bed
def test_a_broken_preset_is_an_error_that_names_the_file() -> None:
    file = Path.home() / ".config" / "gpumod" / "presets" / "bad.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("id: bad\ndriver: vllm\nport: many\n")
    found = of(doctor(expect=1), "error", "presets")
    assert found
    assert all(str(file) in text for text in found)
