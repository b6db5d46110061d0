"""What llama-server fails on (500) in a conversation rather than refuses it, and after a load for nothing. Pure."""

import json
from typing import Any, Final

from gpumod_tui.guard.http.head import BadRequest

_UNREADABLE: Final = "Failed to parse"


def check_messages(body: dict[str, Any]) -> None:
    """Raises: BadRequest where no server could read the body's messages; without any, that is the server's to say."""
    if "messages" not in body:
        return
    if not isinstance(body["messages"], list):
        raise BadRequest("'messages' has to be a list")
    for message in body["messages"]:
        if not isinstance(message, dict):
            raise BadRequest("each of 'messages' has to be an object")
        if not isinstance(message.get("role"), str):
            raise BadRequest("'role' of a message has to be a string")
        if not isinstance(message.get("content"), str | list | None):
            raise BadRequest("'content' of a message has to be a string, a list or null")


def unreadable(data: bytes) -> str | None:
    """What a server's error says about messages or tools that it cannot read, which is the client's fault."""
    if _UNREADABLE.encode() not in data:
        return None
    try:
        message = json.loads(data)["error"]["message"]
    except (ValueError, KeyError, TypeError):
        return None
    return message if isinstance(message, str) and message.startswith(_UNREADABLE) else None
