"""A preset document becomes a Service or a Mode, or a list of what is wrong with it."""

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from gpumod_tui.core.catalog.schema import PRESETS, ModePreset
from gpumod_tui.core.catalog.validation import Fault, check, nearest, shown
from gpumod_tui.core.models import DriverKind, Mode, OnLeave, Service
from gpumod_tui.core.servers.refusals import refused_arguments, refused_environment
from gpumod_tui.core.text import MIB
from gpumod_tui.core.units.guard import GUARD_ID
from gpumod_tui.core.units.login import LOGIN_ID

_HOME: Final = re.compile(r"^(~(?=/|$)|\$HOME(?![A-Za-z0-9_])|\$\{HOME\})")

EXPECTED_PATH: Final = "an absolute path, or one that begins with ~ or $HOME"


def expand(text: str, home: Path) -> Path:
    """`~`, `$HOME` and `${HOME}` at the start become the home folder. Raises: ValueError, saying what is expected."""
    if any(ord(character) < 32 or ord(character) == 127 for character in text) or text != text.strip():
        raise ValueError(f"{EXPECTED_PATH}, without control characters or spaces around it")
    expanded = _HOME.sub(lambda _: str(home), text)
    if "$" in expanded.removeprefix(str(home)):
        raise ValueError(f"{EXPECTED_PATH}; no other variable is expanded")
    if expanded.endswith("\\") or not expanded.startswith("/"):
        raise ValueError(EXPECTED_PATH)
    return Path(expanded)


UNIFIED_MEMORY: Final = "GGML_CUDA_ENABLE_UNIFIED_MEMORY"
_TAKEN: Final = {GUARD_ID: "the guard's", LOGIN_ID: "the switch's at login"}
_PATHS: Final = ("models_dir", "model_path", "working_dir")


@dataclass(frozen=True, slots=True)
class Parsed:
    """What came of one document. Exactly one of `service`, `mode` and `faults` is given."""

    service: Service | None = None
    mode: Mode | None = None
    faults: tuple[Fault, ...] = ()
    warnings: tuple[str, ...] = ()


def parse_preset(document: object, source: Path, home: Path) -> Parsed:
    """A file with `driver:` defines a service, one with `services:` a mode."""
    if document is None:
        return Parsed(faults=(Fault("", "nothing", "a mapping with driver: (a service) or services: (a mode)"),))
    if not isinstance(document, Mapping):
        kind = "a list" if isinstance(document, list) else shown(document)
        return Parsed(faults=(Fault("", kind, "a mapping with driver: (a service) or services: (a mode)"),))
    if ("driver" in document) == ("services" in document):
        found = "both driver: and services:" if "driver" in document else "neither driver: nor services:"
        return Parsed(faults=(Fault("", found, "driver: (a service) or services: (a mode)"),))
    if "services" in document:
        return _parse_mode(document, source)
    return _parse_service(document, source, home)


def _parse_mode(document: Mapping[Any, object], source: Path) -> Parsed:
    values, faults = check(ModePreset, document)
    if faults:
        return Parsed(faults=tuple(faults))
    return Parsed(
        mode=Mode(
            id=values["id"],
            name=values.get("name") or values["id"],
            services=tuple(dict.fromkeys(values["services"])),
            description=" ".join(values.get("description", "").split()),
            source=source,
        )
    )


def _parse_service(document: Mapping[Any, object], source: Path, home: Path) -> Parsed:
    name = document["driver"]
    if not isinstance(name, str) or name not in PRESETS:
        near = nearest(name, PRESETS) if isinstance(name, str) else f"one of {', '.join(PRESETS)}"
        return Parsed(faults=(Fault("driver", shown(name), near),))
    driver = DriverKind(name)
    values, faults = check(PRESETS[name], document)
    if driver is DriverKind.COMMAND and "unit_vars" not in document:
        faults = [fault for fault in faults if fault.key != "unit_vars"]
        faults.append(Fault("unit_vars.command", "nothing", "a list of words, or one string split as a shell would"))
    unit_vars: dict[str, Any] = values.get("unit_vars", {})
    env = {key: value if isinstance(value, str) else str(value) for key, value in values.get("env", {}).items()}
    faults += _expand_paths(values, "", home, ("model_path", "api_key_file"))
    faults += _expand_paths(unit_vars, "unit_vars.", home, _PATHS)
    faults += _split(driver, unit_vars)
    faults += _one_of_two(values, unit_vars)
    faults += refused_environment(env)
    faults += _cross_checks(driver, values, unit_vars)
    if values.get("id") in _TAKEN:
        faults.append(Fault("id", values["id"], f"another id: this is {_TAKEN[values['id']]}"))
    if faults:
        return Parsed(faults=tuple(faults))
    warnings = []
    if UNIFIED_MEMORY in env:
        warnings.append(f"{source}: env.{UNIFIED_MEMORY}: VRAM overflows into host memory: slow, and no check sees it")
    for ignored, holder, key in (("unit_template", values, ""), ("lazy_load", unit_vars, "unit_vars.")):
        if ignored in holder:
            warnings.append(f"{source}: {key}{ignored} has no effect here")
    return Parsed(service=_service(driver, values, unit_vars, env, source), warnings=tuple(warnings))


def _service(
    driver: DriverKind, values: Mapping[str, Any], unit_vars: Mapping[str, Any], env: Mapping[str, str], source: Path
) -> Service:
    vram_mb = values.get("vram_mb")
    shares = tuple(share * MIB for share in vram_mb) if isinstance(vram_mb, list) else ()
    return Service(
        id=values["id"],
        name=values.get("name") or values["id"],
        driver=driver,
        port=values.get("port"),
        vram_bytes=sum(shares) if shares else None if vram_mb is None else vram_mb * MIB,
        gpus=tuple(values.get("gpus", (0,))),
        gpu_shares=shares,
        model_id=values.get("model_id"),
        default_model=values.get("default_model"),
        models_dir=unit_vars.get("models_dir"),
        model_path=values.get("model_path"),
        health_endpoint=values.get("health_endpoint", "/health"),
        startup_timeout_s=values.get("startup_timeout", 120.0),
        stop_timeout_s=values.get("stop_timeout", 30.0),
        depends_on=tuple(dict.fromkeys(values.get("depends_on", ()))),
        on_leave=values.get("on_leave", OnLeave.STOP),
        sleep_mode=str(values.get("sleep_mode", "none")),
        context_size=values.get("context_size"),
        api_key_file=values.get("api_key_file"),
        unit_vars=MappingProxyType(
            {key: str(value) if isinstance(value, Path) else value for key, value in unit_vars.items()}
        ),
        env=MappingProxyType(dict(env)),
        source=source,
    )


def _expand_paths(values: dict[str, Any], prefix: str, home: Path, keys: tuple[str, ...]) -> list[Fault]:
    faults = []
    for key in keys:
        if key in values:
            try:
                values[key] = expand(values[key], home)
            except ValueError as error:
                faults.append(Fault(f"{prefix}{key}", shown(values.pop(key)), str(error)))
    binary = values.get("binary", "")
    if "/" in binary:
        try:
            values["binary"] = expand(binary, home)
        except ValueError as error:
            faults.append(Fault(f"{prefix}binary", shown(binary), f"a program's name, or {error}"))
    return faults


def _split(driver: DriverKind, unit_vars: dict[str, Any]) -> list[Fault]:
    """Words of `command` and `extra_args`, as lists; and what may not be among them."""
    faults = []
    for name in ("command", "extra_args"):
        key = f"unit_vars.{name}"
        given = unit_vars.get(name)
        if given is None:
            continue
        try:
            words = shlex.split(given) if isinstance(given, str) else [str(word) for word in given]
        except ValueError as error:
            faults.append(Fault(key, shown(given), f"words as a shell would split them ({error})"))
            continue
        if name == "command" and (not words or not words[0]):
            faults.append(Fault(key, shown(given), "a program and its arguments"))
        if any("\0" in word for word in words):
            faults.append(Fault(key, shown(given), "words without NUL characters"))
        faults += refused_arguments(driver, words, key)
        unit_vars[name] = words
    return faults


def _one_of_two(values: dict[str, Any], unit_vars: dict[str, Any]) -> list[Fault]:
    """Keys that may stand at the top or in unit_vars; both only if they agree."""
    faults = []
    for key, inner in (
        ("model_path", "model_path"),
        ("default_model", "default_model"),
        ("context_size", "context_size"),
        ("context_size", "ctx_size"),
    ):
        other = unit_vars.get(inner)
        if other is None:
            continue
        if values.get(key) not in (None, other):
            faults.append(
                Fault(f"unit_vars.{inner}", shown(str(other)), f"the same as {key}, {shown(str(values[key]))}")
            )
        values[key] = other
    return faults


def _cross_checks(driver: DriverKind, values: Mapping[str, Any], unit_vars: dict[str, Any]) -> list[Fault]:
    faults = []
    gpus = values.get("gpus", ())
    if len(set(gpus)) != len(gpus):
        faults.append(Fault("gpus", shown(gpus), "each GPU once"))
    faults += _check_shares(driver, values.get("vram_mb"), len(gpus) or 1)
    if "models_dir" in unit_vars and "model_path" in values:
        faults.append(Fault("unit_vars.models_dir", "also model_path", "one of them: a router, or a single model"))
    if driver is DriverKind.LLAMACPP and "model_path" in values and "default_model" in values:
        faults.append(Fault("default_model", "also model_path", "one of them: only a router loads a default model"))
    if driver is not DriverKind.LLAMACPP and "default_model" in values:
        faults.append(Fault("default_model", shown(values["default_model"]), "nothing: only a router loads models"))
    sleep = str(values.get("sleep_mode", "none"))
    if values.get("on_leave") is OnLeave.SLEEP and sleep == "none":
        faults.append(Fault("on_leave", "'sleep'", "sleep_mode: l1, l2 or router beside it, or on_leave: stop"))
    overrides = unit_vars.get("hf_overrides")
    if isinstance(overrides, str):
        try:
            is_object = isinstance(json.loads(overrides), dict)
        except ValueError:
            is_object = False
        if not is_object:
            faults.append(Fault("unit_vars.hf_overrides", shown(overrides), "a JSON object"))
    return faults


def _check_shares(driver: DriverKind, shares: object, gpus: int) -> list[Fault]:
    if not isinstance(shares, list):
        return []
    if len(shares) != gpus:
        return [Fault("vram_mb", shown(shares), f"one entry for each of gpus ({gpus}), or one number")]
    if driver is DriverKind.VLLM and len(set(shares)) > 1:
        return [Fault("vram_mb", shown(shares), "equal entries, or one number: vLLM takes the same of each GPU")]
    return []
