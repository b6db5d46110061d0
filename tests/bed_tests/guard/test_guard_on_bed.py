"""The guard before real routers: nothing is loaded that was not admitted, whoever asks and in whatever way."""

import contextlib
import hashlib
import json
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from gpumod_tui.core.admission.commitments import ORPHAN_S
from gpumod_tui.core.admission.decide import Refused
from gpumod_tui.wiring import real_host
from tests.bed.guarded import (
    GLM,
    GUARD,
    NEMOTRON,
    PORT,
    Reply,
    ask,
    chat,
    children,
    direct,
    guard_pid,
    known_ledger,
    ledger,
    start_guard,
    start_router,
    statuses,
    wait_delivered,
)
from tests.bed.host import (
    copy_models,
    external_ip,
    gpu,
    install_unit,
    journal,
    model_files,
    run,
    systemctl,
    unit_properties,
    wait_until,
)
from tests.unit.guard.test_chat import UNREADABLE

pytestmark = pytest.mark.bed

CODE, NEMO = "glm-code", "nemotron-3-nano"


def rules(load_s: float) -> dict[str, Any]:
    return {
        "rules": [
            {"match": r"--model \S*GLM-4\.7-Flash", "mib": 19968, "load_s": load_s},
            {"match": r"--model \S*Nemotron-3-Nano", "mib": 22528, "load_s": load_s},
        ]
    }


@pytest.fixture(autouse=True)
def never_too_much(request: pytest.FixtureRequest) -> Iterator[None]:
    if os.environ.get("GPUMOD_BED") == "1":
        known_ledger()
    yield
    if os.environ.get("GPUMOD_BED") == "1":
        gpu().assert_never_overcommitted()
        faults = [line for line in journal(GUARD) if re.search("Traceback|Error:|never retrieved", line)]
        assert not faults, "\n".join(journal(GUARD)[-60:])


def preset(name: str, text: str) -> None:
    folder = Path.home() / ".config" / "gpumod" / "presets"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.yaml").write_text(text)


def router_preset(name: str, default: str | None, vram_mb: int, **more: Any) -> None:
    lines = [f"id: {name}", "driver: llamacpp", f"port: {PORT}", f"vram_mb: {vram_mb}", "unit_vars:", "  models_max: 1"]
    if default:
        lines.insert(3, f"default_model: {default}")
    lines += [f"  {key}: {json.dumps(value)}" for key, value in more.items()]
    preset(name, "\n".join(lines) + "\n")


def settled(service: str) -> list[dict[str, Any]]:
    """The ledger's entries of a router's models."""
    return [entry for entry in ledger() if entry["unit"] == f"{service}.service" and entry["model"]]


def stream(model: str, tokens: int) -> socket.socket:
    """A client that has asked for a stream and read nothing yet."""
    body = json.dumps(chat(model, max_tokens=tokens, stream=True)).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    client = socket.create_connection(("127.0.0.1", PORT), 30)
    client.sendall(head + body)
    return client


def busy(service: str, model: str) -> bool:
    return any(slot["is_processing"] for slot in direct(service, "GET", f"/slots?model={model}").json)


def in_log(pattern: str) -> list[int]:
    """The numbers of all lines of the coder's log that match."""
    return [int(found[1]) for line in journal(f"{CODE}.service") if (found := re.search(pattern, line))]


# --- the ordinary way


def test_a_model_is_admitted_loaded_used_and_unloaded() -> None:
    start_router(CODE)
    start_guard()
    wait_until(lambda: ask("GET", "/health").json == {"status": "ok", "routers": 1, "mode": None}, what="it knows it")
    listed = ask("GET", "/models")
    assert b'"value":"unloaded"' in listed.body
    assert {entry["id"] for entry in listed.json["data"]} == {GLM, NEMOTRON}
    loaded = ask("POST", "/models/load", {"model": GLM})
    assert (loaded.status, loaded.body) == (200, b'{"success":true}')
    answer = ask("POST", "/v1/chat/completions", chat(GLM))
    assert answer.status == 200, answer
    assert answer.json["choices"][0]["message"]["content"]
    assert b'"value":"loaded"' in ask("GET", "/v1/models").body
    again = ask("POST", "/models/load", {"model": GLM})
    assert (again.status, again.json["error"]["message"]) == (400, "model is already running")
    wait_until(lambda: settled(CODE) and settled(CODE)[0]["process"], what="the commitment is the model's own")
    assert settled(CODE)[0]["needs"] == {"0": 20480 * 1024**2}
    assert settled(CODE)[0]["process"]["pid"] == children(CODE)[GLM]
    assert ask("POST", "/models/unload", {"model": GLM}).status == 200
    wait_until(lambda: not children(CODE))
    metrics = ask("GET", "/gpumod/metrics").body.decode()
    assert f'gpumod_admissions_total{{service="{CODE}",model="{GLM}"}} 1' in metrics
    assert 'gpumod_gpu_free_bytes{gpu="0"}' in metrics
    wait_until(lambda: ask("GET", "/gpumod/metrics") and not settled(CODE), what="its commitment has ended with it")


def test_the_ways_of_llama_server_are_kept() -> None:
    start_router(CODE)
    start_guard()
    assert (
        ask("POST", "/models/load", {"model": "nobody"}).status
        == direct(CODE, "POST", "/models/load", {"model": "nobody"}).status
        == 404
    )
    for path, body in (("/v1/chat/completions", chat("nobody")), ("/models/unload", {"model": GLM}), ("/tokenize", {})):
        through, past = ask("POST", path, body), direct(CODE, "POST", path, body)
        assert (through.status, through.json["error"]["message"]) == (past.status, past.json["error"]["message"])
    assert ask("GET", "/props").json["role"] == "router"
    assert ask("GET", f"/props?model={GLM}").json["error"]["message"] == "model is not loaded"
    assert ask("GET", "/").status == direct(CODE, "GET", "/").status
    assert ask("HEAD", "/models").status == 200
    assert ask("GET", "/nothing").status == 404
    assert ask("OPTIONS", "/models").status == 204


@pytest.mark.parametrize(
    ("path", "field"),
    [("/v1/completions", "prompt"), ("/v1/messages", "messages"), ("/v1/messages/count_tokens", "messages")],
)
def test_a_body_without_what_llama_server_fails_on_is_refused_and_loads_nothing(path: str, field: str) -> None:
    start_router(CODE)
    start_guard()
    refused = ask("POST", path, {"model": GLM, "max_tokens": 1})
    assert (refused.status, refused.json["error"]["type"]) == (400, "invalid_request_error")
    assert f"'{field}' is required" in refused.json["error"]["message"]
    assert not children(CODE)
    whole = {"model": GLM, "max_tokens": 1, "prompt": "Hi", "messages": [{"role": "user", "content": "Hi"}]}
    assert ask("POST", path, whole).status == 200


CHATS = ("/v1/chat/completions", "/apply-template", "/v1/chat/completions/input_tokens")
ANTHROPIC = ("/v1/messages", "/v1/messages/count_tokens")
DEEP: list[Any] = [
    [{"role": "user", "content": [{"type": "text"}]}],
    [{"role": "user", "content": "Hi", "name": 5}],
    [{"role": "assistant", "content": "Hi", "tool_calls": [5]}],
]


def test_what_llama_server_cannot_read_of_a_conversation_is_the_clients_fault() -> None:
    start_router(CODE)
    start_guard()
    for path in CHATS:
        for messages in UNREADABLE:
            refused = ask("POST", path, {"model": GLM, "messages": messages, "max_tokens": 1})
            assert (refused.status, refused.json["error"]["type"]) == (400, "invalid_request_error"), (path, messages)
    assert not children(CODE), "nothing was loaded for it"
    assert ask("POST", "/v1/chat/completions", chat(GLM)).status == 200
    for path in CHATS:
        for messages in UNREADABLE:
            past = direct(CODE, "POST", path, {"model": GLM, "messages": messages, "max_tokens": 1})
            assert past.status >= 400, f"the guard is stricter than {path} with {messages}"
    for path in (*CHATS, *ANTHROPIC):
        for messages in (*DEEP, [{"content": "Hi"}]):
            body = {"model": GLM, "messages": messages, "max_tokens": 1}
            through, past = ask("POST", path, body), direct(CODE, "POST", path, body)
            assert through.status == (400 if past.status == 500 else past.status), (path, messages, past)
            if past.status == 500 and messages in DEEP:
                assert through.json["error"]["message"] == past.json["error"]["message"]


@pytest.mark.bed(timeout_s=120)
def test_a_model_that_gpumod_unloads_while_it_is_asked_is_told_as_that() -> None:
    start_router(CODE)
    start_guard()
    assert ask("POST", "/v1/chat/completions", chat(GLM)).status == 200
    os.kill(children(CODE)[GLM], signal.SIGSTOP)
    with ThreadPoolExecutor(1) as clients:
        asked = clients.submit(ask, "POST", "/v1/chat/completions", chat(GLM))
        time.sleep(0.5)
        assert run("gpumod", "service", "unload", CODE, GLM, timeout_s=60).returncode == 0
        told = asked.result(60)
    assert (told.status, told.json["error"]["type"], told.headers["retry-after"]) == (503, "interrupted", "2"), told
    assert ask("POST", "/v1/chat/completions", chat(GLM)).status == 200


def test_test_3_to_the_letter() -> None:
    """What holds the memory is named, nothing is stopped, and the router that would load it is untouched."""
    start_router(CODE)
    start_guard()
    assert ask("POST", "/v1/chat/completions", chat(GLM)).status == 200
    start_router(NEMO)
    refused = ask("POST", "/models/load", {"model": NEMOTRON})
    pid = children(CODE)[GLM]
    error = refused.json["error"]
    assert refused.status == 503
    assert error["message"] == (
        f"insufficient VRAM: {NEMOTRON} needs 23040 MiB + 512 MiB margin + 512 MiB promised to others ({GLM} 512 MiB)"
        f" on GPU 0, 4139 MiB free, short by 19925 MiB; held by llama-server pid {pid} (glm-code.service) 19968 MiB;"
        f" unload {GLM} (glm-code), or run gpumod mode switch nemotron"
    )
    assert {key: error[key] for key in ("code", "type", "need_mib", "free_mib", "holders")} == {
        "code": 503,
        "type": "insufficient_vram",
        "need_mib": 23040,
        "free_mib": 4139,
        "holders": [{"pid": pid, "command": "llama-server", "unit": "glm-code.service", "gpu": 0, "used_mib": 19968}],
    }
    assert "retry-after" not in refused.headers
    assert not children(NEMO)
    gpu().config(hold=True)
    ask("POST", "/models/unload", {"model": GLM})
    wait_until(lambda: not children(CODE))
    soon = ask("POST", "/models/load", {"model": NEMOTRON})
    assert (soon.status, soon.headers["retry-after"]) == (503, "2")
    gpu().config(hold=False)
    wait_until(lambda: ask("POST", "/models/load", {"model": NEMOTRON}).status == 200, what="its memory came back")
    wait_until(lambda: statuses(NEMO)[NEMOTRON] == "loaded")


# --- side doors


def form(model: str) -> tuple[bytes, dict[str, str]]:
    body = f'--B\r\nContent-Disposition: form-data; name="model"\r\n\r\n{model}\r\n--B\r\n'
    body += 'Content-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\nx\r\n--B--\r\n'
    return body.encode(), {"Content-Type": "multipart/form-data; boundary=B"}


URLENCODED = {"Content-Type": "application/x-www-form-urlencoded"}


def test_no_side_door_loads_what_does_not_fit() -> None:
    start_router(CODE)
    start_router(NEMO)
    start_guard()
    assert ask("POST", "/v1/chat/completions", chat(GLM)).status == 200
    model = {"model": NEMOTRON}
    data, multipart = form(NEMOTRON)
    doors: list[tuple[str, str, object, dict[str, str], set[int]]] = [
        ("POST", "/models/load?autoload=true", model, {}, {503}),
        ("POST", "/models%2Fload", model, {}, {503}),
        ("POST", "/models%252Fload", model, {}, {404}),
        ("POST", "//models/load", model, {}, {404}),
        ("POST", "/models/load", model, URLENCODED, {503}),
        ("POST", "/models/load", f"model={NEMOTRON}".encode(), URLENCODED, {400}),
        ("POST", "/models/load", model, {"Content-Encoding": "gzip"}, {415}),
        ("POST", "/v1/chat/completions?autoload=true", chat(NEMOTRON), {}, {503}),
        ("POST", "/v1/chat/completions?autoload=1", chat(NEMOTRON), URLENCODED, {503}),
        ("POST", "/v1/chat/completions", f"model={NEMOTRON}&autoload=true".encode(), URLENCODED, {400}),
        ("POST", "/v1/chat/completions", data, multipart, {400}),
        ("POST", "/v1/audio/transcriptions?autoload=true", data, multipart, {503}),
        ("POST", "/tokenize?autoload=true", {**model, "content": "x"}, {}, {503}),
        ("POST", "/props?autoload=true", model, {}, {400}),
        ("POST", "/slots/0?action=erase&autoload=true", model, {}, {400}),
        ("POST", "/lora-adapters?autoload=true", model, {}, {400}),
        *(("GET", f"/{one}?model={NEMOTRON}&autoload=true", None, {}, {400}) for one in ("props", "slots", "metrics")),
        ("HEAD", f"/props?model={NEMOTRON}&autoload=true", None, {}, {400}),
        ("GET", f"/lora-adapters?model={NEMOTRON}&autoload=true", None, {}, {400}),
        ("GET", f"/props?model={NEMOTRON}&model={GLM}", None, {}, {400}),
        ("GET", "/models?reload=1", None, {}, {403}),
        ("POST", "/models", {"model": "org/name"}, {}, {403}),
        ("DELETE", f"/models?model={GLM}", None, {}, {403}),
        ("POST", "/predict", {"instances": [{"@requestFormat": "chatCompletions", **chat(NEMOTRON)}]}, {}, {404}),
    ]
    for method, path, body, headers, expected in doors:
        answer = ask(method, path, body, headers=headers)
        assert answer.status in expected, (method, path, answer)
        assert not children(NEMO), (method, path)
    assert set(children(CODE)) == {GLM}
    assert settled(NEMO) == []


def test_pages_of_other_origins_and_other_hosts_are_refused() -> None:
    start_router(CODE)
    start_guard()
    assert ask("GET", "/models", headers={"Origin": "http://evil.example"}).status == 403
    assert ask("POST", "/models/load", {"model": GLM}, headers={"Origin": "null"}).status == 403
    assert ask("GET", "/health", headers={"Host": "evil.example"}).status == 403
    assert ask("GET", f"/props?model={GLM}", headers={"Sec-Fetch-Site": "cross-site"}).status == 403
    assert not children(CODE)
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((external_ip(), PORT), 3)


def test_a_client_without_the_key_makes_nothing_happen(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("s3cret\n")
    key.chmod(0o600)
    preset(
        CODE,
        f"id: {CODE}\ndriver: llamacpp\nport: {PORT}\nvram_mb: 20480\ndefault_model: {GLM}\napi_key_file: {key}\n",
    )
    start_router(CODE, "--api-key-file", str(key))
    start_guard()
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"X-Api-Key": ""}):
        for method, path, body in (
            ("POST", "/models/load", {"model": GLM}),
            ("POST", "/v1/chat/completions", chat(GLM)),
            ("GET", "/models", None),
            ("GET", "/props", None),
        ):
            answer = ask(method, path, body, headers=headers)
            assert (answer.status, answer.json["error"]["message"]) == (401, "Invalid API Key"), path
    assert not children(CODE)
    assert ask("GET", "/health").status == 200
    for headers in ({"Authorization": "Bearer s3cret"}, {"X-Api-Key": "s3cret"}):
        assert ask("POST", "/v1/chat/completions", chat(GLM), headers=headers).status == 200


# --- two routers, full routers, switches


def test_who_has_it_loaded_answers_and_where_it_is_open_the_client_is_asked(tmp_path: Path) -> None:
    copy_models(["shared", "only"], tmp_path / "one")
    copy_models(["shared"], tmp_path / "two")
    router_preset(CODE, "shared", 0)
    router_preset(NEMO, None, 0)
    start_router(CODE, models=tmp_path / "two")
    start_router(NEMO, models=tmp_path / "one")
    start_guard()
    assert ask("POST", "/v1/chat/completions", chat("shared")).status == 200
    assert set(children(CODE)) == {"shared"}
    assert ask("POST", "/v1/chat/completions", chat("only")).status == 200
    assert set(children(NEMO)) == {"only"}
    listed = ask("GET", "/models").json["data"]
    assert sorted(entry["id"] for entry in listed) == ["only", "shared"]
    assert all(entry["status"]["value"] == "loaded" for entry in listed)
    # Loaded elsewhere than by default: there it stays.
    ask("POST", "/models/unload", {"model": "shared"})
    wait_until(lambda: not children(CODE))
    assert direct(NEMO, "POST", "/models/load", {"model": "shared"}).status == 200
    wait_until(lambda: statuses(NEMO)["shared"] == "loaded")
    assert ask("POST", "/v1/chat/completions", chat("shared")).status == 200
    assert not children(CODE)
    systemctl("stop", GUARD, "gpumod-guard.socket")
    router_preset(CODE, None, 0)
    direct(NEMO, "POST", "/models/unload", {"model": "shared"})
    wait_until(lambda: set(children(NEMO)) == {"only"})
    start_guard()
    asked = ask("POST", "/models/load", {"model": "shared"})
    assert asked.status == 409
    assert f"{CODE}, {NEMO}" in asked.json["error"]["message"]


@pytest.mark.parametrize("evict", [False, True])
def test_a_full_router_evicts_nothing_unasked(evict: bool, tmp_path: Path) -> None:
    copy_models(["one", "two"], tmp_path)
    router_preset(CODE, None, 0, evict=evict)
    start_router(CODE, models=tmp_path, models_max=1)
    start_guard()
    assert ask("POST", "/v1/chat/completions", chat("one")).status == 200
    second = ask("POST", "/v1/chat/completions", chat("two"))
    if evict:
        assert second.status == 200
        assert set(children(CODE)) == {"two"}
        assert b"gpumod_evictions_total" in ask("GET", "/gpumod/metrics").body
    else:
        assert (second.status, second.json["error"]["type"]) == (503, "model_limit")
        assert "one" in second.json["error"]["message"]
        assert set(children(CODE)) == {"one"}


def test_an_idle_model_that_holds_the_memory_is_evicted_where_the_preset_says_so() -> None:
    # The other model is next to nothing, and even for that there is no room.
    router_preset(CODE, NEMOTRON, 22600, evict=True)
    start_router(CODE, models_max=2)
    start_guard()
    gpu().config(rules=[{"match": "--model \\S*Nemotron-3-Nano", "mib": 22528}], processes=[])
    assert ask("POST", "/v1/chat/completions", chat(NEMOTRON)).status == 200
    gpu().config(rules=[{"match": "--model \\S*Nemotron-3-Nano", "mib": 22528}], processes=[{"pid": 1, "mib": 1200}])
    assert ask("POST", "/v1/chat/completions", chat(GLM)).status == 200
    assert set(children(CODE)) == {GLM}


def test_the_next_load_is_decided_by_the_preset_as_it_is_then() -> None:
    gpu().config(rules=[{"match": r"--model \S*GLM-4\.7-Flash", "mib": 4000}], processes=[])
    router_preset(CODE, GLM, 4096)
    start_router(CODE)
    start_guard()
    assert ask("GET", "/health").status == 200
    before = guard_pid()

    router_preset(CODE, GLM, 30000)
    refused = ask("POST", "/models/load", {"model": GLM})
    assert refused.status == 503
    assert refused.json["error"]["need_mib"] == 30000
    assert "whole GPU is too small" in refused.json["error"]["message"]
    assert "mode switch" not in refused.json["error"]["message"]

    preset(CODE, f"id: {CODE}\ndriver: llamacpp\nvram_mb: lots\n")
    broken = ask("POST", "/v1/chat/completions", chat(GLM))
    assert broken.status == 503
    assert f"the preset of {CODE} is broken or gone" in broken.json["error"]["message"]
    assert not children(CODE)

    router_preset(CODE, GLM, 4096)
    assert ask("POST", "/v1/chat/completions", chat(GLM)).status == 200
    assert guard_pid() == before


HALF = b"POST /models/load HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n"


@pytest.mark.parametrize("said", [b"", HALF], ids=["nothing", "a head without its body"])
def test_more_silent_connections_than_any_limit_keep_nobody_out(said: bytes) -> None:
    start_router(CODE)
    start_guard()
    silent = [socket.create_connection(("127.0.0.1", PORT), 10) for _ in range(4200)]
    try:
        for client in silent:
            with contextlib.suppress(ConnectionError):
                client.sendall(said)
        assert ask("GET", "/health").status == 200
        assert ask("POST", "/v1/chat/completions", chat(GLM)).status == 200
        newest = silent[-1]
        newest.sendall(b'{"model":1' if said else b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert newest.recv(64).startswith(b"HTTP/1.1 400" if said else b"HTTP/1.1 200")
        with contextlib.suppress(ConnectionResetError):
            assert silent[0].recv(1) == b"", "the longest silent one gave way"
    finally:
        for client in silent:
            client.close()


def test_large_bodies_of_many_clients_take_bounded_memory() -> None:
    start_router(CODE)
    start_guard()
    assert ask("GET", "/health").status == 200
    body = json.dumps({"model": "nobody", "prompt": "a" * (60 * 1024**2)}).encode()
    with ThreadPoolExecutor(16) as clients:
        answers = [clients.submit(ask, "POST", "/completion", body) for _ in range(16)]
        asked = [ask("GET", "/health").status for _ in range(20)]
    told = {(one.result().status, one.result().json["error"]["type"]) for one in answers}
    assert told <= {(400, "invalid_request_error"), (503, "busy")}, told
    assert (400, "invalid_request_error") in told
    assert set(asked) == {200}
    status = Path(f"/proc/{guard_pid()}/status").read_text()
    most_mib = int(status.partition("VmHWM:")[2].split()[0]) // 1024
    print(f"most {most_mib} MiB")
    assert most_mib < 512


def test_nothing_is_loaded_into_a_switch_but_what_it_promised() -> None:
    from gpumod_tui.core.models import GpuReading
    from gpumod_tui.wiring import real_host

    start_router(CODE)
    start_guard()
    host = real_host()
    lock = host.store.acquire("nemotron")
    assert lock is not None
    lock.write(replace(lock.record, stopping=(f"{CODE}.service",)))
    answer = ask("POST", "/v1/chat/completions", chat(GLM))
    assert (answer.status, answer.json["error"]["type"]) == (503, "switch_in_progress")
    assert int(answer.headers["retry-after"]) > 0
    assert not children(CODE)
    reading: GpuReading = host.gpus.read(processes=False)
    need = host.needs.model_need(host.registry.services[CODE], GLM, reading)
    wanted = [(f"{CODE}.service", GLM, need.by_gpu)]  # type: ignore[union-attr]
    assert host.admission.promise(lock.record.id, wanted, ()) is None
    assert ask("POST", "/v1/chat/completions", chat(GLM)).status == 200
    wait_until(lambda: len(settled(CODE)) == 1 and settled(CODE)[0]["process"], what="one allocation is counted once")
    lock.release()


# --- in the middle of things


@pytest.mark.bed(gpu=rules(1.0))
def test_all_who_wait_are_served_by_one_load_and_one_that_leaves_ends_it_for_nobody() -> None:
    start_router(CODE)
    start_guard()
    ask("GET", "/health")
    leaver = stream(GLM, 4)
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(ask, "POST", "/v1/chat/completions", chat(GLM)) for _ in range(8)]
        wait_until(lambda: children(CODE))
        leaver.close()
        assert ask("POST", "/models/load", {"model": GLM}).status == 400
        assert [one.result().status for one in answers] == [200] * 8
    assert f'{{service="{CODE}",model="{GLM}"}} 1' in ask("GET", "/gpumod/metrics").body.decode()


@pytest.mark.bed(gpu=rules(1.0))
def test_a_load_goes_on_when_everybody_has_left() -> None:
    start_router(CODE)
    start_guard()
    ask("GET", "/health")
    leaver = stream(GLM, 4)
    wait_until(lambda: settled(CODE), what="it is admitted")
    leaver.close()
    wait_until(lambda: statuses(CODE)[GLM] == "loaded")
    wait_until(lambda: settled(CODE)[0]["process"], what="the commitment is the model's")


def test_two_loads_in_the_same_moment_are_not_both_admitted() -> None:
    start_router(CODE)
    start_router(NEMO)
    start_guard()
    ask("GET", "/health")
    for _ in range(5):
        with ThreadPoolExecutor(2) as pool:
            loads = [pool.submit(ask, "POST", "/models/load", {"model": one}) for one in (GLM, NEMOTRON)]
            answers = [load.result() for load in loads]
        assert sorted(answer.status for answer in answers) == [200, 503], (answers, statuses(CODE), statuses(NEMO))
        for model in (GLM, NEMOTRON):
            ask("POST", "/models/unload", {"model": model})
        # A router calls a model running for a moment longer than its process lives.
        wait_until(lambda: {*statuses(CODE).values(), *statuses(NEMO).values()} == {"unloaded"})
        wait_until(lambda: gpu().used_mib() < 100)


def test_files_of_models_are_changed_through_the_port_only_where_the_settings_say_so(tmp_path: Path) -> None:
    copy_models(["tiny-a"], tmp_path)
    router_preset(CODE, "tiny-a", 2048, models_dir=str(tmp_path))
    start_router(CODE, models=tmp_path)
    config = Path.home() / ".config" / "gpumod" / "config.yaml"
    start_guard()
    for allowed in ("[]", "[download, delete, reload]"):
        config.write_text(f"guard_allow: {allowed}\n")
        if guard_pid():
            os.kill(guard_pid(), signal.SIGTERM)
        wait_until(lambda: not guard_pid())
        answers = (
            ask("GET", "/models?reload=1"),
            ask("DELETE", "/models?model=tiny-a"),
            ask("POST", "/models", {"model": "nobody/has-this"}),
        )
        if allowed == "[]":
            assert [one.status for one in answers] == [403] * 3
            assert "guard_allow: [delete]" in answers[1].json["error"]["message"]
            copy_models(["tiny-b"], tmp_path)
            assert [one["id"] for one in ask("GET", "/models").json["data"]] == ["tiny-a"]
    assert [one["id"] for one in answers[0].json["data"]] == ["tiny-a", "tiny-b"]
    assert "not removable" in answers[1].json["error"]["message"], "the router's own words"
    assert answers[2].headers["server"] == "llama.cpp", "there is nothing to download from here"
    wait_until(lambda: not children(CODE), what="the process that was to download it has ended")
    assert ask("POST", "/models/load", {"model": "tiny-a"}).status == 200
    wait_until(lambda: statuses(CODE)["tiny-a"] == "loaded")
    running = ask("DELETE", "/models?model=tiny-a")
    assert (running.status, "unload it first" in running.json["error"]["message"]) == (409, True)


class Hub(ThreadingHTTPServer):
    """One repository with one model file, as llama-server asks a model hub for it."""

    repo, file, commit = "bed/tiny-GGUF", "tiny-Q4_K_M.gguf", "0" * 39 + "1"

    def __init__(self, data: bytes) -> None:
        oid = hashlib.sha256(data).hexdigest()
        listed = {"type": "file", "path": self.file, "size": len(data), "oid": oid[:40]}
        listed["lfs"] = {"oid": oid, "size": len(data)}
        answers = {
            f"/api/models/{self.repo}/refs": json.dumps({"branches": [{"name": "main", "targetCommit": self.commit}]}),
            f"/api/models/{self.repo}/tree/{self.commit}": json.dumps([listed]),
        }

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                body = answers[path].encode() if path in answers else data if path.endswith(".gguf") else None
                self.send_response(404 if body is None else 200)
                self.send_header("Content-Length", str(len(body or b"")))
                self.send_header("Accept-Ranges", "none")
                self.end_headers()
                if body and self.command == "GET":
                    self.wfile.write(body)

            def do_HEAD(self) -> None:
                self.do_GET()

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()


def test_a_model_that_was_downloaded_through_the_port_is_loaded_only_where_it_is_admitted() -> None:
    hub = Hub(model_files()[0].read_bytes())
    systemctl("set-environment", f"MODEL_ENDPOINT=http://127.0.0.1:{hub.server_address[1]}/")
    router_preset(CODE, None, 4096)
    start_router(CODE)
    (Path.home() / ".config" / "gpumod" / "config.yaml").write_text("guard_allow: [download]\n")
    start_guard()
    name = f"{Hub.repo}:Q4_K_M"
    gpu().config(processes=[{"pid": 1, "mib": 23900}])
    # It may not come with a load behind it, whatever it is asked for.
    asked = ask("POST", "/models?autoload=true", {"model": name, "autoload": True})
    assert (asked.status, asked.json) == (200, {"success": True})

    def state() -> str | None:
        found = {one["id"]: one["status"]["value"] for one in ask("GET", "/models").json["data"]}
        return found.get(name)

    wait_until(lambda: state() == "unloaded", 60, what="it is there")
    assert not children(CODE)
    refused = ask("POST", "/v1/chat/completions", chat(name))
    assert (refused.status, refused.json["error"]["type"]) == (503, "insufficient_vram")
    assert ask("POST", "/models/load", {"model": name}).status == 503
    assert not children(CODE)
    gpu().config(processes=[])
    unknown = ask("POST", "/models/load", {"model": name})
    assert (unknown.status, "its file is not found" in unknown.json["error"]["message"]) == (503, True), unknown.body
    router_preset(CODE, name, 4096)
    gpu().config(processes=[{"pid": 1, "mib": 23900}])
    assert "needs 4096 MiB" in ask("POST", "/models/load", {"model": name}).json["error"]["message"]
    gpu().config(processes=[])
    assert ask("POST", "/v1/chat/completions", chat(name)).status == 200
    assert set(children(CODE)) == {name}
    hub.shutdown()


def test_an_alias_is_the_model(tmp_path: Path) -> None:
    copy_models(["tiny-a"], tmp_path)
    (tmp_path / "presets.ini").write_text(
        f"[tiny]\nmodel = {tmp_path}/tiny-a.gguf\nalias = small,little\nctx-size = 512\n"
    )
    router_preset(CODE, "tiny", 2048, models_dir=str(tmp_path))
    start_router(CODE, f"--models-preset {tmp_path}/presets.ini", models=tmp_path)
    start_guard()
    assert ask("POST", "/v1/chat/completions", chat("little")).status == 200
    assert statuses(CODE)["tiny"] == "loaded"
    assert [entry["model"] for entry in settled(CODE)] == ["tiny"]
    assert ask("POST", "/models/load", {"model": "small"}).status == 400
    assert ask("POST", "/models/unload", {"model": "small"}).status == 200


def test_two_requests_in_one_piece_are_two_decisions() -> None:
    start_router(CODE)
    start_guard()
    ask("GET", "/health")
    one = json.dumps({"model": GLM}).encode()
    head = b"POST /models/%s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n%s\r\n"
    with socket.create_connection(("127.0.0.1", PORT), 30) as client:
        client.sendall(
            head % (b"load", len(one), b"") + one + head % (b"load", len(one), b"Connection: close\r\n") + one
        )
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"200", b"400"]
    assert b"already running" in answer


def test_a_full_router_is_full_for_two_who_ask_at_once(tmp_path: Path) -> None:
    copy_models(["tiny-a", "tiny-b"], tmp_path)
    router_preset(CODE, "tiny-a", 2048, models_dir=str(tmp_path))
    start_router(CODE, models=tmp_path, models_max=1)
    start_guard()
    ask("GET", "/health")
    for _ in range(8):
        with ThreadPoolExecutor(2) as pool:
            loads = [pool.submit(ask, "POST", "/models/load", {"model": one}) for one in ("tiny-a", "tiny-b")]
            answers = sorted((load.result() for load in loads), key=lambda answer: answer.status)
        assert [answer.status for answer in answers] == [200, 503]
        assert answers[1].json["error"]["type"] == "model_limit", answers[1]
        wait_until(lambda: "loaded" in statuses(CODE).values())
        for model in ("tiny-a", "tiny-b"):
            ask("POST", "/models/unload", {"model": model})
        wait_until(lambda: {*statuses(CODE).values()} == {"unloaded"})


def test_a_failed_load_leaves_no_promise(tmp_path: Path) -> None:
    copy_models(["broken"], tmp_path)
    (tmp_path / "broken.gguf").write_bytes((tmp_path / "broken.gguf").read_bytes()[:4096])
    router_preset(CODE, "broken", 4096)
    start_router(CODE, models=tmp_path)
    start_guard()
    answer = ask("POST", "/v1/chat/completions", chat("broken"))
    assert (answer.status, answer.json["error"]["type"]) == (500, "load_failed")
    wait_until(lambda: not settled(CODE), what="the commitment is withdrawn")


def test_a_load_that_hangs_is_ended_before_it_is_given_up() -> None:
    preset(
        CODE,
        f"id: {CODE}\ndriver: llamacpp\nport: {PORT}\nvram_mb: 20480\ndefault_model: {GLM}\nstartup_timeout: 2\n",
    )
    gpu().config(**rules(600.0))
    start_router(CODE)
    start_guard()
    began = time.monotonic()
    answer = ask("POST", "/v1/chat/completions", chat(GLM))
    assert (answer.status, answer.json["error"]["type"]) == (504, "load_timeout")
    assert time.monotonic() - began < 60, "the load goes on for 600 s"
    wait_until(lambda: not children(CODE) and not settled(CODE))


@pytest.mark.parametrize("dies", ["guard", "router"])
def test_a_death_between_admission_and_load_leaks_nothing(dies: str) -> None:
    start_router(CODE)
    start_router(NEMO)
    start_guard()
    ask("GET", "/health")
    router = int(unit_properties("glm-code.service", "MainPID")["MainPID"])
    os.kill(router, signal.SIGSTOP)
    threading.Thread(target=ask, args=("POST", "/models/load", {"model": GLM}), daemon=True).start()
    wait_until(lambda: settled(CODE), what="it is admitted")
    wait_delivered(CODE, guard_pid())
    assert ask("POST", "/models/load", {"model": NEMOTRON}).status == 503 if dies == "router" else True
    os.kill(guard_pid() if dies == "guard" else router, signal.SIGKILL)
    if dies == "guard":
        wait_until(lambda: guard_pid() == 0)
        # Its request is in the router's socket already, and the router will serve it.
        os.kill(router, signal.SIGCONT)
        wait_until(lambda: statuses(CODE)[GLM] == "loaded")
        assert ask("POST", "/models/load", {"model": NEMOTRON}).status == 503
        (entry,) = settled(CODE)
        assert entry["process"]["pid"] == children(CODE)[GLM]
    else:
        wait_until(lambda: not settled(CODE), what="the commitment is withdrawn")
        wait_until(lambda: ask("POST", "/models/load", {"model": NEMOTRON}).status == 200)


@pytest.mark.parametrize("then", ["router goes on", "router is killed"])
def test_a_load_whose_guard_was_killed_is_promised_for_as_long_as_its_router_hangs(then: str) -> None:
    start_router(CODE)
    start_router(NEMO)
    start_guard()
    ask("GET", "/health")
    router = int(unit_properties("glm-code.service", "MainPID")["MainPID"])
    os.kill(router, signal.SIGSTOP)
    threading.Thread(target=ask, args=("POST", "/models/load", {"model": GLM}), daemon=True).start()
    wait_until(lambda: settled(CODE), what="it is admitted")
    wait_delivered(CODE, guard_pid())
    os.kill(guard_pid(), signal.SIGKILL)
    wait_until(lambda: guard_pid() == 0)
    end = time.monotonic() + 2 * ORPHAN_S
    while time.monotonic() < end:
        verdict = real_host().admission.admit("nemotron-3-nano.service", NEMOTRON)
        assert isinstance(verdict, Refused)
        assert not verdict.may_pass
        time.sleep(0.5)
    if then == "router goes on":
        os.kill(router, signal.SIGCONT)
        wait_until(lambda: statuses(CODE)[GLM] == "loaded")
        assert ask("POST", "/models/load", {"model": NEMOTRON}).status == 503
        assert [entry["process"]["pid"] for entry in settled(CODE)] == [children(CODE)[GLM]]
    else:
        os.kill(router, signal.SIGKILL)
        wait_until(lambda: ask("POST", "/models/load", {"model": NEMOTRON}).status == 200)
        assert not settled(CODE)


@pytest.mark.bed
def test_a_load_that_its_router_does_not_answer_is_promised_until_it_does() -> None:
    start_router(CODE)
    start_router(NEMO)
    start_guard()
    ask("GET", "/health")
    router = int(unit_properties("glm-code.service", "MainPID")["MainPID"])
    os.kill(router, signal.SIGSTOP)
    assert ask("POST", "/models/load", {"model": GLM}).status == 502
    time.sleep(3)
    assert settled(CODE)
    assert ask("POST", "/models/load", {"model": NEMOTRON}).status == 503
    os.kill(router, signal.SIGCONT)
    wait_until(lambda: statuses(CODE)[GLM] == "loaded")
    wait_until(lambda: settled(CODE)[0]["process"], what="it is the model's")
    ask("POST", "/models/unload", {"model": GLM})
    wait_until(lambda: not children(CODE))
    wait_until(lambda: ask("POST", "/models/load", {"model": NEMOTRON}).status == 200)
    assert not settled(CODE)


def test_the_guards_end_and_a_lost_ledger_forget_nothing() -> None:
    start_router(CODE)
    start_router(NEMO)
    start_guard()
    assert ask("POST", "/v1/chat/completions", chat(GLM)).status == 200
    os.kill(guard_pid(), signal.SIGKILL)
    wait_until(lambda: guard_pid() == 0)
    (Path(os.environ["XDG_RUNTIME_DIR"]) / "gpumod" / "ledger.json").write_text("{")
    assert ask("GET", "/health").status == 200
    assert any("damaged" in line for line in journal(GUARD))
    assert settled(CODE)[0]["needs"] == {"0": 20480 * 1024**2}
    assert ask("POST", "/models/load", {"model": NEMOTRON}).status == 503


def test_a_router_that_comes_and_goes_is_known_at_once() -> None:
    start_guard()
    gone = ask("POST", "/models/load", {"model": GLM})
    assert gone.status == 502
    assert ask("GET", "/models").json == {"data": [], "object": "list"}
    for _ in range(3):
        start_router(CODE)
        assert ask("POST", "/v1/chat/completions", chat(GLM)).status == 200
        systemctl("stop", "glm-code.service")
        assert ask("POST", "/v1/chat/completions", chat(GLM)).status == 502
        wait_until(lambda: gpu().used_mib() < 100)


# --- streams


def test_tokens_come_one_by_one() -> None:
    """What was generated so far is there while the server stands still in the middle of its answer."""
    start_router(CODE, "--ctx-size", "4096")
    start_guard()
    assert ask("POST", "/v1/chat/completions", chat(GLM)).status == 200
    child = children(CODE)[GLM]

    def stopped_in_the_middle() -> tuple[socket.socket, bytes] | None:
        client = stream(GLM, 2500)
        said = client.recv(65536)
        while b"data: " not in said:
            said += client.recv(65536)
        os.kill(child, signal.SIGSTOP)
        client.settimeout(1.0)
        with contextlib.suppress(TimeoutError):
            while b"[DONE]" not in said:
                said += client.recv(65536)
        if b"[DONE]" not in said:
            return client, said
        # A busy machine let it come to its end before it was stopped.
        os.kill(child, signal.SIGCONT)
        client.close()
        return None

    found = wait_until(stopped_in_the_middle, what="the server is stopped while it answers")
    assert found is not None
    client, said = found
    assert b"Transfer-Encoding: chunked" in said
    os.kill(child, signal.SIGCONT)
    client.settimeout(60)
    while b"[DONE]" not in said:
        said += client.recv(65536)
    assert said.count(b"data: ") >= 2500


def test_a_client_that_goes_ends_the_work() -> None:
    start_router(CODE, "--ctx-size", "4096", "--parallel", "1")
    start_guard()
    assert ask("POST", "/v1/chat/completions", chat(GLM)).status == 200
    for number in range(1, 4):
        client = stream(GLM, 4000)
        client.recv(1000)
        wait_until(lambda: busy(CODE, GLM))
        client.close()
        wait_until(lambda: not busy(CODE, GLM))
        wait_until(lambda: len(in_log(r"cancel task, id_task = (\d+)")) == number, what="it was given up")  # noqa: B023
        assert in_log(r"stop processing: n_tokens = (\d+)")[-1] < 4000


def test_a_stream_is_finished_when_the_guard_is_told_to_end() -> None:
    start_router(CODE, "--ctx-size", "4096")
    start_guard()
    assert ask("POST", "/v1/chat/completions", chat(GLM)).status == 200
    events = socket.create_connection(("127.0.0.1", PORT), 30)
    events.sendall(b"GET /models/sse HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert b"200 OK" in events.recv(4096)
    client = stream(GLM, 2500)
    client.recv(100)
    before = guard_pid()
    os.kill(before, signal.SIGTERM)
    said = b""
    while b"[DONE]" not in said and (data := client.recv(65536)):
        said += data
    assert b"[DONE]" in said
    wait_until(lambda: guard_pid() != before)
    assert ask("GET", "/health").status == 200
    assert guard_pid() not in (0, before)
    assert events.recv(65536).endswith(b"0\r\n\r\n") or events.recv(65536) in (b"", b"0\r\n\r\n")


def test_events_of_all_routers_are_told_on() -> None:
    start_router(CODE)
    start_guard()
    client = socket.create_connection(("127.0.0.1", PORT), 30)
    client.sendall(b"GET /models/sse HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert b"text/event-stream" in client.recv(4096)
    ask("POST", "/models/load", {"model": GLM})
    said = b""
    while b'"loaded"' not in said:
        said += client.recv(65536)
    assert f'"model":"{GLM}"'.encode() in said.replace(b": ", b":")
    client.close()


# --- servers that sleep


def test_a_server_that_sleeps_is_woken_only_where_it_fits() -> None:
    preset(
        "sleeper",
        "id: sleeper\ndriver: vllm\nport: 8300\nmodel_id: org/sleeper\nvram_mb: 8000\nunit_vars:\n"
        "  gpu_mem_util: 0.3\n  enable_sleep_mode: true\n  enforce_eager: true\n",
    )
    install_unit(
        "sleeper.service",
        f"""[Service]
Type=exec
Slice=gpumod.slice
Environment=VLLM_SERVER_DEV_MODE=1 PATH={os.environ["PATH"]} LD_LIBRARY_PATH={os.environ.get("LD_LIBRARY_PATH", "")}
Environment=GPUMOD_BED_RUN={os.environ["GPUMOD_BED_RUN"]}
ExecStartPre=/bin/rm -f %t/gpumod/sleeper.sock
ExecStart=/usr/bin/env vllm serve org/sleeper --gpu-memory-utilization 0.3 --enable-sleep-mode \\
  --uds %t/gpumod/sleeper.sock
SuccessExitStatus=143
""",
    )
    start_router(CODE)
    start_guard(ports=(PORT, 8300))
    systemctl("start", "sleeper.service")

    def talk(method: str, path: str, body: object = None) -> Reply:
        return ask(method, path, body, port=8300)

    wait_until(lambda: talk("GET", "/health").status == 200)
    assert talk("POST", "/v1/chat/completions", chat("org/sleeper")).status == 200
    assert talk("POST", "/collective_rpc", {"method": "wake_up"}).status == 403
    assert talk("POST", "/sleep?level=9").status == 400
    assert talk("POST", "/sleep?level=1").status == 200
    assert talk("GET", "/is_sleeping").json == {"is_sleeping": True}
    wait_until(lambda: gpu().used_mib() < 2000)
    assert talk("POST", "/v1/chat/completions", chat("org/sleeper")).status == 200
    assert talk("GET", "/is_sleeping").json == {"is_sleeping": False}
    assert talk("POST", "/sleep").status == 200
    wait_until(lambda: gpu().used_mib() < 2000)
    gpu().config(processes=[{"pid": 1, "mib": 20000}])
    for path, body in (("/wake_up", None), ("/v1/chat/completions", chat("org/sleeper"))):
        refused = talk("POST", path, body)
        assert (refused.status, refused.json["error"]["type"]) == (503, "insufficient_vram")
    assert talk("GET", "/is_sleeping").json == {"is_sleeping": True}
    gpu().config(processes=[])
    assert talk("POST", "/wake_up").status == 200
    assert talk("GET", "/is_sleeping").json == {"is_sleeping": False}
