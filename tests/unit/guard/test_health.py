"""The guard answers for itself while the machine hangs."""

import asyncio
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from gpumod_tui.core.catalog.registry import ServiceRegistry
from gpumod_tui.guard.server.app import Guard
from tests.unit.guard.test_loads import PlayedGate


def test_health_is_told_at_once_while_a_decision_hangs(tmp_path: Path) -> None:
    hanging = threading.Event()

    class HungGate(PlayedGate):
        def catalog(self) -> ServiceRegistry:
            return ServiceRegistry()

        def mode(self) -> str | None:
            return "code"

    async def run() -> None:
        host: Any = SimpleNamespace(registry=ServiceRegistry())
        guard = Guard(host, lambda name: tmp_path / name)
        guard._gate = HungGate()
        front: Any = SimpleNamespace(running=_nobody)
        decision = asyncio.create_task(guard._loads.call(lambda: hanging.wait(60)))
        await asyncio.sleep(0.05)
        try:
            answer = await asyncio.wait_for(guard._tell_health(7070, front), 30)
            assert answer.body == b'{"status":"ok","routers":0,"mode":"code"}'
        finally:
            hanging.set()
            await decision
            await guard.close()

    asyncio.run(run())


async def _nobody() -> list[object]:
    return []
