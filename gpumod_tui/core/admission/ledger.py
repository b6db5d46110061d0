"""The ledger of promises as core sees it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Final, Protocol

from gpumod_tui.core.admission.commitments import LedgerState

if TYPE_CHECKING:
    from gpumod_tui.core.ports import Closeable

LOCK_S: Final = 8.0
"""How long to wait for the ledger: the longest holder does one look at the box, well under a second."""


class HeldLedger(Protocol):
    """The ledger while its lock is held."""

    @property
    def state(self) -> LedgerState:
        """As it was read, or written last."""

    def write(self, state: LedgerState) -> None:
        """Put it on disk whole. Raises: StateUnavailable."""


class Ledger(Protocol):
    """Shared by all processes of the user."""

    def locked(self, timeout_s: float) -> AbstractContextManager[HeldLedger]:
        """Hold it. Raises: StateUnavailable."""

    def try_turn(self, unit: str) -> Closeable | None:
        """As `AdmissionController.try_turn`. Raises: StateUnavailable."""
