"""What is learned of a service that nobody watches: neither guard nor dashboard runs."""

import pytest

from tests.bed.host import HOME, gpu, run, systemctl, unit_properties, wait_until

PRESETS = HOME / ".config" / "gpumod" / "presets"
PEAKS = HOME / ".local" / "state" / "gpumod" / "peaks.json"


def preset(name: str, vram_mb: int) -> None:
    PRESETS.mkdir(parents=True, exist_ok=True)
    lines = (f"id: {name}", "driver: command", f"vram_mb: {vram_mb}", "unit_vars:", "  command: sleep 600")
    (PRESETS / f"{name}.yaml").write_text("\n".join(lines) + "\n")


@pytest.mark.bed
@pytest.mark.parametrize("seen_by", ["a status", "an admission"])
@pytest.mark.parametrize("declared_mib", [0, 500])
def test_what_an_unguarded_service_holds_is_measured(seen_by: str, declared_mib: int) -> None:
    preset("grows", declared_mib)
    preset("other", 0)
    run("gpumod", "template", "install", "grows", "other", "--yes", check=True)
    systemctl("start", "grows.service")
    pid = int(unit_properties("grows.service", "MainPID")["MainPID"])
    gpu().declare(pid, {0: 3000})
    wait_until(lambda: gpu().used_mib(0) > 3000)
    assert not PEAKS.exists() or "grows" not in PEAKS.read_text()
    if seen_by == "a status":
        run("gpumod", "status", check=True)
    else:
        systemctl("start", "other.service")
    assert "unit grows" in PEAKS.read_text()
    systemctl("stop", "grows.service")
    wait_until(lambda: gpu().used_mib(0) < 1000)
    planned = run("gpumod", "simulate", "services", "grows")
    assert "3000 MiB" in planned.stdout, planned.stdout + planned.stderr
