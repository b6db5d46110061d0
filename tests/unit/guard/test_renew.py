"""Presets and settings change under a guard that runs: it decides by what is on disk."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gpumod_tui.core.admission.decide import Refused
from gpumod_tui.core.text import MIB
from gpumod_tui.core.units.guard import GuardAction
from gpumod_tui.guard.admission import Gate
from gpumod_tui.guard.server.app import Guard
from gpumod_tui.wiring import RealHost
from tests.unit.guard.test_loads import session_in_loop

pytestmark = pytest.mark.usefixtures("session_in_loop")
__all__ = ("session_in_loop",)


class Box:
    """A host over files, whose admission control says what it decided by."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.presets = folder / "config" / "gpumod" / "presets"
        self.config = folder / "config" / "gpumod" / "config.yaml"
        self.presets.mkdir(parents=True)
        monkeypatch.setenv("HOME", str(folder))
        monkeypatch.delenv("GPUMOD_PRESETS", raising=False)
        for name in ("CONFIG", "STATE", "CACHE", "DATA"):
            monkeypatch.setenv(f"XDG_{name}_HOME", str(folder / name.lower()))
        (folder / "run").mkdir(mode=0o700)
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder / "run"))
        self.host = RealHost()
        self.host.__dict__["admission"] = SimpleNamespace(admit=self._admit)

    def write(self, name: str = "glm-code", **keys: object) -> None:
        given = {"id": name, "driver": "llamacpp", "port": 7070, **keys}
        text = "".join(f"{key}: {value}\n" for key, value in given.items())
        (self.presets / f"{name}.yaml").write_text(text)

    def _admit(self, unit: str, model: str) -> Any:
        service = self.host.registry.services.get(unit.removesuffix(".service"))
        vram = service.vram_bytes if service else None
        return (None if vram is None else vram // MIB, self.host.settings.vram_margin_bytes // MIB)


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Box:
    return Box(tmp_path, monkeypatch)


def test_a_load_is_decided_by_the_preset_as_it_is_on_disk(box: Box) -> None:
    box.write(vram_mb=4096)
    gate: Any = Gate(box.host)
    assert gate.decide("glm-code.service", "m") == (4096, 512)
    box.write(vram_mb=20480)
    assert gate.decide("glm-code.service", "m") == (20480, 512)
    box.config.write_text("vram_margin_mb: 1024\n")
    assert gate.decide("glm-code.service", "m") == (20480, 1024)


def test_a_preset_that_breaks_is_unknown_and_the_others_stay(box: Box) -> None:
    box.write(vram_mb=4096)
    box.write("other", vram_mb=2048, default_model="x")
    gate: Any = Gate(box.host)
    assert gate.decide("glm-code.service", "m") == (4096, 512)
    box.write(vram_mb="lots")
    assert gate.decide("glm-code.service", "m") == (None, 512)
    assert gate.decide("other.service", "m") == (2048, 512)


def test_settings_that_break_refuse_every_load_and_allow_nothing(box: Box) -> None:
    box.write(vram_mb=4096)
    box.config.write_text("guard_allow: [download]\n")
    gate = Gate(box.host)
    assert gate.allowed() == {GuardAction.DOWNLOAD}
    box.config.write_text("vram_margin_mb: -7\n")
    refused = gate.decide("glm-code.service", "m")
    assert isinstance(refused, Refused)
    assert "vram_margin_mb" in str(refused)
    assert gate.allowed() == frozenset()
    assert gate.catalog().services["glm-code"].vram_bytes == 4096 * MIB
    box.config.write_text("guard_allow: [delete]\n")
    assert gate.allowed() == {GuardAction.DELETE}


def test_routers_are_known_as_their_presets_say_now(box: Box) -> None:
    box.write(vram_mb=4096)

    async def run() -> None:
        guard = Guard(box.host, lambda name: box.presets / name)
        front = guard._fronts[7070]
        before = {router.service.id: router for router in front.routers}
        box.write(vram_mb=4096, default_model="m", unit_vars="{evict: true}", startup_timeout=7)
        box.write("new-one", vram_mb=2048)
        await guard._renew()
        after = {router.service.id: router for router in front.routers}
        assert set(after) - set(before) == {"new-one"}
        router = after["glm-code"]
        assert router is before["glm-code"], "its streams and its models in use are not forgotten"
        assert (router.service.default_model, router.service.unit_vars["evict"]) == ("m", True)
        assert router.service.startup_timeout_s == 7
        box.write("new-one", vram_mb="lots")
        await guard._renew()
        assert {one.service.id for one in front.routers} == set(after)
        await guard.close()

    asyncio.run(run())
