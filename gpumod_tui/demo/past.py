"""What the played servers did in the days before the demo began."""

import random
from collections.abc import Iterable, Iterator
from typing import Final

from gpumod_tui.core.models import DriverKind, LogLine, Service
from gpumod_tui.demo import phrases

DAYS: Final = 2
_MODEL: Final = "Qwen3-30B-A3B-Q4_K_M"
_ODD: Final = (
    (4, "\x1b[33mWARNING\x1b[0m [scheduler.py] \x1b[1m3 requests\x1b[0m were preempted: the KV cache is full"),
    (3, "\x1b[31mERROR\x1b[0m [serving.py] client went away before the answer was written: 漢字 ok, caf\u00e9 ok"),
    (5, "slot update_slots: context shift, n_discard = 8191, n_keep = 4"),
    (6, "request body: " + '{"role": "user", "content": "lorem ipsum dolor sit amet"}, ' * 12),
)


def played_past(services: Iterable[Service], until: float) -> list[LogLine]:
    """Lines of all units, oldest first: one server at a time, some hours each. The same for the same moment."""
    servers = [s for s in services if s.driver in (DriverKind.LLAMACPP, DriverKind.VLLM)]
    chance = random.Random(11)  # noqa: S311 - a played client, no secret
    at = until - DAYS * 86400
    lines: list[LogLine] = []
    while servers and at < until - 600:
        service = chance.choice(servers)
        end = min(at + chance.uniform(3600, 6 * 3600), until - 300)
        pid = 2000 + len(lines) % 30000
        for moment, priority, message, by in _session(service, at, end, chance):
            name = by or service.unit.removesuffix(".service")
            lines.append(LogLine(moment, service.unit, message, priority, pid, name, cursor=f"past-{len(lines)}"))
        at = end + chance.uniform(20, 600)
    return lines


def _session(service: Service, at: float, end: float, chance: random.Random) -> Iterator[tuple[float, int, str, str]]:
    llama = service.driver is DriverKind.LLAMACPP
    yield at, 6, f"Started {service.unit} - {service.name}.", "systemd"
    boot = (*phrases.ROUTER_BOOT, *phrases.ROUTER_LOAD) if llama else phrases.VLLM_BOOT
    for priority, text in boot:
        at += chance.uniform(0.1, 2.0)
        yield at, priority, text.format(model=_MODEL, port=service.port), ""
    request = 0
    while at < end - 200:
        request += 1
        at += chance.uniform(20, 150)
        if chance.random() < 0.04:
            yield at, *chance.choice(_ODD), ""
        for text in (phrases.llama_chat if llama else phrases.vllm_request)(request):
            at += chance.uniform(0.05, 2.0)
            yield at, 6, text, ""
    yield end - 1.0, 6, f"Stopping {service.unit} - {service.name}...", "systemd"
    yield end, 6, f"Stopped {service.unit} - {service.name}.", "systemd"
