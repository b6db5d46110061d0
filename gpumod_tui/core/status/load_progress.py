"""How far the loads are that somebody else began: a router tells it to those who listen, and only while it loads."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from gpumod_tui.core.errors import GpumodError
from gpumod_tui.core.models import ModelState, ModelStatus, Service

if TYPE_CHECKING:
    from gpumod_tui.core.ports import Clock, Closeable, Drivers

EVERY_S: Final = 0.25


class LoadWatch:
    """Listens to each router from when a model of it is seen loading until none is; thread-safe."""

    def __init__(self, drivers: Drivers, clock: Clock, changed: Callable[[], None]) -> None:
        """`changed` is called from a router's thread when a load has come further, at most every `EVERY_S`, or ends."""
        self._drivers = drivers
        self._clock = clock
        self._changed = changed
        self._followers: dict[str, Closeable] = {}
        self._told: dict[str, dict[str, ModelState]] = {}
        self._lock = threading.Lock()
        self._closed = False
        self._told_at = float("-inf")

    def see(self, service: Service, models: tuple[ModelState, ...]) -> None:
        """What a router said when it was asked; may begin or end to listen to it."""
        loads = service.is_router and any(model.status is ModelStatus.LOADING for model in models)
        if loads:
            self._begin(service)
        else:
            self.forget(service.unit)

    def forget(self, unit: str) -> None:
        """Nothing of it loads any more, or it is down."""
        with self._lock:
            follower = self._followers.pop(unit, None)
            self._told.pop(unit, None)
        if follower is not None:
            follower.close()

    def further(self, unit: str, models: tuple[ModelState, ...]) -> tuple[ModelState, ...]:
        """The same models, those that load with what was heard of them."""
        with self._lock:
            told = dict(self._told.get(unit, {}))
        return tuple(
            replace(model, status=heard.status, exit_code=heard.exit_code, progress=heard.progress, stage=heard.stage)
            if model.status is ModelStatus.LOADING and (heard := told.get(model.id)) is not None
            else model
            for model in models
        )

    def keep(self, units: Collection[str]) -> None:
        """Listen to no other than these."""
        with self._lock:
            others = [unit for unit in self._told if unit not in units]
        for unit in others:
            self.forget(unit)

    def close(self) -> None:
        """Listen to nobody any more."""
        with self._lock:
            self._closed = True
        self.keep(())

    def _begin(self, service: Service) -> None:
        with self._lock:
            if self._closed or service.unit in self._told:
                return
            self._told[service.unit] = {}
        follower: Closeable | None = None
        # A follower may hand on what it knows before it is there: without the lock.
        with contextlib.suppress(GpumodError):
            follower = self._drivers(service).follow_models(service, lambda state: self._hear(service.unit, state))
        if follower is None:
            return
        with self._lock:
            wanted = service.unit in self._told and not self._closed
            if wanted:
                self._followers[service.unit] = follower
        if not wanted:
            follower.close()

    def _hear(self, unit: str, state: ModelState) -> None:
        with self._lock:
            told, now = self._told.get(unit), self._clock.monotonic()
            if told is None:
                return
            told[state.id] = state
            if state.status is ModelStatus.LOADING and now - self._told_at < EVERY_S:
                return
            self._told_at = now
        self._changed()
