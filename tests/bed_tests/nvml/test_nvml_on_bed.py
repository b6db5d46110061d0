"""VRAMTracker over pynvml and a played libnvidia-ml: real calls, real structures, planned faults."""

import os
import statistics
import subprocess
import time
from collections.abc import Iterator

import pytest

from gpumod_tui.adapters.nvml.gpus import VRAMTracker
from gpumod_tui.core.errors import GpuUnavailable
from gpumod_tui.core.models import GpuProcess, GpuSample
from tests.bed.host import gpu, run, wait_until

pytestmark = pytest.mark.bed

MIB = 1024**2


@pytest.fixture
def tracker() -> Iterator[VRAMTracker]:
    tracker = VRAMTracker()
    yield tracker
    tracker.close()


@pytest.fixture
def sleeper() -> Iterator[int]:
    process = subprocess.Popen(["sleep", "1000"])
    yield process.pid
    process.kill()
    process.wait()


def first(tracker: VRAMTracker, *, processes: bool = False) -> GpuSample:
    return tracker.read(processes=processes).gpus[0]


def fault(function: str, code: int, number: int = -1) -> dict[str, object]:
    return {"function": function, "gpu": number, "code": code}


def test_a_gpu_as_nvidia_smi_shows_it(tracker: VRAMTracker) -> None:
    sample = first(tracker, processes=True)
    fields = "name,uuid,memory.total,memory.free,memory.used,memory.reserved,temperature.gpu"
    shown = run("nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits", check=True).stdout
    name, uuid, *numbers = [part.strip() for part in shown.split(",")]
    assert (sample.name, sample.uuid) == (name, uuid)
    sizes = (sample.total_bytes, sample.free_bytes, sample.used_bytes, sample.reserved_bytes)
    assert [round((size or 0) / MIB) for size in sizes] == [int(number) for number in numbers[:4]]
    assert sample.temperature_c == int(numbers[4])
    assert (sample.processes, sample.throttle_reasons, sample.unified, sample.error) == ((), (), False, None)
    assert tracker.read(processes=False).driver_version


def test_a_process_is_seen_and_its_memory_comes_back_late(tracker: VRAMTracker, sleeper: int) -> None:
    before = first(tracker).free_bytes or 0
    gpu().declare(sleeper, {0: 1000})
    wait_until(lambda: first(tracker, processes=True).processes == (GpuProcess(sleeper, 1000 * MIB),))
    assert first(tracker).free_bytes == before - 1000 * MIB
    os.kill(sleeper, 9)
    died = time.monotonic()
    wait_until(lambda: first(tracker).free_bytes == before, interval_s=0.005)
    assert time.monotonic() - died > 0.5


def test_processes_without_sizes(tracker: VRAMTracker, sleeper: int) -> None:
    gpu().config(process_memory=False)
    gpu().declare(sleeper, {0: 500})
    wait_until(lambda: first(tracker, processes=True).processes == (GpuProcess(sleeper, None),))


def test_faults_of_one_value_one_gpu_and_all(tracker: VRAMTracker) -> None:
    gpu().config(faults=[fault("DeviceGetTemperature", 3), fault("DeviceGetMemoryInfo_v2", 13)])
    tracker.close()
    sample = first(tracker)
    assert sample.error is None
    gpu().config(faults=[fault("DeviceGetMemoryInfo", 3)])
    assert first(tracker).unified
    gpu().config(faults=[fault("*", 15, 0)])
    assert "lost" in (first(tracker).error or "")
    gpu().config(faults=[])
    wait_until(lambda: first(tracker).error is None)


def test_a_driver_update_is_named_and_outlived(tracker: VRAMTracker) -> None:
    first(tracker)
    gpu().config(faults=[fault("*", 18), fault("Init", 18)])
    with pytest.raises(GpuUnavailable) as caught:
        first(tracker)
    assert "reboot or reload the module" in caught.value.hint
    gpu().config(faults=[])

    def back() -> bool:
        try:
            return first(tracker).free_bytes is not None
        except GpuUnavailable:
            return False

    wait_until(back)


def test_an_xid_error_is_told_and_kept(tracker: VRAMTracker) -> None:
    wait_until(lambda: first(tracker).xids == ())
    gpu().config(event={"data": 31})
    wait_until(lambda: [xid.number for xid in first(tracker).xids or ()] == [31])
    tracker.close()
    assert [xid.number for xid in first(tracker).xids or ()] == [31]
    assert first(tracker).ecc_errors is None


def test_a_tight_loop_costs_little(tracker: VRAMTracker) -> None:
    first(tracker)
    spent = {}
    for processes in (False, True):
        times = []
        for _ in range(300):
            began = time.perf_counter()
            tracker.read(processes=processes)
            times.append(time.perf_counter() - began)
        spent[processes] = statistics.median(times)
    print(f"read {spent[False] * 1e6:.0f} µs, with processes {spent[True] * 1e6:.0f} µs")
    assert spent[False] < 0.005


def test_without_the_library_there_is_no_gpu() -> None:
    script = (
        "from gpumod_tui.adapters.nvml.gpus import VRAMTracker\n"
        "from gpumod_tui.core.errors import GpuUnavailable\n"
        "try: VRAMTracker().read(processes=False)\n"
        "except GpuUnavailable as error: print(error, error.hint)\n"
    )
    done = run("python", "-c", script, env={"LD_LIBRARY_PATH": "/nonexistent"}, check=True)
    assert "libnvidia-ml.so.1 was not found" in done.stdout
    assert "gpumod demo" in done.stdout
