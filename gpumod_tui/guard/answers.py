"""What the guard answers of its own: the shape is llama-server's. Pure."""

import json
from collections.abc import Sequence
from typing import Any, Final

from gpumod_tui.core.admission import Refused
from gpumod_tui.core.models import Holder
from gpumod_tui.core.quantities import MIB, mib

SOON_S: Final = 2
"""Retry-After where what is short is on its way back."""

HOPELESS: Final = "the whole GPU is too small for it: less context, or a smaller quantisation of the model, needs less"


def dump(value: object) -> bytes:
    """Compact JSON, as llama-server writes it: scripts search it for `"value":"loaded"`."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def error(status: int, kind: str, message: str, **more: object) -> bytes:
    """An error's body."""
    return dump({"error": {"code": status, "type": kind, "message": message, **more}})


def refusal(refused: Refused, *, advice: str) -> bytes:
    """A refused load or wake, with numbers and holders. `advice` is for what is short, not for what is unknown."""
    return error(
        503,
        "insufficient_vram",
        str(refused) if refused.short_bytes is None else f"{refused}; {advice}",
        need_mib=None if refused.need_bytes is None else mib(refused.need_bytes),
        margin_mib=None if refused.margin_bytes is None else mib(refused.margin_bytes),
        promised_mib=None if refused.promised_bytes is None else mib(refused.promised_bytes),
        promised=[{"unit": one.unit, "model": one.model or None, "mib": mib(one.bytes)} for one in refused.promised],
        # Rounded down: what is free must not grow by rounding.
        free_mib=None if refused.free_bytes is None else refused.free_bytes // MIB,
        short_mib=None if refused.short_bytes is None else mib(refused.short_bytes),
        gpu=refused.gpu,
        holders=[_holder(one) for one in refused.holders],
    )


def _holder(holder: Holder) -> dict[str, Any]:
    return {
        "pid": holder.pid,
        "command": holder.command,
        "unit": holder.unit,
        "gpu": holder.gpu,
        "used_mib": None if holder.used_bytes is None else mib(holder.used_bytes),
    }


def advice(loaded: Sequence[tuple[str, str]], mode: str) -> str:
    """What to do after a refusal. `loaded`: (model, service) pairs that could be unloaded."""
    switch = f"run gpumod mode switch {mode}"
    if not loaded:
        return switch
    names = " or ".join(f"{model} ({service})" for model, service in loaded[:3])
    return f"unload {names}, or {switch}"
