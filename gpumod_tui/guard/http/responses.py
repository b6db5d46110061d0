"""What the guard answers of its own: the shape is llama-server's. Pure."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from aiohttp import web

from gpumod_tui.core.admission.decide import Refused
from gpumod_tui.core.models import Holder
from gpumod_tui.core.text import MIB, mib
from gpumod_tui.guard.admission import Switching
from gpumod_tui.guard.loads import Failed, Full, NotBegun
from gpumod_tui.guard.server.metrics import Counts

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


_JSON: Final = "application/json; charset=utf-8"
SWITCH_S: Final = 5
"""Retry-After while a switch runs."""


def reply(body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """JSON."""
    response = web.Response(status=status, body=body, headers=headers)
    response.headers["Content-Type"] = _JSON
    return response


def fault(status: int, kind: str, message: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """An error in llama-server's shape."""
    return reply(error(status, kind, message), status, headers)


def not_loaded() -> web.Response:
    """As a router without autoload says it."""
    return fault(400, "invalid_request_error", "model is not loaded")


def unauthorized() -> web.Response:
    """As llama-server says it."""
    return fault(401, "authentication_error", "Invalid API Key")


def refuse(outcome: NotBegun, counts: Counts, *, loaded: Sequence[tuple[str, str]], mode: str) -> web.Response:
    """Why a model is not there. `loaded`: (model, service) pairs that could be unloaded; `mode`: what makes room."""
    if isinstance(outcome, Refused):
        counts.refused("insufficient_vram")
        retry = {"Retry-After": str(SOON_S)} if outcome.may_pass else None
        next_step = HOPELESS if outcome.is_hopeless else advice(loaded, mode)
        return reply(refusal(outcome, advice=next_step), 503, retry)
    if isinstance(outcome, Switching):
        counts.refused("switch_in_progress")
        message = f"a switch to {outcome.target} is about to stop this server"
        return fault(503, "switch_in_progress", message, {"Retry-After": str(SWITCH_S)})
    if isinstance(outcome, Full):
        counts.refused("model_limit")
        held = ", ".join(outcome.models)
        why = (
            "none of them is idle, or without the idle ones it would not fit either; unload one"
            if outcome.evicts
            else "none is unloaded unasked; unload one, or set unit_vars.evict: true in its preset"
        )
        message = (
            f"model limit reached: {outcome.service} holds {len(outcome.models)} of at most {outcome.limit} models"
            f" ({held}), and {why}"
        )
        return fault(503, "model_limit", message)
    assert isinstance(outcome, Failed)
    if outcome.answer is not None:
        return reply(outcome.answer.body, outcome.answer.status)
    retry = {"Retry-After": str(SOON_S)} if outcome.may_pass else None
    return fault(outcome.status, outcome.kind, outcome.message, retry)
