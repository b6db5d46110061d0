"""Plays `vllm serve MODEL …`: an API server and a separate engine process that holds the played GPU's memory.

Its memory, its pace and its failures come from the key "vllm" of the bed's GPU configuration (defaults.json).
"""

from __future__ import annotations

import argparse
import ctypes
import json
import logging
import os
import random
import signal
import socket
import socketserver
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pynvml
from player import resolve_gpus

MIB = 1 << 20
TAGS = frozenset({"weights", "kv_cache"})
RUN = Path(os.environ.get("GPUMOD_BED_RUN", "/run/gpumod-bed/gpu"))
log = logging.getLogger("vllm")


def read_config() -> dict[str, Any]:
    return json.loads((RUN / "effective.json").read_text())


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="vllm")
    serve = parser.add_subparsers(dest="command", required=True).add_parser("serve")
    serve.add_argument("model", nargs="?")
    serve.add_argument("--model", dest="model_option")
    serve.add_argument("--host", default="0.0.0.0")
    serve.add_argument("--port", type=int, default=8000)
    serve.add_argument("--uds")
    serve.add_argument("--api-key")
    serve.add_argument("--served-model-name", nargs="*")
    serve.add_argument("--gpu-memory-utilization", type=float)
    serve.add_argument("--tensor-parallel-size", "-tp", type=int, default=1)
    serve.add_argument("--enable-sleep-mode", action="store_true")
    options, _ignored = parser.parse_known_args(argv)
    options.model = options.model or options.model_option
    return options


def rename_process(title: str) -> None:
    """Overwrites the command line that /proc shows, as setproctitle does for the real engine."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, end = int(fields[45]), int(fields[46])
    raw = title.encode()[: end - start - 1]
    ctypes.memmove(start, raw.ljust(end - start, b"\0"), end - start)
    ctypes.CDLL(None).prctl(15, title.encode()[:15], 0, 0, 0)


class Engine:
    """The engine process: it loads, holds memory until it ends, and obeys one-letter orders from the API server."""

    def __init__(self, options: argparse.Namespace, orders: socket.socket) -> None:
        self.options = options
        self.orders = orders
        self.config = read_config()
        self.settings = self.config["vllm"]
        gpus = self.config["gpus"]
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        every = list(range(len(gpus))) if visible is None else resolve_gpus(visible, self.config)
        self.gpus = every[: options.tensor_parallel_size]
        share = options.gpu_memory_utilization or self.settings["default_utilization"]
        self.share_mib = {gpu: share * gpus[gpu]["total_mib"] for gpu in self.gpus}
        given = self.settings["models"].get(options.model)
        self.mib = {gpu: float(given) if given is not None else self.share_mib[gpu] for gpu in self.gpus}

    def hold(self, mib: dict[int, float]) -> None:
        path = RUN / "mem" / str(os.getpid())
        temporary = path.with_name(f".{path.name}")
        temporary.write_text(json.dumps(mib))
        temporary.rename(path)

    def check_room(self) -> str | None:
        if not self.gpus:
            return "No CUDA GPUs are available"
        pynvml.nvmlInit()
        for gpu in self.gpus:
            memory = pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByIndex(gpu))
            free, total, share = memory.free / MIB, memory.total / MIB, self.share_mib[gpu]
            if free < share or self.settings["fail"] == "memory":
                return (
                    f"Free memory on device cuda:{gpu} ({free / 1024:.2f}/{total / 1024:.2f} GiB) on startup is less "
                    f"than desired GPU memory utilization ({share / total:.2f}, {share / 1024:.2f} GiB). Decrease GPU "
                    "memory utilization or reduce GPU memory used by other processes."
                )
        return None

    def load(self) -> None:
        pause = self.settings["startup_s"] / 5
        if failure := self.check_room():
            log.error("EngineCore failed to start.")
            log.error("ValueError: %s", failure)
            os._exit(1)
        log.info("Starting to load model %s...", self.options.model)
        self.hold({gpu: mib * 0.1 for gpu, mib in self.mib.items()})
        time.sleep(pause)
        log.info("Loading weights took %.2f seconds", pause)
        self.hold({gpu: mib * 0.6 for gpu, mib in self.mib.items()})
        time.sleep(pause)
        log.info("Model loading took %.4f GiB and %f seconds", max(self.mib.values()) * 0.6 / 1024, 2 * pause)
        if self.settings["fail"] == "oom":
            log.error("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.")
            log.error("EngineCore failed to start.")
            os._exit(1)
        time.sleep(pause)
        log.info("torch.compile takes %.2f s in total", pause)
        if self.settings["fail"] == "cache":
            log.error("ValueError: No available memory for the cache blocks.")
            log.error("EngineCore failed to start.")
            os._exit(1)
        log.info("Available KV cache memory: %.2f GiB", max(self.mib.values()) * 0.3 / 1024)
        self.hold(self.mib)
        time.sleep(pause)
        log.info("Graph capturing finished in %.0f secs, took 0.10 GiB", pause)
        time.sleep(pause)

    def obey(self) -> None:
        self.load()
        self.orders.sendall(b"r")
        while True:
            order = self.orders.recv(1)
            if not order:
                # The API server is gone without a word: the real engine goes on holding its memory, too.
                signal.pause()
            if order == b"s" and not read_config()["vllm"]["sleep_fails"]:
                self.hold(dict.fromkeys(self.gpus, float(self.settings["sleep_mib"])))
            elif order in (b"h", b"w"):
                time.sleep(read_config()["vllm"]["wake_s"])
                self.hold(self.mib if order == b"w" else {gpu: mib * 0.6 for gpu, mib in self.mib.items()})
            self.orders.sendall(b"k")


class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128


class UnixServer(Server):
    address_family = socket.AF_UNIX


class Api(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    options: argparse.Namespace
    orders: socket.socket
    engine_pid: int
    names: list[str]
    asleep: frozenset[str] = frozenset()
    """Tags of the memory that is not there."""
    emptied = False
    """Level 2 has dropped the weights, and nobody has loaded them again."""
    ordering = threading.Lock()

    def address_string(self) -> str:
        return self.client_address[0] if self.client_address else "unix"

    def log_message(self, line: str, *args: Any) -> None:
        log.info("%s - %s", self.address_string(), line % args)

    def answer(self, body: Any, status: int = 200) -> None:
        raw = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def refuse(self, status: int, message: str) -> None:
        self.answer({"error": {"message": message, "type": "BadRequestError", "code": status}}, status)

    def engine_lives(self) -> bool:
        return not engine_gone.is_set()

    def order(self, path: str, query: dict[str, list[str]]) -> None:
        with self.ordering:
            falls = path == "/sleep"
            asleep = TAGS if falls else Api.asleep - frozenset(query.get("tags", TAGS))
            self.orders.sendall(b"s" if falls else b"h" if asleep else b"w")
            self.orders.recv(1)
            Api.asleep = asleep
            if falls:
                Api.emptied = query.get("level") == ["2"]

    def sleep_routes(self) -> bool:
        return self.options.enable_sleep_mode and os.environ.get("VLLM_SERVER_DEV_MODE") == "1"

    def allowed(self) -> bool:
        key = self.options.api_key or os.environ.get("VLLM_API_KEY")
        if not key or not self.path.startswith("/v1") or self.headers.get("Authorization") == f"Bearer {key}":
            return True
        self.answer({"error": "Unauthorized"}, 401)
        return False

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if not self.allowed():
            return
        if path == "/health":
            self.answer(None, 200 if self.engine_lives() else 503)
        elif path == "/v1/models":
            data = [
                {"id": name, "object": "model", "owned_by": "vllm", "root": self.options.model} for name in self.names
            ]
            self.answer({"object": "list", "data": data})
        elif path == "/version":
            self.answer({"version": "0.0.0+played"})
        elif path == "/is_sleeping" and self.sleep_routes():
            self.answer({"is_sleeping": bool(Api.asleep)})
        else:
            self.answer({"detail": "Not Found"}, 404)

    def do_POST(self) -> None:
        path, _, query = self.path.partition("?")
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if not self.allowed():
            return
        if path in ("/sleep", "/wake_up") and self.sleep_routes():
            self.order(path, parse_qs(query))
            self.answer(None)
            return
        if path == "/collective_rpc" and self.sleep_routes():
            if json.loads(raw)["method"] != "reload_weights" or "weights" in Api.asleep:
                self.refuse(500, "EngineCore encountered an issue.")
                return
            Api.emptied = False
            self.answer({"results": [None]})
            return
        if path not in ("/v1/embeddings", "/v1/chat/completions", "/v1/completions"):
            self.answer({"detail": "Not Found"}, 404)
            return
        try:
            body = json.loads(raw)
        except ValueError:
            self.refuse(400, "Invalid JSON")
            return
        model = body.get("model", self.names[0])
        if model not in self.names:
            self.refuse(404, f"The model `{model}` does not exist.")
        elif not self.engine_lives() or Api.asleep or Api.emptied:
            # The real one answers rubbish where its weights are not there.
            self.refuse(500, "EngineCore encountered an issue.")
        elif path == "/v1/embeddings":
            inputs = body["input"] if isinstance(body["input"], list) else [body["input"]]
            data = [{"object": "embedding", "index": i, "embedding": embed(text)} for i, text in enumerate(inputs)]
            self.answer(
                {"object": "list", "model": model, "data": data, "usage": {"prompt_tokens": 1, "total_tokens": 1}}
            )
        else:
            self.complete(model, chat=path.endswith("chat/completions"))

    def complete(self, model: str, *, chat: bool) -> None:
        text = "Hello from the played vLLM."
        choice: dict[str, Any] = {"index": 0, "finish_reason": "stop"}
        choice |= {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        kind = "chat.completion" if chat else "text_completion"
        usage = {"prompt_tokens": 1, "completion_tokens": 6, "total_tokens": 7}
        answer = {"id": "cmpl-1", "object": kind, "created": int(time.time()), "model": model, "choices": [choice]}
        self.answer(answer | {"usage": usage})


def embed(text: Any) -> list[float]:
    source = random.Random(str(text))
    return [round(source.uniform(-1, 1), 6) for _ in range(2048)]


engine_gone = threading.Event()
ending = threading.Event()


def watch_engine(pid: int) -> None:
    try:
        _, status = os.waitpid(pid, 0)
    except ChildProcessError:
        return
    engine_gone.set()
    # A stop of the whole cgroup reaches both at once, in any order.
    if ending.wait(0.3):
        return
    log.error("Engine core proc EngineCore_0 died unexpectedly (status %s), shutting down client.", status)


def wait_for_engine(pid: int, orders: socket.socket) -> None:
    """Until it has loaded; ends this process as the real API server does when the engine could not start."""
    if orders.recv(1) != b"r":
        os.waitpid(pid, 0)
        log.error("RuntimeError: Engine core initialization failed. See root cause above.")
        os._exit(1)


def main() -> None:
    options = parse(sys.argv[1:])
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format=f"(%(processName)s pid={os.getpid()}) %(levelname)s %(asctime)s [played] %(message)s",
        datefmt="%m-%d %H:%M:%S",
    )
    log.info("vLLM API server version 0.0.0+played, model %s", options.model)
    ours, theirs = socket.socketpair()
    engine = os.fork()
    if engine == 0:
        ours.close()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        rename_process("VLLM::EngineCore")
        Engine(options, theirs).obey()
    theirs.close()

    def end(number: int, _frame: Any) -> None:
        ending.set()
        log.info("Shutting down")
        try:
            os.kill(engine, signal.SIGTERM)
            os.waitpid(engine, 0)
        except (ProcessLookupError, ChildProcessError):
            pass
        os._exit(128 + number)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    wait_for_engine(engine, ours)
    Api.options, Api.orders, Api.engine_pid = options, ours, engine
    Api.names = options.served_model_name or [options.model]
    try:
        server = UnixServer(options.uds, Api) if options.uds else Server((options.host, options.port), Api)
    except OSError:
        log.exception("the API server cannot listen")
        os.kill(engine, signal.SIGKILL)
        sys.exit(1)
    threading.Thread(target=watch_engine, args=(engine,), daemon=True).start()
    log.info("Starting vLLM API server on %s", options.uds or f"http://{options.host}:{options.port}")
    log.info("Application startup complete.")
    server.serve_forever()


if __name__ == "__main__":
    main()
