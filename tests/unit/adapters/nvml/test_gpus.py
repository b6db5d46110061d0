"""What NVML tells and what it does not: every field may be missing, none of it may become a zero."""

# The functions are named as NVML names them.
# ruff: noqa: N802, N815

import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from gpumod_tui.adapters.nvml import gpus as nvml
from gpumod_tui.adapters.nvml.faults import throttle_words
from gpumod_tui.adapters.nvml.gpus import VRAMTracker
from gpumod_tui.core.errors import GpuUnavailable
from gpumod_tui.core.models import GpuProcess, GpuSample

GIB = 1024**3


class Fault(Exception):
    def __init__(self, value: int) -> None:
        super().__init__(f"fault {value}")
        self.value = value


class EventSet(list[Any]):
    """The GPUs that were registered."""

    def __hash__(self) -> int:  # type: ignore[override]
        return id(self)


class Nvml:
    """A module shaped like pynvml; `faults` maps a function, or (function, GPU), to an error code."""

    NVMLError = Fault
    nvmlMemory_v2 = 33554472

    def __init__(self, gpus: int = 1) -> None:
        self.gpus = gpus
        self.faults: dict[Any, int] = {}
        self.calls: list[str] = []
        self.compute: list[tuple[int, int | None]] = []
        self.graphics: list[tuple[int, int | None]] = []
        self.used_v2 = 4 * GIB
        self.mig = 0
        self.events: dict[Any, list[int]] = {}
        """Xid errors to come, by the handle that was registered for them."""

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("nvml") or not hasattr(type(self), f"do_{name[4:]}"):
            raise AttributeError(name)

        def call(*arguments: Any) -> Any:
            self.calls.append(name)
            gpu = arguments[0] if arguments else None
            code = self.faults.get(name, self.faults.get((name, gpu), self.faults.get(("*", gpu))))
            if code is not None:
                raise Fault(code)
            return getattr(self, f"do_{name[4:]}")(*arguments)

        return call

    def do_Init(self) -> None: ...
    def do_Shutdown(self) -> None: ...
    def do_SystemGetDriverVersion(self) -> str:
        return "560.35"

    def do_DeviceGetCount(self) -> int:
        return self.gpus

    def do_DeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def do_DeviceGetUUID(self, gpu: Any) -> str:
        return f"GPU-{gpu}"

    def do_DeviceGetName(self, gpu: Any) -> str:
        return "RTX"

    def do_DeviceGetMigMode(self, gpu: int) -> list[int]:
        if not self.mig:
            raise Fault(3)
        return [1, 1]

    def do_DeviceGetMaxMigDeviceCount(self, gpu: int) -> int:
        return 3

    def do_DeviceGetMigDeviceHandleByIndex(self, gpu: int, number: int) -> str:
        if number == 1:
            raise Fault(6)
        return f"mig-{gpu}-{number}"

    def do_DeviceGetMemoryInfo(self, gpu: Any, version: int | None = None) -> Any:
        if version is not None:
            if "v2" in self.faults:
                raise Fault(self.faults["v2"])
            return SimpleNamespace(total=24 * GIB, reserved=GIB, free=19 * GIB, used=self.used_v2)
        return SimpleNamespace(total=24 * GIB, free=19 * GIB, used=5 * GIB)

    def do_DeviceGetComputeRunningProcesses_v3(self, gpu: Any) -> list[Any]:
        return [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in self.compute]

    do_DeviceGetComputeRunningProcesses_v2 = do_DeviceGetComputeRunningProcesses_v3

    def do_DeviceGetGraphicsRunningProcesses_v3(self, gpu: Any) -> list[Any]:
        return [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in self.graphics]

    def do_DeviceGetUtilizationRates(self, gpu: Any) -> Any:
        return SimpleNamespace(gpu=42, memory=7)

    def do_DeviceGetTemperature(self, gpu: Any, sensor: int) -> int:
        return 61

    def do_DeviceGetPowerUsage(self, gpu: Any) -> int:
        return 220_500

    def do_DeviceGetEnforcedPowerLimit(self, gpu: Any) -> int:
        return 450_000

    def do_DeviceGetTotalEccErrors(self, gpu: Any, kind: int, counter: int) -> int:
        assert (kind, counter) == (1, 0)
        return 0

    def do_EventSetCreate(self) -> EventSet:
        return EventSet()

    def do_DeviceRegisterEvents(self, gpu: Any, types: int, events: EventSet) -> None:
        assert types == 8
        events.append(gpu)
        self.events.setdefault(gpu, [])

    def do_EventSetWait_v2(self, events: EventSet, timeout_ms: int) -> Any:
        assert timeout_ms == 0
        for gpu in events:
            if self.events[gpu]:
                return SimpleNamespace(eventType=8, eventData=self.events[gpu].pop(0))
        raise Fault(10)

    def do_EventSetFree(self, events: EventSet) -> None:
        events.clear()

    def do_DeviceGetCurrentClocksEventReasons(self, gpu: Any) -> int:
        return 0x4

    def do_DeviceGetCurrentClocksThrottleReasons(self, gpu: Any) -> int:
        return 0x20


class Time:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def one(tracker: VRAMTracker, *, processes: bool = False) -> GpuSample:
    (gpu,) = tracker.read(processes=processes).gpus
    return gpu


def test_all_that_a_gpu_tells() -> None:
    nvml = Nvml()
    reading = VRAMTracker(nvml).read(processes=False)
    assert reading.driver_version == "560.35"
    assert reading.gpus == (
        GpuSample(
            index=0,
            uuid="GPU-0",
            name="RTX",
            total_bytes=24 * GIB,
            free_bytes=19 * GIB,
            used_bytes=4 * GIB,
            reserved_bytes=GIB,
            utilization_percent=42,
            temperature_c=61,
            power_w=220.5,
            power_limit_w=450.0,
            throttle_reasons=("power cap",),
            ecc_errors=0,
        ),
    )


def test_used_never_holds_what_is_reserved() -> None:
    nvml = Nvml()
    nvml.used_v2 = 5 * GIB
    assert one(VRAMTracker(nvml)).used_bytes == 4 * GIB


@pytest.mark.parametrize("code", [3, 13])
def test_memory_falls_back_to_the_first_version(code: int) -> None:
    nvml = Nvml()
    nvml.faults["v2"] = code
    gpu = one(VRAMTracker(nvml))
    assert (gpu.total_bytes, gpu.free_bytes) == (24 * GIB, 19 * GIB)
    assert (gpu.used_bytes, gpu.reserved_bytes, gpu.unified) == (None, None, False)


OPTIONAL = {
    "nvmlDeviceGetUUID": "uuid",
    "nvmlDeviceGetName": "name",
    "nvmlDeviceGetUtilizationRates": "utilization_percent",
    "nvmlDeviceGetTemperature": "temperature_c",
    "nvmlDeviceGetPowerUsage": "power_w",
    "nvmlDeviceGetEnforcedPowerLimit": "power_limit_w",
    "nvmlDeviceGetTotalEccErrors": "ecc_errors",
}


@pytest.mark.parametrize("function", OPTIONAL)
@pytest.mark.parametrize("code", [3, 4, 13, 999])
def test_what_is_not_told_is_unknown_and_takes_nothing_along(function: str, code: int) -> None:
    nvml = Nvml()
    nvml.faults[function] = code
    gpu = one(VRAMTracker(nvml))
    assert getattr(gpu, OPTIONAL[function]) is None
    assert gpu.free_bytes == 19 * GIB
    others = [getattr(gpu, field) for name, field in OPTIONAL.items() if name != function]
    assert None not in others


def test_clock_reasons_have_an_older_name() -> None:
    nvml = Nvml()
    nvml.faults["nvmlDeviceGetCurrentClocksEventReasons"] = 13
    assert one(VRAMTracker(nvml)).throttle_reasons == ("thermal",)
    nvml.faults["nvmlDeviceGetCurrentClocksThrottleReasons"] = 3
    assert one(VRAMTracker(nvml)).throttle_reasons is None


def test_clock_reasons_in_words() -> None:
    assert throttle_words(0x0) == throttle_words(0x1) == ()
    assert throttle_words(0x8) == ("hardware slowdown",)
    assert throttle_words(0x4 | 0x8 | 0x40) == ("power cap", "hardware thermal")
    assert throttle_words(0x10000) == ("unknown 0x10000",)


def test_memory_that_cannot_be_read_is_unknown_not_zero() -> None:
    nvml = Nvml()
    nvml.faults["nvmlDeviceGetMemoryInfo"] = 999
    gpu = one(VRAMTracker(nvml))
    assert (gpu.free_bytes, gpu.total_bytes, gpu.unified, gpu.error) == (None, None, False, None)


def test_a_gpu_without_memory_of_its_own_has_the_hosts() -> None:
    nvml = Nvml()
    nvml.faults["nvmlDeviceGetMemoryInfo"] = 3
    gpu = one(VRAMTracker(nvml))
    assert gpu.unified
    assert gpu.total_bytes is not None
    assert gpu.free_bytes is not None
    assert 0 < gpu.free_bytes <= gpu.total_bytes


def test_processes_are_merged_by_pid() -> None:
    nvml = Nvml()
    nvml.compute = [(30, GIB), (10, None), (20, 5)]
    nvml.graphics = [(20, 7), (10, None), (40, None)]
    assert one(VRAMTracker(nvml), processes=True).processes == (
        GpuProcess(10, None),
        GpuProcess(20, 7),
        GpuProcess(30, GIB),
        GpuProcess(40, None),
    )
    assert one(VRAMTracker(nvml)).processes is None


def test_processes_that_are_not_told_are_unknown_not_none_there() -> None:
    nvml = Nvml()
    nvml.faults["nvmlDeviceGetComputeRunningProcesses_v3"] = 3
    nvml.graphics = [(5, 6)]
    assert one(VRAMTracker(nvml), processes=True).processes == (GpuProcess(5, 6),)
    nvml.faults["nvmlDeviceGetGraphicsRunningProcesses_v3"] = 3
    assert one(VRAMTracker(nvml), processes=True).processes is None
    nvml.faults["nvmlDeviceGetComputeRunningProcesses_v3"] = 999
    nvml.faults.pop("nvmlDeviceGetGraphicsRunningProcesses_v3")
    assert one(VRAMTracker(nvml), processes=True).processes is None, "who is in the list that failed is not nobody"
    nvml.faults["nvmlDeviceGetGraphicsRunningProcesses_v3"] = 3
    nvml.faults["nvmlDeviceGetComputeRunningProcesses_v3"] = 13
    nvml.compute = [(8, 9)]
    assert one(VRAMTracker(nvml), processes=True).processes == (GpuProcess(8, 9),)


def test_processes_are_read_before_free() -> None:
    nvml = Nvml()
    tracker = VRAMTracker(nvml)
    tracker.read(processes=False)
    nvml.calls.clear()
    tracker.read(processes=True)
    order = [name for name in nvml.calls if "Processes" in name or "Memory" in name]
    assert [("Memory" in name) for name in order] == [False, False, True]


def test_a_tight_loop_asks_for_memory_alone() -> None:
    nvml, time = Nvml(), Time()
    tracker = VRAMTracker(nvml, time)
    tracker.read(processes=False)
    nvml.calls.clear()
    for _ in range(20):
        time.now += 0.01
        tracker.read(processes=False)
    assert set(nvml.calls) == {"nvmlDeviceGetMemoryInfo"}
    time.now += 0.1
    tracker.read(processes=False)
    assert "nvmlDeviceGetTemperature" in nvml.calls


@pytest.mark.parametrize(("code", "word"), [(15, "lost"), (16, "reset")])
def test_a_lost_gpu_fails_alone_and_is_tried_again(code: int, word: str) -> None:
    nvml, time = Nvml(gpus=2), Time()
    tracker = VRAMTracker(nvml, time)
    tracker.read(processes=False)
    nvml.faults[("*", 1)] = code
    first, second = tracker.read(processes=True).gpus
    assert first.error is None
    assert first.free_bytes == 19 * GIB
    assert second == GpuSample(index=1, uuid="GPU-1", name="RTX", error=second.error)
    assert word in (second.error or "")
    # It stays lost over a new initialisation, and keeps its name.
    time.now += 60
    assert tracker.read(processes=False).gpus[1] == second
    del nvml.faults[("*", 1)]
    assert tracker.read(processes=False).gpus[1].error is not None
    time.now += 60
    assert tracker.read(processes=False).gpus[1].error is None


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (12, "libnvidia-ml.so.1"),
        (9, "not loaded"),
        (18, "reboot or reload the module"),
        (4, "permission"),
        (13, "too old"),
        (999, "fault 999"),
    ],
)
def test_nvml_that_does_not_begin_says_why(code: int, words: str) -> None:
    nvml = Nvml()
    nvml.faults["nvmlInit"] = code
    with pytest.raises(GpuUnavailable) as caught:
        VRAMTracker(nvml).read(processes=False)
    assert words in f"{caught.value} {caught.value.hint}"
    assert caught.value.hint


@pytest.mark.parametrize("code", [1, 9, 18])
def test_a_driver_that_goes_is_found_again_without_haste(code: int) -> None:
    nvml, time = Nvml(), Time()
    tracker = VRAMTracker(nvml, time)
    tracker.read(processes=False)
    nvml.faults["nvmlDeviceGetMemoryInfo"] = code
    for _ in range(100):
        time.now += 0.1
        with pytest.raises(GpuUnavailable):
            tracker.read(processes=False)
    assert nvml.calls.count("nvmlInit") <= 5
    assert nvml.calls.count("nvmlShutdown") == nvml.calls.count("nvmlInit")
    nvml.faults.clear()
    time.now += 30
    assert one(tracker).free_bytes == 19 * GIB


def test_mig_instances_stand_for_their_gpu() -> None:
    nvml = Nvml(gpus=2)
    nvml.mig = 1
    gpus = VRAMTracker(nvml).read(processes=False).gpus
    assert [gpu.index for gpu in gpus] == [100, 102, 200, 202]
    assert [gpu.uuid for gpu in gpus][:2] == ["GPU-mig-0-0", "GPU-mig-0-2"]
    assert [gpu.mig for gpu in gpus] == [(0, 0), (0, 2), (1, 0), (1, 2)]


def numbers(gpu: GpuSample) -> list[int] | None:
    return None if gpu.xids is None else [xid.number for xid in gpu.xids]


def test_errors_that_the_driver_reports_are_known_from_the_second_look_on() -> None:
    nvml, time_ = Nvml(gpus=2), Time()
    tracker = VRAMTracker(nvml, time_)
    assert [gpu.xids for gpu in tracker.read(processes=False).gpus] == [None, None]
    assert "nvmlEventSetCreate" not in nvml.calls
    time_.now += 1
    assert [gpu.xids for gpu in tracker.read(processes=False).gpus] == [(), ()]
    nvml.events[1] += [31, 79]
    time_.now += 1
    first, second = tracker.read(processes=False).gpus
    assert (numbers(first), numbers(second)) == ([], [31, 79])
    assert abs((second.xids or ())[0].at - time.time()) < 5
    assert numbers(tracker.read(processes=False).gpus[1]) == [31, 79]


@pytest.mark.parametrize("function", ["nvmlEventSetCreate", "nvmlDeviceRegisterEvents"])
@pytest.mark.parametrize("code", [3, 4, 13, 999])
def test_errors_that_cannot_be_watched_are_unknown_and_not_none(function: str, code: int) -> None:
    nvml = Nvml()
    nvml.faults[function] = code
    time_ = Time()
    tracker = VRAMTracker(nvml, time_)
    for _ in range(3):
        time_.now += 1
        gpu = one(tracker)
        assert gpu.xids is None
        assert gpu.free_bytes == 19 * GIB


def test_a_lost_gpu_still_tells_the_error_that_came_before() -> None:
    nvml, time_ = Nvml(), Time()
    tracker = VRAMTracker(nvml, time_)
    one(tracker)
    time_.now += 1
    one(tracker)
    nvml.events[0].append(79)
    nvml.faults["nvmlDeviceGetMemoryInfo", 0] = 15
    gpu = one(tracker)
    assert "lost" in (gpu.error or "")
    assert numbers(gpu) == [79]
    del nvml.faults["nvmlDeviceGetMemoryInfo", 0]
    time_.now += 5
    gpu = one(tracker)
    assert (gpu.error, numbers(gpu)) == (None, [79])


def test_a_mig_instance_reports_the_errors_of_its_gpu() -> None:
    nvml, time_ = Nvml(), Time()
    nvml.mig = 1
    tracker = VRAMTracker(nvml, time_)
    tracker.read(processes=False)
    time_.now += 1
    tracker.read(processes=False)
    assert list(nvml.events) == [0]


def test_ecc_errors_are_counted_seldom() -> None:
    nvml, time_ = Nvml(), Time()
    tracker = VRAMTracker(nvml, time_)
    for _ in range(10):
        assert one(tracker).ecc_errors == 0
        time_.now += 2.0
    assert nvml.calls.count("nvmlDeviceGetTotalEccErrors") == 2


def test_closing_lets_go_and_a_read_begins_anew() -> None:
    nvml = Nvml()
    tracker = VRAMTracker(nvml)
    tracker.close()
    tracker.read(processes=False)
    tracker.close()
    tracker.close()
    assert nvml.calls.count("nvmlShutdown") == 1
    assert one(tracker).free_bytes == 19 * GIB


def test_a_driver_that_hangs_costs_the_limit_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvml, "LIMIT_S", 0.1)
    go_on = threading.Event()

    class Hanging:
        def __getattr__(self, name: str) -> object:
            go_on.wait(60.0)
            raise AttributeError(name)

    tracker = VRAMTracker(Hanging())
    with pytest.raises(GpuUnavailable, match="not answered"):
        tracker.read(processes=False)
    monkeypatch.setattr(nvml, "LIMIT_S", 50.0)
    began = time.monotonic()
    with pytest.raises(GpuUnavailable, match="not answered"):
        tracker.read(processes=False)
    assert time.monotonic() - began < 25.0
    go_on.set()
