"""The guard beside a bare aiohttp proxy and the server itself, all before the same played server, in one run.

`python -m tests.bench.bench_guard`. The server answers as a router with one loaded model does, at once or 150 tokens a
second on each stream: what a real model would cost would hide what lies before it.
"""

import asyncio
import json
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from tests.bed.guarded import known_ledger, runtime, socket_of
from tests.bench.bare import MODEL, TOKENS
from tests.bench.measuring import compiled, in_bed

DIRECT, BARE, GUARD = 7100, 7101, 7070
WAYS: Final = {"direct": DIRECT, "bare proxy": BARE, "guard": GUARD}
ADDED_MS: Final = 0.4
HEALTH_RATE: Final = 3000.0
STREAM_SHARE: Final = 0.9
MEMORY_MIB: Final = 10.0
BARE_MS: Final = 0.22
BARE_RATE: Final = 4300.0
"""What the bare proxy adds, and how often it answers, where nothing else runs: where it is slower the machine is busy,
or slow, and promises of time are scaled by that."""
STREAMS: Final = 8
BODY: Final = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}).encode()


# --- clients


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str, body: bytes) -> None:
    method = "POST" if body else "GET"
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    answer = await reader.readuntil(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200"), answer
    length = int(answer.lower().partition(b"content-length:")[2].split()[0])
    await reader.readexactly(length)


async def latencies(requests: int, rounds: int) -> dict[str, float]:
    """Median seconds of one small completion on one connection, the ways in turns."""
    taken: dict[str, list[float]] = {name: [] for name in WAYS}
    lines = {name: await asyncio.open_connection("127.0.0.1", port) for name, port in WAYS.items()}
    for _ in range(rounds):
        for name, (reader, writer) in lines.items():
            for _ in range(requests):
                began = time.perf_counter()
                await ask(reader, writer, "/v1/chat/completions", BODY)
                taken[name].append(time.perf_counter() - began)
    for _, writer in lines.values():
        writer.close()
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


async def health_rate(port: int, seconds: float, connections: int = 4) -> float:
    """Requests a second on /health."""
    end = time.perf_counter() + seconds
    count = 0

    async def client() -> None:
        nonlocal count
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.perf_counter() < end:
            await ask(reader, writer, "/health", b"")
            count += 1
        writer.close()

    await asyncio.gather(*(client() for _ in range(connections)))
    return count / seconds


async def stream_rate(port: int) -> float:
    """Tokens a second over all streams."""

    async def client() -> int:
        body = json.dumps({**json.loads(BODY), "stream": True}).encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        said = b""
        while not said.endswith(b"0\r\n\r\n") and (data := await reader.read(65536)):
            said += data
        writer.close()
        return said.count(b"data: ")

    began = time.perf_counter()
    tokens = sum(await asyncio.gather(*(client() for _ in range(STREAMS))))
    assert tokens == STREAMS * TOKENS
    return tokens / (time.perf_counter() - began)


@contextmanager
def process(*command: str, port: int) -> Iterator[int]:
    """A server of its own; its pid."""
    child = subprocess.Popen([sys.executable, "-m", *command], env=compiled())
    try:
        for _ in range(300):
            try:
                asyncio.run(health_rate(port, 0.01, 1))
                break
            except OSError:
                time.sleep(0.05)
        yield child.pid
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait(10)


def resident_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError(pid)


@contextmanager
def proxies() -> Iterator[dict[str, int]]:
    """The server, and both proxies before it; their pids."""
    module, socket = "tests.bench.bare", socket_of("glm-code")
    socket.unlink(missing_ok=True)
    with ExitStack() as stack:
        stack.enter_context(process(module, "server", str(DIRECT), str(socket), port=DIRECT))
        yield {
            "bare proxy": stack.enter_context(process(module, "proxy", str(BARE), str(socket), port=BARE)),
            "guard": stack.enter_context(process("gpumod_tui", "guard", f"--port={GUARD}", port=GUARD)),
        }


def measure(requests: int = 400, rounds: int = 5, seconds: float = 3.0) -> dict[str, Any]:
    """Figures by name; times in ms, memory (resident, after all the requests) in MiB.

    Byte code and presets are there, as an installation and `template install` leave them.
    """
    runtime().mkdir(mode=0o700, exist_ok=True)
    known_ledger()
    with proxies():
        # Whoever compiles in its own process keeps memory from that.
        pass
    with proxies() as pids:
        asyncio.run(latencies(50, 1))
        taken = asyncio.run(latencies(requests, rounds))
        found: dict[str, Any] = {f"p50 {name}": value * 1000 for name, value in taken.items()}
        for name in ("bare proxy", "guard"):
            found[f"added {name}"] = (taken[name] - taken["direct"]) * 1000
            found[f"health/s {name}"] = asyncio.run(health_rate(WAYS[name], seconds))
        for name, port in WAYS.items():
            found[f"tokens/s {name}"] = asyncio.run(stream_rate(port))
        for name, pid in pids.items():
            found[f"RSS {name}"] = resident_mib(pid)
    return found


def missed(found: Mapping[str, float]) -> set[str]:
    """Which promises the figures do not keep; those of time are for an idle machine."""
    added_ms = ADDED_MS * max(1.0, found["added bare proxy"] / BARE_MS)
    rate = HEALTH_RATE * min(1.0, found["health/s bare proxy"] / BARE_RATE)
    kept = {
        "latency": found["added guard"] <= added_ms,
        "health": found["health/s guard"] >= rate,
        "streams": found["tokens/s guard"] >= STREAM_SHARE * found["tokens/s direct"],
        "memory": found["RSS guard"] <= found["RSS bare proxy"] + MEMORY_MIB,
    }
    return {promise for promise, is_kept in kept.items() if not is_kept}


def main() -> None:
    """Print the figures."""
    found = measure()
    for name, value in found.items():
        print(f"{name:24} {value:10.2f}")
    print("not kept:", ", ".join(sorted(missed(found))) or "nothing")


if __name__ == "__main__":
    in_bed("tests.bench.bench_guard")
    main()
