"""What of a service shapes the memory that its unit takes, in one short text that its unit carries."""

from collections.abc import Iterator
from dataclasses import fields
from typing import Any, Final

from gpumod_tui.core.models import DriverKind, Service
from gpumod_tui.core.vram.estimate.options import LoadSettings, settings_of
from gpumod_tui.core.vram.need import VLLM_DEFAULT_SHARE
from gpumod_tui.core.vram.peaks import digest

VARIABLE: Final = "GPUMOD_MEMORY_SETTINGS"
"""Where a unit carries the text: its condition, its server and a router's children all have it in their environment."""
_SHAPELESS: Final = frozenset(
    {
        "default_model",
        "evict",
        "host",
        "jinja",
        "lazy_load",
        "models_max",
        "no_models_autoload",
        "reasoning_format",
        "sleep_level",
        "threads",
        "trust_remote_code",
    }
)
"""Fields of unit_vars that change no server's memory, or none that is admitted with the unit."""
_TOLD_OTHERWISE: Final = frozenset(
    {"context_size", "ctx_size", "flash_attn", "max_model_len", "model_path", "models_dir", "n_cpu_moe", "n_gpu_layers"}
)
_NOT_AS_WRITTEN: Final = _SHAPELESS | _TOLD_OTHERWISE | {"enable_sleep_mode", "gpu_mem_util"}
_NOT_GIVEN: Final[tuple[object, ...]] = (None, False, "", [])


def memory_settings(service: Service) -> str:
    """A digest: another one means that the server may take other memory. The declared need is no part of it.

    Its GPUs are none either: a unit names them itself, and by UUID. What is not given is left out, so that fields that
    a later gpumod adds change no digest.
    """
    return digest(service.driver.value, sorted(_parts(service), key=lambda part: part[0]))


def _parts(service: Service) -> Iterator[tuple[str, object]]:
    given = {key: value for key, value in service.unit_vars.items() if key not in _NOT_AS_WRITTEN}
    yield from ((f"unit_vars.{key}", _plain(value)) for key, value in given.items() if value not in _NOT_GIVEN)
    yield from ((f"env.{name}", value) for name, value in service.env.items())
    if service.vram_bytes == 0:
        yield "on GPUs", False
    if service.driver is DriverKind.LLAMACPP:
        yield "model", str(service.models_dir if service.is_router else service.model_path)
        yield from _llamacpp(settings_of(service))
    elif service.driver is DriverKind.VLLM:
        yield from _vllm(service)


def _llamacpp(settings: LoadSettings) -> Iterator[tuple[str, object]]:
    for field in fields(settings):
        value: Any = getattr(settings, field.name)
        if value != field.default:
            yield f"settings.{field.name}", value


def _vllm(service: Service) -> Iterator[tuple[str, object]]:
    yield "model", str(service.unit_vars.get("model_path") or service.model_id)
    yield "length", service.unit_vars.get("max_model_len") or service.context_size
    yield "gpus", len(service.gpus)
    yield "gpu_mem_util", service.unit_vars.get("gpu_mem_util", VLLM_DEFAULT_SHARE)
    if service.can_sleep:
        yield "enable_sleep_mode", True


def _plain(value: object) -> object:
    """Mappings as sorted pairs, so that the order in a file is not a setting."""
    if hasattr(value, "items"):
        return sorted((str(key), _plain(item)) for key, item in value.items())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
