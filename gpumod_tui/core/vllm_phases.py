"""How far a vLLM that starts has come, by what it logs: while it loads its port answers nothing. Pure."""

from collections.abc import Sequence
from typing import Final

from gpumod_tui.core.models import LogLine, ModelState, ModelStatus

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
