"""The played host's ledger and needs: nothing on disk."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from gpumod_tui.core.admission.commitments import LedgerState
from gpumod_tui.core.errors import ModelFileInvalid
from gpumod_tui.core.models import Service
from gpumod_tui.core.vram.estimate.model_file import ModelFile, ModelHeader
from gpumod_tui.core.vram.peaks import PeakKey


class MemoryLedger:
    """The port `Ledger` in memory."""

    def __init__(self) -> None:
        self.state = LedgerState(known=True)
        self._lock = threading.Lock()
        self._turns: dict[str, threading.Lock] = {}

    def write(self, state: LedgerState) -> None:
        """Keep it."""
        self.state = state

    @contextmanager
    def locked(self, timeout_s: float) -> Iterator["MemoryLedger"]:
        """Hold it."""
        del timeout_s
        with self._lock:
            yield self

    def try_turn(self, unit: str) -> "MemoryTurn | None":
        """None: it is taken."""
        turn = self._turns.setdefault(unit, threading.Lock())
        return MemoryTurn(turn) if turn.acquire(blocking=False) else None


class MemoryTurn:
    """Held until it is closed."""

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock

    def close(self) -> None:
        """Let others have it."""
        self._lock.release()


class NoFiles:
    """Played models have no files, and their servers no binaries; of a router's small model the size is known."""

    def find(self, service: Service, model_id: str | None = None, args: Sequence[str] = ()) -> ModelFile | None:
        """There for what no preset declares."""
        del args
        if model_id is None or model_id == service.default_model or service.vram_bytes is None:
            return None
        return ModelFile((Path(f"~/models/{model_id}.gguf"),), service.vram_bytes // 4, 0)

    def header(self, file: ModelFile) -> ModelHeader:
        """Raises: ModelFileInvalid."""
        raise ModelFileInvalid(file.paths[0], "a played model", "a file")

    def version(self, service: Service) -> str:
        """One for all."""
        del service
        return "played"


class MemoryPeaks:
    """The port `Peaks` in memory."""

    def __init__(self) -> None:
        self._peaks: dict[PeakKey, dict[int, int]] = {}

    def highest(self, key: PeakKey) -> Mapping[int, int] | None:
        """What was noted."""
        return self._peaks.get(key)

    def note(self, key: PeakKey, by_gpu: Mapping[int, int]) -> None:
        """The higher one stays."""
        before = self._peaks.setdefault(key, {})
        for gpu, amount in by_gpu.items():
            before[gpu] = max(before.get(gpu, 0), amount)
