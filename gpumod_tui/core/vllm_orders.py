"""The requests by which a vLLM sleeps and wakes."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

Request = tuple[str, Mapping[str, str]]
"""A path with its query, and the JSON to POST there."""
_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


def sleep_request(level: int) -> Request:
    """Puts a vLLM to sleep."""
    return f"/sleep?level={level}", _NOTHING


def wake_requests(level: int) -> Sequence[Request]:
    """Wake a vLLM from that level, one after the other.

    Level 2 has dropped the weights: woken in one go it would answer from memory that nobody has filled.
    """
    if level == 1:
        return (("/wake_up", _NOTHING),)
    reload = MappingProxyType({"method": "reload_weights"})
    return ("/wake_up?tags=weights", _NOTHING), ("/collective_rpc", reload), ("/wake_up?tags=kv_cache", _NOTHING)
