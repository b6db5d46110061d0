"""A service becomes the text of its unit. Importing this imports jinja2: only what renders does."""

import json
import os
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import jinja2

from gpumod_tui.core.errors import GpuUnavailable, PresetInvalid
from gpumod_tui.core.models import DriverKind, GpuReading, Service
from gpumod_tui.core.servers.memory_settings import VARIABLE, memory_settings
from gpumod_tui.core.units.guard import GUARD_SOCKET, GUARD_UNITS
from gpumod_tui.core.units.login import LOGIN_UNIT
from gpumod_tui.core.units.unit_file import quote_assignment, quote_line, quote_word, stamped
from gpumod_tui.core.vram.estimate.options import tensor_split
from gpumod_tui.resources import packaged

ALL_LAYERS: Final = 999
"""More than any model has: every llama-server understands it, where -1 and `all` depend on its age."""
CONDITION_S: Final = 60.0
"""More than `gpumod preflight` takes: it waits up to 30 s for memory that is on its way back."""
_PROGRAMS: Final[Mapping[DriverKind, str]] = {
    DriverKind.LLAMACPP: "llama-server",
    DriverKind.VLLM: "vllm",
    DriverKind.FASTAPI: "uvicorn",
}
_SYSTEM_PATH: Final = ("/usr/local/cuda/bin", "/usr/local/bin", "/usr/bin", "/bin")
# vLLM takes its key from the environment or the command line, and a unit's are both open to everyone. The shell reads
# the file when the service starts, and becomes the server; without a key there is no server.
_KEY_READER: Final = (
    'VLLM_API_KEY=$(sed -n \'/^[^#]/{p;q}\' "$0") && [ -n "$VLLM_API_KEY" ] && export VLLM_API_KEY && exec "$@";'
    ' echo "no key in $0" >&2; exit 78'
)


class _Raw(str):
    """Text that is already as the unit file needs it."""

    __slots__ = ()


def _finalize(value: object) -> object:
    """What a bare {{ value }} becomes: one argument of ExecStart. A forgotten filter can't let a value out of it."""
    if isinstance(value, _Raw | jinja2.Undefined):
        return value
    if value is None or isinstance(value, bool):
        raise jinja2.UndefinedError(f"{value} is no argument")
    return quote_word(str(value))


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(  # noqa: S701 - unit files; _finalize quotes every value
        loader=jinja2.FileSystemLoader(packaged("units")),
        undefined=jinja2.StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["line"] = lambda value: _Raw(quote_line(str(value)))
    environment.filters["env"] = lambda value, name: _Raw(quote_assignment(name, str(value)))
    environment.filters["seconds"] = lambda value: _Raw(f"{value:g}")
    environment.filters["onoff"] = lambda value: value if isinstance(value, str) else ("on" if value else "off")
    environment.filters["json"] = lambda value: value if isinstance(value, str) else json.dumps(value)
    return environment


def template_names() -> tuple[str, ...]:
    """Names of the templates: kinds of servers, `base`, and the guard's two units."""
    names = (path.name.removesuffix(".j2") for path in packaged("units").glob("*.j2"))
    return tuple(sorted(name if name in GUARD_UNITS else name.removesuffix(".service") for name in names))


def template_text(name: str) -> str:
    """Of one that `template_names` names."""
    return (packaged("units") / f"{name}{'' if name in GUARD_UNITS else '.service'}.j2").read_text()


def program_name(service: Service) -> str:
    """What the service runs, as its preset or its driver names it: a name, or an absolute path."""
    if service.driver is DriverKind.COMMAND:
        return str(service.unit_vars["command"][0])
    return str(service.unit_vars.get("binary") or _PROGRAMS[service.driver])


def find_program(service: Service, search_path: str | None) -> Path | None:
    """The program's absolute path; None: it is not there. systemd would not search the shell's PATH."""
    found = shutil.which(program_name(service), path=search_path)
    return None if found is None else Path(found).absolute()


def gpu_uuids(service: Service, reading: GpuReading | None) -> tuple[str, ...]:
    """UUIDs of the service's GPUs in its order; none for a service without VRAM. Raises: GpuUnavailable, PresetInvalid.

    `reading` None: NVML cannot be read, and only UUIDs in the preset can be used.
    """
    if service.vram_bytes == 0:
        return ()
    known = {sample.index: sample.uuid for sample in reading.gpus} if reading else {}
    uuids = []
    for gpu in service.gpus:
        if isinstance(gpu, str):
            uuids.append(gpu)
            continue
        if reading is None:
            raise GpuUnavailable(
                f"the UUID of GPU {gpu} is needed, and NVML cannot be read",
                hint=f"make nvidia-smi work, or give UUIDs in gpus of {service.source or 'its preset'}",
            )
        uuid = known.get(gpu)
        if uuid is None:
            there = ", ".join(str(index) for index, name in known.items() if name) or "none"
            raise _invalid(service, "gpus", str(gpu), f"GPUs that are there and tell their UUID: {there}")
        uuids.append(uuid)
    return tuple(uuids)


def gpumod_command() -> tuple[str, ...]:
    """What starts this gpumod from a unit, whatever the unit's working folder and its variables hold."""
    return (sys.executable, "-E", "-P", "-m", "gpumod_tui")


def render_guard(ports: Iterable[int]) -> dict[str, str]:
    """The texts of the guard's units by name, stamped; empty without ports."""
    held = tuple(ports)
    if not held:
        return {}
    environment = _environment()
    return {
        unit: stamped(
            environment.get_template(f"{unit}.j2").render(
                unit=unit, socket=GUARD_SOCKET, ports=held, gpumod=gpumod_command()
            )
        )
        for unit in GUARD_UNITS
    }


def render_login_mode(mode: str) -> str:
    """The text of the unit that switches to the mode at login, stamped."""
    template = _environment().get_template(f"{LOGIN_UNIT}.j2")
    return stamped(template.render(unit=LOGIN_UNIT, mode=mode, socket=GUARD_SOCKET, gpumod=gpumod_command()))


def render_unit(service: Service, reading: GpuReading | None, environ: Mapping[str, str] | None = None) -> str:
    """The text of the service's unit, stamped. Raises: PresetInvalid, GpuUnavailable."""
    search_path = (os.environ if environ is None else environ).get("PATH")
    program = find_program(service, search_path)
    key = "unit_vars.command" if service.driver is DriverKind.COMMAND else "unit_vars.binary"
    if program is None:
        raise _invalid(service, key, f"{program_name(service)!r}, which is not on PATH", "a program that can be run")
    if "$" in str(program):
        raise _invalid(service, key, str(program), "a path without $: systemd would not find it")
    variables = dict(service.unit_vars)
    gpus = gpu_uuids(service, reading)
    layers = variables.get("n_gpu_layers")
    template = _environment().get_template(f"{service.driver}.service.j2")
    try:
        body = template.render(
            service=service,
            source=service.source or "none",
            v=_Variables(variables),
            program=program,
            launcher=_launcher(service, program),
            working_dir=variables.get("working_dir"),
            path=":".join(dict.fromkeys((str(program.parent), str(program.resolve().parent), *_SYSTEM_PATH))),
            gpus=gpus,
            gpu_layers=(ALL_LAYERS if gpus else 0) if layers in (None, -1) else layers,
            tensor_split=tensor_split(service),
            guard_socket=GUARD_SOCKET,
            gpumod=gpumod_command(),
            condition_s=CONDITION_S,
            memory_settings=memory_settings(service),
            settings_variable=VARIABLE,
        )
    except (jinja2.TemplateError, ValueError) as error:
        raise _invalid(service, "", str(error), "values that a unit file can hold") from error
    return stamped(body)


class _Variables(dict[str, Any]):
    """unit_vars, where a switch that is not given is off."""

    def __missing__(self, key: str) -> bool:
        if key in ("enforce_eager", "trust_remote_code", "omni"):
            return False
        raise KeyError(key)


def _launcher(service: Service, program: Path) -> tuple[str, ...]:
    if service.driver is DriverKind.VLLM and service.api_key_file:
        return ("/bin/sh", "-c", _KEY_READER, str(service.api_key_file), str(program))
    return (str(program),)


def _invalid(service: Service, key: str, found: str, expected: str) -> PresetInvalid:
    return PresetInvalid(service.source or Path(service.id), key, found, expected)
