"""The guard's own answers as HTTP responses."""

from collections.abc import Mapping, Sequence
from typing import Final

from aiohttp import web

from gpumod_tui.core.admission import Refused
from gpumod_tui.guard import answers
from gpumod_tui.guard.admit import Failed, Full, NotBegun
from gpumod_tui.guard.gate import Switching
from gpumod_tui.guard.metrics import Counts

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
    return reply(answers.error(status, kind, message), status, headers)


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
        retry = {"Retry-After": str(answers.SOON_S)} if outcome.may_pass else None
        advice = answers.HOPELESS if outcome.is_hopeless else answers.advice(loaded, mode)
        return reply(answers.refusal(outcome, advice=advice), 503, retry)
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
    retry = {"Retry-After": str(answers.SOON_S)} if outcome.may_pass else None
    return fault(outcome.status, outcome.kind, outcome.message, retry)
