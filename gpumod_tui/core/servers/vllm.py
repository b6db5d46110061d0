"""The requests by which a vLLM sleeps and wakes."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from gpumod_tui.core.models import LogLine, ModelState, ModelStatus

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


LINES: Final = 200
"""Of the newest lines that are searched: between two phases a server may say much else."""
_PHASES: Final = (
    ("Starting to load model", "weights"),
    ("Loading weights took", "to the GPU"),
    ("Model loading took", "compiling"),
    ("torch.compile takes", "measuring"),
    ("Available KV cache memory", "graphs"),
    ("Graph capturing finished", "starting"),
    ("Application startup complete", "starting"),
)
"""What is logged as a phase begins or the one before it ends, in that order, and what goes on from there."""


def load_phase(model: str, lines: Sequence[LogLine]) -> ModelState | None:
    """The model as loading, with phases done of all as its progress; None: no phase has been logged yet."""
    for line in reversed(lines):
        for place in range(len(_PHASES) - 1, -1, -1):
            words, stage = _PHASES[place]
            if words in line.message:
                return ModelState(model, ModelStatus.LOADING, progress=place / len(_PHASES), stage=stage)
    return None
