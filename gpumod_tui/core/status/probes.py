"""Asking servers how they are, each in its own time: one that hangs delays nobody else."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from gpumod_tui.core.errors import GpumodError
from gpumod_tui.core.models import Health, Probe, Service
from gpumod_tui.core.status.attribution import Answer
from gpumod_tui.core.threads import Unexpected

if TYPE_CHECKING:
    from gpumod_tui.core.ports import Drivers

THREADS: Final = 16


def ask(drivers: Drivers, service: Service) -> Answer:
    """One look at a server, with its models once it is ready; never raises."""
    try:
        driver = drivers(service)
        probe = driver.probe(service)
        models = driver.models(service) if probe.health is Health.READY else ()
    except GpumodError as error:
        return Answer(Probe(Health.DOWN, str(error)))
    except Exception as error:  # noqa: BLE001 - a thread's exception is shown nowhere: let the screen show it
        return Answer(Probe(Health.DOWN, f"probe failed: {error!r}"))
    return Answer(probe, models)


class Prober:
    """Asks in daemon threads, at most `THREADS` at a time, never twice the same service at once."""

    def __init__(self, drivers: Drivers, answered: Callable[[str, Answer], None]) -> None:
        """`answered(unit, answer)` is called from the asking thread."""
        self._drivers = drivers
        self._answered = answered
        self._asking: dict[str, threading.Thread] = {}
        self._unexpected = Unexpected()
        self._lock = threading.Lock()

    def ask(self, services: Iterable[Service]) -> None:
        """Begin to ask those that are not being asked already."""
        for service in services:
            with self._lock:
                if service.unit in self._asking or len(self._asking) >= THREADS:
                    continue
                thread = threading.Thread(
                    target=self._run, args=(service,), name=f"gpumod-probe-{service.id}", daemon=True
                )
                self._asking[service.unit] = thread
            thread.start()

    def join(self, seconds: Callable[[], float]) -> tuple[str, ...]:
        """Wait for the answers while `seconds()`, the time left, is positive; returns the units that owe one."""
        while True:
            with self._lock:
                pending = dict(self._asking)
            left = seconds()
            if not pending or left <= 0:
                return tuple(pending)
            next(iter(pending.values())).join(left)

    def _run(self, service: Service) -> None:
        try:
            self._answered(service.unit, ask(self._drivers, service))
        except Exception as error:  # noqa: BLE001 - it is told, and the next answer may be taken
            self._unexpected.tell(error)
        finally:
            # One that stayed here would never be asked again.
            with self._lock:
                self._asking.pop(service.unit, None)
