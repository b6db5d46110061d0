"""The played unit files: short, and one line older than their presets."""

from gpumod_tui.core.models import DriverKind, GpuReading, Service
from gpumod_tui.core.units.unit_file import stamped

_PROGRAMS = {DriverKind.LLAMACPP: "llama-server", DriverKind.VLLM: "vllm serve", DriverKind.FASTAPI: "uvicorn"}


def unit_text(service: Service, *, stop_s: float | None = None) -> str:
    """What an installation wrote; `stop_s`: the stop timeout that its preset had then."""
    where = f"--host %t/gpumod/{service.id}.sock" if service.is_guarded else f"--host 127.0.0.1 --port {service.port}"
    return stamped(
        f"""# {service.unit}: written by gpumod. Change the preset, not this file: a changed file is kept as it is.
[Unit]
Description={service.name} (gpumod)

[Service]
Type=exec
Slice=gpumod.slice
ExecCondition=/usr/local/bin/gpumod preflight --unit %n
ExecStart=/usr/local/bin/{_PROGRAMS.get(service.driver, "server")} {where}
Restart=on-failure
KillMode=control-group
TimeoutStopSec={stop_s if stop_s is not None else service.stop_timeout_s:g}
OOMPolicy=stop
"""
    )


def render_unit(service: Service, _reading: GpuReading | None) -> str:
    """What an installation would write now."""
    return unit_text(service)
