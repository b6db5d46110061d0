"""`gpumod status` against a script that imports what it needs and asks once. `python -m tests.bench.bench_status`."""

import sys

from tests.bench.measuring import compiled, in_bed, in_turns, least_ratio, seconds_of, told

TARGET = 1.5
LIMIT = 1.75
"""What the suite allows: where system calls are slow, 1.28 to 1.58 were measured."""
IMPORTS = "import click, msgspec, pynvml, jeepney, jeepney.io.blocking, platformdirs, socket, threading, datetime"
"""What status needs beside gpumod: command line, state and presets, NVML, systemd, the user's folders, clock times."""
ASKS = """
pynvml.nvmlInit()
gpu = pynvml.nvmlDeviceGetHandleByIndex(0)
pynvml.nvmlDeviceGetMemoryInfo(gpu)
pynvml.nvmlDeviceGetComputeRunningProcesses(gpu)
name = "org.freedesktop.systemd1"
manager = jeepney.DBusAddress("/org/freedesktop/systemd1", bus_name=name, interface=name + ".Manager")
bus = jeepney.io.blocking.open_dbus_connection("SESSION")
for unit in ("glm-code", "nemotron-3-nano", "devstral-small-2", "vllm-embedding"):
    call = jeepney.new_method_call(manager, "LoadUnit", "s", (unit + ".service",))
    (path,) = bus.send_and_get_reply(call).body
    properties = jeepney.DBusAddress(path, bus_name=name, interface="org.freedesktop.DBus.Properties")
    bus.send_and_get_reply(jeepney.new_method_call(properties, "GetAll", "s", ("",)))
"""
"""And what it must ask: NVML once, and systemd about four units, whose answers take as long as the machine needs."""
PROBING = ", http.client"
"""And where a server runs that is to be asked."""
ASKS_SERVER = """
import os
for path in ("/health", "/models"):
    server = http.client.HTTPConnection("localhost")
    server.sock = socket.socket(socket.AF_UNIX)
    server.sock.connect(os.environ["XDG_RUNTIME_DIR"] + "/gpumod/glm-code.sock")
    server.request("GET", path)
    server.getresponse().read()
"""
"""What it asks a router that runs."""

STATES = {
    "nothing runs": ("blank", IMPORTS + ASKS),
    "mode code, model loaded": ("code", IMPORTS + PROBING + ASKS + ASKS_SERVER),
}
"""What runs on the box: its mode, and what a script imports and asks there."""


def measure(state: str, rounds: int = 25) -> dict[str, list[float]]:
    """Seconds by way. The caches of presets and of byte code are warm."""
    environment = compiled()
    gpumod = [sys.executable, "-m", "gpumod_tui"]
    status = [*gpumod, "status"]
    mode, imports = STATES[state]
    script = [sys.executable, "-c", imports]
    for words in (["template", "install", "--yes"], ["mode", "switch", mode]):
        seconds_of([*gpumod, *words], environment)
    for warm in (status, script):
        seconds_of(warm, environment)
    print(f"\n{state}")
    taken = in_turns(
        {
            "gpumod status": lambda: seconds_of(status, environment),
            "a script that asks": lambda: seconds_of(script, environment),
        },
        rounds,
    )
    ours, theirs = told(taken).values()
    print(f"ratio {ours / theirs:.2f} (target {TARGET}), least against least {least_ratio(taken):.2f}")
    return taken


if __name__ == "__main__":
    in_bed("tests.bench.bench_status")
    for what in STATES:
        measure(what)
