"""`gpumod template` and `gpumod preset`: what they print, what they touch, and how they end."""

import json
from collections.abc import Iterable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gpumod_tui import wiring
from gpumod_tui.adapters.files.config import load_config
from gpumod_tui.adapters.files.paths import Places
from gpumod_tui.adapters.files.peaks import PeaksFile
from gpumod_tui.adapters.files.presets import load_registry
from gpumod_tui.adapters.models.files import ModelFolder
from gpumod_tui.adapters.systemd.render import render_guard, render_login_mode
from gpumod_tui.adapters.systemd.unit_files import InstalledUnits
from gpumod_tui.cli.preset import preset
from gpumod_tui.cli.template import template
from gpumod_tui.core.catalog.registry import ServiceRegistry
from gpumod_tui.core.errors import ConfigInvalid, GpuUnavailable, SystemdUnavailable, UnknownName
from gpumod_tui.core.models import ActiveState, GpuReading, GpuSample, Listener, UnitState
from gpumod_tui.core.units.login import LOGIN_UNIT
from gpumod_tui.core.vram.requirements import VramRequirements
from gpumod_tui.demo.clock import PlayedClock
from gpumod_tui.resources import packaged

SOCKET, GUARD = "gpumod-guard.socket", "gpumod-guard.service"


class Gpus:
    reason = ""

    def read(self, *, processes: bool) -> GpuReading:
        if self.reason:
            raise GpuUnavailable(self.reason)
        return GpuReading(0.0, None, (GpuSample(0, uuid="GPU-0a"),))


class Units:
    """The user manager: what is started runs, and its socket holds the ports that its file names."""

    reloads = 0
    running: tuple[str, ...] = ()
    reason = ""
    stuck = False
    """A socket cannot be started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.enabled: set[str] = set()
        self.asked: list[str] = []
        self.ports: list[int] = []

    def enable(self, unit: str) -> bool:
        new = unit not in self.enabled
        self.enabled.add(unit)
        return new

    def disable(self, unit: str) -> bool:
        was = unit in self.enabled
        self.enabled.discard(unit)
        return was

    def start(self, unit: str) -> None:
        self.asked.append(f"start {unit}")
        if self.stuck:
            return
        self.running = (*self.running, unit)
        lines = (self.folder / unit).read_text().splitlines()
        self.ports = [int(line.rpartition(":")[2]) for line in lines if line.startswith("ListenStream=")]

    def stop(self, unit: str) -> None:
        self.asked.append(f"stop {unit}")
        self.running = tuple(name for name in self.running if name != unit)

    def reset_failed(self, unit: str) -> None: ...

    def reload(self) -> None:
        if self.reason:
            raise SystemdUnavailable(self.reason, hint="log in")
        self.reloads += 1

    def states(self, units: Iterable[str]) -> dict[str, UnitState]:
        return {
            unit: UnitState(unit, active_state=ActiveState.ACTIVE if unit in self.running else ActiveState.INACTIVE)
            for unit in units
        }


class Processes:
    def __init__(self, units: Units) -> None:
        self.units = units
        self.strangers: dict[int, Listener] = {}

    def listeners(self, port: int) -> tuple[Listener, ...]:
        if port in self.strangers:
            return (self.strangers[port],)
        up = SOCKET in self.units.running and port in self.units.ports
        return (Listener(port, 70, "init.scope", "systemd"),) if up else ()


class Box:
    """The host that the commands get."""

    def __init__(self, root: Path) -> None:
        self.places = Places(*(root / name for name in ("gpumod", "state", "cache", "systemd/user", "runtime")))
        self.gpus = Gpus()
        self.units = Units(self.places.units)
        self.processes = Processes(self.units)
        self.clock = PlayedClock()
        self.unit_files = InstalledUnits(self.places.units)
        self.needs = VramRequirements(ModelFolder(), PeaksFile(self.places.state, self.places.runtime), self.unit_files)

    @property
    def registry(self) -> ServiceRegistry:
        return load_registry(self.places)

    def unit(self, service: str) -> Path:
        return self.places.units / f"{service}.service"

    def put(self, name: str, text: str) -> Path:
        path = self.places.config / "presets" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Box:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("llama-server", "vllm"):
        (programs / name).write_text("#!/bin/sh\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("GPUMOD_PRESETS", "GPUMOD_MODELS_DIR", "XDG_CONFIG_DIRS", "XDG_DATA_HOME", "XDG_DATA_DIRS"):
        monkeypatch.delenv(name, raising=False)
    box = Box(tmp_path)
    monkeypatch.setattr(wiring, "real_host", lambda: box)
    return box


def run(*words: str, group: object = template) -> Result:
    assert hasattr(group, "main")
    return CliRunner().invoke(group, list(words), catch_exceptions=True)  # type: ignore[arg-type]


def states_of(listed: Result) -> dict[str, str]:
    return {line.split()[0]: line.split()[1] for line in listed.stdout.splitlines()[1:]}


def test_install_without_yes_shows_the_difference_and_changes_nothing(box: Box) -> None:
    done = run("install")
    assert done.exit_code == 0
    assert "--- /dev/null\n" in done.stdout
    assert f"+++ {box.unit('glm-code')}\n" in done.stdout
    assert "+KillMode=control-group\n" in done.stdout
    last = done.stdout.splitlines()[-1]
    assert last == "Nothing was changed. To install 6 of 6 units: gpumod template install --yes"
    assert not box.places.units.exists()
    assert not (box.places.config / "config.yaml").exists()
    assert box.units.reloads == 0


def test_install_writes_all_units_and_reloads_the_manager(box: Box) -> None:
    done = run("install", "--yes")
    assert done.exit_code == 0
    assert sorted(path.name for path in box.places.units.iterdir()) == [
        "devstral-small-2.service",
        "glm-code.service",
        GUARD,
        SOCKET,
        "nemotron-3-nano.service",
        "vllm-embedding.service",
    ]
    assert "glm-code.service: installed" in done.stdout
    # Once for the files, once for what was enabled.
    assert box.units.reloads == 2
    again = run("install", "--yes")
    assert "glm-code.service: unchanged" in again.stdout
    assert run("install").stdout == "Nothing was changed, and there is nothing to install.\n"
    box.gpus.reason = "no NVIDIA driver"
    assert run("install").stdout == "Nothing was changed, and 4 of 6 units cannot be installed.\n"


def test_install_takes_ids(box: Box) -> None:
    assert run("install", "glm-code", "--yes").exit_code == 0
    assert sorted(path.name for path in box.places.units.iterdir()) == ["glm-code.service", GUARD, SOCKET]
    wrong = run("install", "glm-kode")
    assert isinstance(wrong.exception, UnknownName)
    assert "glm-code" in wrong.exception.hint


def test_an_outdated_unit_is_replaced_and_the_difference_shown(box: Box) -> None:
    run("install", "--yes")
    box.units.running = ("glm-code.service",)
    box.put("own.yaml", "id: glm-code\ndriver: llamacpp\nport: 7171\nvram_mb: 100\n")
    shown = run("install")
    assert (
        "-ListenStream=127.0.0.1:7070\n+ListenStream=127.0.0.1:7070\n+ListenStream=127.0.0.1:7171\n" not in shown.stdout
    )
    assert "+ListenStream=127.0.0.1:7171\n" in shown.stdout
    done = run("install", "--yes")
    assert "glm-code.service: replaced" in done.stdout
    assert "glm-code: it is running; the new unit counts from its next start" in done.stderr
    assert "ListenStream=127.0.0.1:7171\n" in (box.places.units / SOCKET).read_text()


@pytest.mark.parametrize("text", ["[Service]\nExecStart=/mine\n", None])
def test_what_is_not_ours_or_was_edited_is_kept_and_named_unless_forced(box: Box, text: str | None) -> None:
    run("install", "--yes")
    unit = box.unit("glm-code")
    unit.write_text(text or unit.read_text().replace("OOMPolicy=stop", "OOMPolicy=continue"))
    kept = unit.read_text()
    done = run("install", "--yes")
    assert done.exit_code == 0
    assert unit.read_text() == kept
    assert f"glm-code.service is {'foreign' if text else 'hand-edited'}: kept; --force replaces it" in done.stderr
    assert "OOMPolicy" not in run("install").stdout
    assert run("install", "--force").stdout.splitlines()[-1].endswith("gpumod template install --force --yes")
    assert run("install", "--yes", "--force").exit_code == 0
    assert "OOMPolicy=stop" in unit.read_text()


def test_a_gpu_that_cannot_be_asked_is_not_guessed(box: Box) -> None:
    box.gpus.reason = "no NVIDIA driver"
    done = run("install", "--yes")
    assert done.exit_code == 3
    assert "glm-code: the UUID of GPU 0 is needed, and NVML cannot be read (no NVIDIA driver)" in done.stderr
    assert not box.places.units.exists()
    assert box.units.reloads == 0
    with pytest.raises(GpuUnavailable, match="no NVIDIA driver"):
        raise run("generate", "glm-code").exception or AssertionError
    box.put("cpu.yaml", "id: cpu\ndriver: llamacpp\nport: 1\nvram_mb: 0\n")
    assert run("install", "--yes").exit_code == 1
    assert sorted(path.name for path in box.places.units.iterdir()) == ["cpu.service", GUARD, SOCKET]


def test_a_program_that_is_missing_stops_its_own_unit_only(box: Box) -> None:
    Path(box.places.config.parent / "bin" / "vllm").unlink()
    done = run("install", "--yes")
    assert done.exit_code == 1
    assert "'vllm', which is not on PATH" in done.stderr
    assert box.unit("glm-code").exists()
    assert not box.unit("vllm-embedding").exists()
    assert states_of(run("list"))["vllm-embedding"] == "missing"


def test_a_write_that_fails_says_what_was_written(box: Box) -> None:
    box.unit("glm-code").mkdir(parents=True)
    (box.unit("glm-code") / "x").touch()
    done = run("install", "--yes", "--force")
    assert done.exit_code == 1
    assert "glm-code.service: not written: " in done.stdout
    assert "nemotron-3-nano.service: installed" in done.stdout
    assert f"{box.unit('glm-code')} could not be written" in done.stderr
    assert box.units.reloads > 0


def test_a_manager_that_cannot_be_asked_is_said(box: Box) -> None:
    box.units.reason = "no bus"
    done = run("install", "--yes")
    assert done.exit_code == 1
    assert "systemd has not read the units again: no bus; log in" in done.stderr
    assert box.unit("glm-code").exists()


def test_folders_of_the_shell_are_recorded_where_units_see_them(
    box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "more").mkdir()
    monkeypatch.setenv("GPUMOD_PRESETS", str(tmp_path / "more"))
    monkeypatch.setenv("GPUMOD_MODELS_DIR", "/weights")
    done = run("install", "--yes")
    assert "presets recorded" in done.stdout
    assert "--models-dir /weights" in box.unit("glm-code").read_text()
    config = load_config(box.places, {"HOME": str(tmp_path)})
    assert (config.presets, config.models_dir) == ((tmp_path / "more",), Path("/weights"))


def test_units_without_a_preset_and_drop_ins_that_undo_safety_are_named(box: Box) -> None:
    preset_file = box.put("own.yaml", "id: own\ndriver: llamacpp\nport: 1\nvram_mb: 0\n")
    run("install", "--yes")
    preset_file.unlink()
    drop_in = box.places.units / "glm-code.service.d" / "x.conf"
    drop_in.parent.mkdir()
    drop_in.write_text("[Service]\nKillMode=none\n")
    for done in (run("list"), run("install"), run("install", "--yes")):
        assert "own.service: gpumod's unit, and its preset is gone or broken" in done.stderr
        assert f"glm-code: drop-in {drop_in} sets KillMode=none: remove it" in done.stderr
    assert box.unit("own").exists()


def test_list_says_how_each_unit_stands(box: Box) -> None:
    run("install", "glm-code", "nemotron-3-nano", "devstral-small-2", "--yes")
    box.unit("nemotron-3-nano").write_text("[Service]\n")
    box.unit("devstral-small-2").write_text(box.unit("devstral-small-2").read_text() + "# mine\n")
    assert states_of(run("list")) == {
        "glm-code": "current",
        "nemotron-3-nano": "foreign",
        "devstral-small-2": "hand-edited",
        "vllm-embedding": "missing",
        SOCKET: "current",
        GUARD: "current",
    }


def test_json_is_all_that_stdout_holds(box: Box) -> None:
    box.put("bad.yaml", "id: bad\ndriver: vlm\n")
    listed = json.loads(run("list", "--json").stdout)
    assert {unit["service"]: unit["state"] for unit in listed["units"]}["glm-code"] == "missing"
    planned = json.loads(run("install", "--json").stdout)
    assert (planned["applied"], planned["units"][1]["action"]) == (False, "write")
    applied = json.loads(run("install", "--yes", "--json").stdout)
    assert all(unit["written"] for unit in applied["units"])
    assert json.loads(run("generate", "glm-code", "--json").stdout)["unit"] == "glm-code.service"
    assert "ExecStart=" in json.loads(run("show", "base", "--json").stdout)["text"]
    checked = run("check", "--json", group=preset)
    assert checked.exit_code == 1
    assert json.loads(checked.stdout)["problems"][0]["key"] == "driver"
    kinds = {row["id"]: row["kind"] for row in json.loads(run("list", "--json", group=preset).stdout)["presets"]}
    assert kinds["glm-code"] == "service"
    assert kinds["blank"] == "mode"


def test_generate_prints_what_install_would_write(box: Box) -> None:
    text = run("generate", "glm-code").stdout
    run("install", "glm-code", "--yes")
    assert box.unit("glm-code").read_text() == text


def test_show_prints_a_template(box: Box) -> None:
    for name in ("llamacpp", "llamacpp.service", "llamacpp.service.j2"):
        assert "--no-models-autoload" in run("show", name).stdout
    assert isinstance(run("show", "../etc").exception, UnknownName)


def test_check_names_every_problem_and_ends_with_one(box: Box, tmp_path: Path) -> None:
    assert run("check", group=preset).exit_code == 0
    bad = box.put("bad.yaml", "id: bad\ndriver: llamacpp\nport: 0\nvram: 5\n")
    done = run("check", group=preset)
    assert done.exit_code == 1
    assert f"{bad}: port: found 0, expected a port, 1 to 65535" in done.stdout
    assert f"{bad}: vram: found an unknown field, expected vram_mb (did you mean that?)" in done.stdout
    good = tmp_path / "good.yaml"
    good.write_text("id: m\nservices: [glm-code]\n")
    assert run("check", str(good), group=preset).exit_code == 0
    assert run("check", str(good), str(bad), group=preset).exit_code == 1
    assert isinstance(run("check", str(tmp_path / "none.yaml"), group=preset).exception, ConfigInvalid)


def test_check_warns_of_a_preset_that_declares_less_than_was_measured(box: Box) -> None:
    path = box.put("app.yaml", "id: app\ndriver: command\nvram_mb: 1000\nunit_vars: {command: [server]}\n")
    assert "measured" not in run("check", group=preset).stdout
    box.needs.note(box.needs.unit_key(box.registry.service("app"), box.gpus.read(processes=False)), {0: 2000 << 20})
    done = run("check", group=preset)
    assert f"warning: {path} declares 1000 MiB, and 2000 MiB were measured: set vram_mb to 2000 or more" in done.stdout
    assert done.exit_code == 0
    assert "2000 MiB" in json.loads(run("check", "--json", group=preset).stdout)["warnings"][-1]


def test_the_schema_is_json(box: Box) -> None:
    assert json.loads(run("schema", group=preset).stdout)["title"] == "gpumod preset"


def test_a_key_that_others_can_read_is_named(box: Box, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("k")
    key.chmod(0o644)
    box.put("cpu.yaml", f"id: cpu\ndriver: llamacpp\nport: 1\nvram_mb: 0\napi_key_file: {key}\n")
    assert f"key file {key} can be read by others: chmod 600 {key}" in run("install", "cpu").stderr
    key.chmod(0o600)
    assert "can be read" not in run("install", "cpu").stderr


# --- the guard


def guard_units(box: Box) -> dict[str, str]:
    return {name: (box.places.units / name).read_text() for name in (SOCKET, GUARD)}


def test_the_guard_is_installed_enabled_and_started_with_the_services_it_stands_before(box: Box) -> None:
    done = run("install", "--yes")
    assert done.exit_code == 0
    assert GUARD not in done.stderr
    assert box.units.enabled == {SOCKET}
    # systemd refuses to start a socket whose service runs.
    assert box.units.asked == [f"stop {SOCKET}", f"stop {GUARD}", f"start {SOCKET}"]
    assert f"{SOCKET}: listens on 127.0.0.1, port 7070" in done.stdout
    texts = guard_units(box)
    assert [line for line in texts[SOCKET].splitlines() if "Listen" in line] == ["ListenStream=127.0.0.1:7070"]
    assert "Slice=gpumod.slice" not in texts[GUARD]
    assert box.unit_files.stamped() == tuple(f"{name}.service" for name in sorted(box.registry.services))
    box.units.asked.clear()
    assert run("install", "--yes").exit_code == 0
    assert box.units.asked == []


@pytest.mark.parametrize("mode", ["vllm", "llama-box", "glm", "nemotron-3", "blank", "a.b_c-d"])
def test_no_description_of_ours_is_taken_for_a_server(mode: str) -> None:
    """The procedure looks for servers in what list-units prints."""
    texts = {**render_guard([7070]), LOGIN_UNIT: render_login_mode(mode)}
    own = {path.name.removesuffix(".j2") for path in packaged("units").glob("gpumod-*.j2")}
    assert set(texts) == own
    for text in texts.values():
        (line,) = [line for line in text.splitlines() if line.startswith("Description=")]
        assert not any(word in line.lower() for word in ("vllm", "llama", "glm", "nemotron", mode))


def test_changed_ports_restart_the_socket_and_it_is_said(box: Box) -> None:
    run("install", "--yes")
    box.units.running = (SOCKET, GUARD)
    box.put("own.yaml", "id: own\ndriver: llamacpp\nport: 7171\nvram_mb: 100\n")
    box.units.asked.clear()
    done = run("install", "--yes")
    assert box.units.asked == [f"stop {SOCKET}", f"stop {GUARD}", f"start {SOCKET}"]
    assert f"{SOCKET}: restarted, since its ports changed" in done.stdout
    assert f"{SOCKET}: listens on 127.0.0.1, port 7070, 7171" in done.stdout
    assert box.units.ports == [7070, 7171]


def test_a_changed_server_restarts_the_guard_alone(box: Box) -> None:
    run("install", "--yes")
    box.units.running = (SOCKET, GUARD)
    box.put("own.yaml", "id: glm-code\ndriver: llamacpp\nport: 7070\nvram_mb: 100\n")
    box.units.asked.clear()
    done = run("install", "--yes")
    assert box.units.asked == [f"stop {GUARD}"]
    assert f"{GUARD}: restarted" in done.stdout


def test_an_interrupted_installation_is_finished_by_the_next(box: Box) -> None:
    run("install", "--yes")
    box.units.ports = [7071]
    box.units.asked.clear()
    assert run("install", "--yes").exit_code == 0
    assert box.units.ports == [7070]


def test_a_port_that_somebody_else_holds_is_named_with_its_holder(box: Box) -> None:
    box.units.stuck = True
    box.processes.strangers[7070] = Listener(7070, 99, None, "nginx")
    done = run("install", "--yes")
    assert done.exit_code == 1
    assert f"{SOCKET} could not take its ports: port 7070 is held by nginx pid 99 (no unit)" in done.stderr
    assert box.units.enabled == {SOCKET}
    box.processes.strangers[7070] = Listener(7070, 98, "glm-code.service", "llama-server")
    assert "gpumod service restart glm-code" in run("install", "--yes").stderr


def test_the_guard_goes_with_the_last_service_it_stands_before(box: Box) -> None:
    run("install", "--yes")
    for name in ("glm-code", "nemotron-3-nano"):
        box.put(f"{name}.yaml", f"id: {name}\ndriver: llamacpp\nport: 7070\nvram_mb: 1\nmodel_path: /m.gguf\n")
    shown = run("install")
    assert "+++ /dev/null" in shown.stdout
    box.units.asked.clear()
    done = run("install", "--yes")
    assert done.exit_code == 0
    assert box.units.asked == [f"stop {SOCKET}", f"stop {GUARD}"]
    assert box.units.enabled == set()
    assert f"{SOCKET}: removed" in done.stdout
    assert not (box.places.units / SOCKET).exists()
    assert not (box.places.units / GUARD).exists()


def test_hand_edited_units_of_the_guard_are_kept_unless_forced(box: Box) -> None:
    run("install", "--yes")
    socket = box.places.units / SOCKET
    socket.write_text(socket.read_text().replace("127.0.0.1", "0.0.0.0"))
    done = run("install", "--yes")
    assert f"{SOCKET}: kept (hand-edited; --force replaces it)" in done.stdout
    assert "0.0.0.0" in socket.read_text()
    drop_in = box.places.units / f"{SOCKET}.d" / "more.conf"
    drop_in.parent.mkdir()
    drop_in.write_text("[Socket]\nListenStream=0.0.0.0:7070\n")
    assert "sets ListenStream=0.0.0.0:7070: remove it" in run("install", "--yes", "--force").stderr
    assert "0.0.0.0" not in socket.read_text()


def test_installing_what_the_guard_has_no_part_in_leaves_it_alone(box: Box) -> None:
    run("install", "vllm-embedding", "--yes")
    assert [path.name for path in box.places.units.iterdir()] == ["vllm-embedding.service"]
    assert box.units.asked == []
