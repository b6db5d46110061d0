"""Requests that no sane client sends, at a guard with three real routers behind it."""

import asyncio
import json
import os
import random
import re
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from tests.bed.guarded import (
    GLM,
    GUARD,
    NEMOTRON,
    PORT,
    ask,
    guard_pid,
    known_ledger,
    ledger,
    start_guard,
    start_router,
)
from tests.bed.host import copy_models, gpu, journal, wait_until

REQUESTS: Final = 10_000
SEED: Final = int(os.environ.get("GPUMOD_FUZZ_SEED", "20250301"))
CLIENTS: Final = 12
ANSWER_S: Final = 120.0
PATIENCE_S: Final = 0.3
SERVICES: Final = ("glm-code", "nemotron-3-nano", "small")
MODELS: Final = (GLM, NEMOTRON, "tiny-a", "tiny-b")
NAMED_503: Final = {"insufficient_vram", "switch_in_progress", "model_limit", "interrupted"}
"""A refused load (a full router's included), a switch under way, and a model that another client has unloaded."""
SERVES_ALL: Final = "--threads 1 --metrics --props --reranking --slot-save-path {slots}"
"""For every path that is fuzzed; llama-server answers 501 for what it was not started for. No tiny model hears."""
ODD: Final[tuple[Any, ...]] = (
    None,
    "",
    0,
    1,
    -1,
    True,
    [],
    {},
    [GLM],
    {"model": GLM},
    "nobody",
    GLM.lower(),
    GLM + "\0",
    "../x",
    "ü",
    1e9,
)
DEEP: Final = (
    lambda odd: odd,
    lambda odd: [odd],
    lambda odd: [{"role": odd, "content": "Hi"}],
    lambda odd: [{"role": "user", "content": odd}],
    lambda odd: [{"role": "user", "content": [odd]}],
    lambda odd: [{"role": "user", "content": [{"type": odd, "text": "Hi"}]}],
    lambda odd: [{"role": "user", "content": [{"type": "text", "text": odd}]}],
    lambda odd: [{"role": "user", "content": "Hi", "name": odd}],
    lambda odd: [{"role": "assistant", "content": "Hi", "tool_calls": odd}],
    lambda odd: [{"role": "assistant", "tool_calls": [{"type": "function", "function": {"name": odd}}]}],
    lambda odd: [{"content": odd}],
)
"""Conversations with something odd at each depth."""
USED: Final = (
    *("/v1/chat/completions", "/chat/completions", "/completion", "/completions", "/v1/completions", "/infill"),
    *("/responses", "/v1/responses", "/v1/messages", "/v1/messages/count_tokens", "/tokenize", "/detokenize"),
    *("/apply-template", "/embedding", "/embeddings", "/v1/embeddings", "/rerank", "/v1/rerank", "/props"),
    *("/lora-adapters", "/slots/0", "/slots/1", "/v1/chat/completions/control", "/v1/chat/completions/input_tokens"),
)
ASKED: Final = (
    *("/health", "/models", "/v1/models", "/props", "/slots", "/metrics", "/lora-adapters", "/", "/index.html"),
    *("/v1/stream", "/tools", "/cors-proxy", "/gpumod/metrics", "/sw.js", "/v1/health", "/nothing"),
)
METHODS: Final = ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE", "get", "FOO")
HEADERS: Final = (
    "Content-Type: application/x-www-form-urlencoded",
    "Content-Type: text/plain",
    "Content-Type: multipart/form-data; boundary=B",
    "Content-Type: application/json; charset=utf-16",
    "Content-Encoding: gzip",
    "Transfer-Encoding: gzip",
    "Origin: http://evil.example",
    "Origin: http://localhost",
    "Sec-Fetch-Site: cross-site",
    "Authorization: Bearer x",
    "Expect: 100-continue",
    "Connection: upgrade, host",
    "Upgrade: h2c",
    "X-Conversation-Id: c1",
    "X-Forwarded-For: 1.2.3.4",
    "Accept-Encoding: gzip, br",
    "X-Odd: \xff\xfe",
    "Range: bytes=0-1",
)


@dataclass(slots=True)
class Case:
    raw: bytes
    whole: bool
    """False: the server may wait for more of it."""

    @property
    def told(self) -> str:
        return repr(self.raw[:400])


class Maker:
    """Seeded: the same requests in every run."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)

    def make(self) -> Case:
        dice = self.dice
        method, path, body = self.base()
        query: list[str] = []
        if dice.random() < 0.2:
            query += dice.choices(
                ("autoload=true", "autoload=1", "reload=1", f"model={NEMOTRON}", "model=", "%", "a&&b"), k=2
            )
        if dice.random() < 0.15:
            path = self.bend(path)
        if dice.random() < 0.05:
            method = dice.choice(METHODS)
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        if data and dice.random() < 0.2:
            data = self.spoil(data)
        headers = [f"Host: {'evil.example' if dice.random() < 0.01 else '127.0.0.1:7070'}", "Connection: close"]
        if data or method == "POST":
            headers.append(f"Content-Length: {len(data)}")
        if dice.random() < 0.2:
            headers += dice.choices(HEADERS, k=dice.randint(1, 2))
        target = path + ("?" + "&".join(query) if query else "")
        head = f"{method} {target} HTTP/1.1\r\n" + "".join(f"{line}\r\n" for line in headers) + "\r\n"
        raw = head.encode("latin-1", "replace") + data
        wrecked = dice.random() < 0.03
        return Case(self.wreck(raw) if wrecked else raw, whole=not wrecked)

    def base(self) -> tuple[str, str, object]:
        dice = self.dice
        choice = dice.random()
        model = dice.choices(MODELS, (3, 3, 6, 6))[0]
        named: Any = model if dice.random() < 0.85 else dice.choice(ODD)
        if choice < 0.10:
            return "POST", "/models/load", {"model": named}
        if choice < 0.16:
            return "POST", "/models/unload", {"model": named}
        if choice < 0.55:
            return "POST", dice.choice(USED), self.work(named)
        if choice < 0.62:
            body = f'--B\r\nContent-Disposition: form-data; name="model"\r\n\r\n{named}\r\n--B--\r\n'.encode()
            return "POST", dice.choice(("/v1/audio/transcriptions", "/v1/chat/completions")), body
        if choice < 0.66:
            return "POST", "/v1/streams/lookup", {"conversation_ids": ["c1", "c2"]}
        if choice < 0.70:
            return dice.choice(("POST", "DELETE")), "/models", {"model": named}
        if choice < 0.80:
            suffix = f"?model={model}" if dice.random() < 0.6 else f"?model={model}&autoload=true"
            return "GET", dice.choice(("/props", "/slots", "/metrics", "/lora-adapters", "/models")) + suffix, None
        return "GET", dice.choice(ASKED), None

    def work(self, model: object) -> dict[str, Any]:
        dice = self.dice
        body: dict[str, Any] = {"model": model, "max_tokens": 1, "n_predict": 1, "max_output_tokens": 1}
        body["messages"] = [{"role": "user", "content": "Hi"}]
        body |= {"prompt": "Hi", "input": "Hi", "content": "Hi", "query": "a", "documents": ["b"], "tokens": [1, 2]}
        body |= {"input_prefix": "a", "input_suffix": "b", "stream": dice.random() < 0.3, "id": "c1", "action": "x"}
        for key in list(body):
            if dice.random() < 0.04:
                del body[key]
        if dice.random() < 0.05:
            body[dice.choice(("autoload", "n", "seed", "stop", "temperature"))] = dice.choice(ODD)
        if dice.random() < 0.15:
            body["messages"] = dice.choice(DEEP)(dice.choice(ODD))
        if dice.random() < 0.03:
            body["tools"] = dice.choice(([dice.choice(ODD)], dice.choice(ODD)))
        return body

    def bend(self, path: str) -> str:
        dice = self.dice
        place = dice.randrange(len(path)) if path else 0
        kind = dice.randrange(8)
        if kind == 0:
            return path[:place] + f"%{ord(path[place]):02x}" + path[place + 1 :]
        if kind == 1:
            return path[:place] + f"%25{ord(path[place]):02X}" + path[place + 1 :]
        if kind == 2:
            return (
                path[:place]
                + dice.choice(("/", "//", "/./", "/../", ";x=1", "%00", "%2F", "\\", "#", "%", " ", "\xff"))
                + path[place:]
            )
        if kind == 3:
            return "http://127.0.0.1:7070" + path
        if kind == 4:
            return path.upper()
        if kind == 5:
            return path + "/"
        if kind == 6:
            return "/x/.." + path
        return path.replace("/", "%2F")

    def spoil(self, data: bytes) -> bytes:
        dice = self.dice
        kind = dice.randrange(7)
        place = dice.randrange(len(data))
        if kind == 0:
            return data[:place]
        if kind == 1:
            return data[:place] + bytes([dice.randrange(256)]) + data[place + 1 :]
        if kind == 2:
            return data.replace(b'{"model"', f'{{"model": "{NEMOTRON}", "model"'.encode(), 1)
        if kind == 3:
            return data.replace(b'{"model"', f'{{"mod\\u0065l": "{GLM}", "model"'.encode(), 1)
        if kind == 4:
            return b"[" + data + b"]"
        if kind == 5:
            return data.decode("latin-1").encode(dice.choice(("utf-16", "utf-8-sig", "utf-32")))
        return b"model=" + GLM.encode() + b"&autoload=true"

    def wreck(self, raw: bytes) -> bytes:
        dice = self.dice
        kind = dice.randrange(6)
        if kind == 0:
            return raw[: dice.randrange(1, len(raw))]
        if kind == 1:
            return raw.replace(b"HTTP/1.1", dice.choice((b"HTTP/1.0", b"HTTP/9.9", b"HTP/1.1", b"")), 1)
        if kind == 2:
            return raw.replace(b"Content-Length:", b"Content-Length: 1\r\nContent-Length:", 1)
        if kind == 3:
            return raw.replace(b"Content-Length:", b"Transfer-Encoding: chunked\r\nContent-Length:", 1)
        if kind == 4:
            return raw.replace(b"\r\n", b"\n")
        return bytes(dice.randrange(256) for _ in range(dice.randrange(1, 200)))


async def send(case: Case) -> bytes:
    """What came back until the connection's end; empty: nothing did, as where the request is not whole."""
    reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
    try:
        async with asyncio.timeout(ANSWER_S if case.whole else PATIENCE_S):
            writer.write(case.raw)
            return await reader.read(-1)
    except ConnectionError:
        return b""
    except TimeoutError:
        return b"HTTP/1.1 599 no answer in time\r\n\r\n" if case.whole else b""
    finally:
        writer.close()


async def send_all(cases: list[Case]) -> list[tuple[Case, bytes]]:
    left = iter(cases)
    found: list[tuple[Case, bytes]] = []

    async def client() -> None:
        for case in left:
            answer = await send(case)
            found.append((case, answer))

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return found


def status_of(answer: bytes) -> int:
    """The final one; 0: none."""
    found = re.match(rb"(?:HTTP/1\.1 100 Continue\r\n\r\n)?HTTP/1\.[01] (\d{3})", answer)
    return int(found[1]) if found else 0


def spawned(service: str) -> Counter[str]:
    """How often each model was started, as the router itself logged it."""
    lines = journal(f"{service}.service", lines=1_000_000)
    return Counter(
        found[1] for line in lines if (found := re.search(r"spawning server instance with name=(\S+)", line))
    )


def admitted() -> dict[str, Counter[str]]:
    """How often the guard admitted each model."""
    found: dict[str, Counter[str]] = {service: Counter() for service in SERVICES}
    text = ask("GET", "/gpumod/metrics").body.decode()
    for service, model, count in re.findall(r'admissions_total\{service="([^"]+)",model="([^"]+)"\} (\d+)', text):
        found[service][model] = int(count)
    return found


RULES: Final = [
    {"match": r"--model \S*GLM-4\.7-Flash", "mib": 19968},
    {"match": r"--model \S*Nemotron-3-Nano", "mib": 22528},
    {"match": r"--model \S*tiny", "mib": 3000},
]


@pytest.mark.long(share=2_000, whole=REQUESTS, of="fuzzed requests")
@pytest.mark.bed(gpu={"release_s": 0.2, "rules": RULES})
def test_fuzzed_requests(repetitions: int, tmp_path: Path, record_property: Any) -> None:
    copy_models(["tiny-a", "tiny-b"], tmp_path)
    presets = Path.home() / ".config" / "gpumod" / "presets"
    presets.mkdir(parents=True)
    (presets / "small.yaml").write_text(
        f"id: small\ndriver: llamacpp\nport: {PORT}\nvram_mb: 4096\ndefault_model: tiny-a\n"
    )
    known_ledger()
    for service in SERVICES:
        options = SERVES_ALL.format(slots=tmp_path)
        start_router(service, options, models=tmp_path if service == "small" else None, models_max=1)
    start_guard()
    wait_until(lambda: ask("GET", "/health").json["routers"] == 3, what="it knows them all")
    pid = guard_pid()
    maker = Maker(SEED)
    cases = [maker.make() for _ in range(repetitions)]
    began = time.monotonic()
    answers = asyncio.run(send_all(cases))
    took_s = time.monotonic() - began
    statuses = Counter(status_of(answer) for _, answer in answers)
    record_property("seconds", round(took_s, 1))
    record_property("statuses", dict(sorted(statuses.items())))
    print(f"{took_s:.1f} s, {dict(sorted(statuses.items()))}")

    bad = []
    kinds: Counter[str] = Counter()
    for case, answer in answers:
        if status_of(answer) >= 500:
            body = answer.partition(b"\r\n\r\n")[2]
            found = re.search(rb'"type":\s*"([^"]+)"', body)
            kind = found[1].decode() if found else "?"
            kinds[f"{status_of(answer)} {kind}"] += 1
            deaf = kind == "not_supported_error" and b"/audio/transcriptions" in case.raw
            if not (status_of(answer) == 503 and kind in NAMED_503) and not (status_of(answer) == 501 and deaf):
                bad.append(f"{case.told}\n  → {answer[-400:]!r}")
    record_property("kinds", dict(kinds))
    print(kinds)
    told = [line for line in journal(GUARD, lines=100_000) if "Error" in line or "Traceback" in line]
    assert not bad, f"{len(bad)}:\n" + "\n".join(bad[:10] + told[:20])
    assert guard_pid() == pid
    wait_until(lambda: {name: spawned(name) for name in SERVICES} == admitted(), 120, what="every load was admitted")
    loads = sum(sum(one.values()) for one in admitted().values())
    record_property("loads", loads)
    print(f"{loads} loads")
    assert loads > repetitions / 500
    gpu().assert_never_overcommitted()
    assert not told
    for model in MODELS:
        ask("POST", "/models/unload", {"model": model})
    wait_until(lambda: ask("GET", "/gpumod/metrics") and not [e for e in ledger() if e["model"]], what="no leak")
