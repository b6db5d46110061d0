"""What no llama-server can read in a conversation is the client's fault, and is said before anything is loaded."""

import json
from typing import Any

import pytest

from gpumod_tui.guard.http.head import BadRequest
from gpumod_tui.guard.llamacpp.chat import check_messages, unreadable
from gpumod_tui.guard.llamacpp.routes import ROUTER, VLLM

GOOD: list[Any] = [
    [],
    [{"role": "user", "content": "Hi"}],
    [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
    [{"role": "assistant", "content": None, "tool_calls": []}],
    [{"role": "assistant", "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": "{}"}}]}],
    [{"role": "user", "content": "Hi", "more": 1}],
]
UNREADABLE: list[Any] = [
    *(None, "Hi", 5, {}, {"role": "user", "content": "Hi"}),
    *([5], ["Hi"], [None], [[]], [{"role": "user", "content": "Hi"}, 5]),
    *([{"content": "Hi"}], [{"role": None, "content": "Hi"}], [{"role": 5, "content": "Hi"}], [{}]),
    *([{"role": "user", "content": 5}], [{"role": "user", "content": {}}], [{"role": "user", "content": True}]),
]


@pytest.mark.parametrize("messages", GOOD)
def test_what_a_server_may_read_is_its_own_to_judge(messages: object) -> None:
    check_messages({"messages": messages})
    check_messages({})


@pytest.mark.parametrize("messages", UNREADABLE)
def test_what_no_server_reads_is_refused(messages: object) -> None:
    with pytest.raises(BadRequest) as caught:
        check_messages({"messages": messages})
    assert caught.value.status == 400


def test_every_route_of_conversations_is_checked_and_no_other() -> None:
    """Anthropic's form is read in another way: of that llama-server itself says what it cannot read."""
    chats = {path for (_, path), route in ROUTER.items() if route.is_chat}
    named = {path for _, path in ROUTER if "chat/completions" in path}
    assert chats == (named - {"/v1/chat/completions/control"}) | {"/apply-template"}
    assert not any(route.is_chat for route in VLLM.values())


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({"error": {"code": 500, "message": "Failed to parse messages: no"}}, "Failed to parse messages: no"),
        ({"error": {"message": "Failed to parse tools: no"}}, "Failed to parse tools: no"),
        ({"error": {"message": "it Failed to parse"}}, None),
        ({"error": {"message": ["Failed to parse"]}}, None),
        ({"error": "Failed to parse"}, None),
        (["Failed to parse"], None),
    ],
)
def test_what_a_server_says_that_it_cannot_read_is_told_apart(data: object, told: str | None) -> None:
    assert unreadable(json.dumps(data).encode()) == told
    assert unreadable(b"Failed to parse messages") is None
