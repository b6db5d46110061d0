"""NVML: what each GPU has, and who holds it."""

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any, Final

from gpumod_tui.adapters.nvml import faults as faults
from gpumod_tui.adapters.nvml.events import XidWatch
from gpumod_tui.adapters.nvml.timeout import OverdueError, Patience
from gpumod_tui.adapters.proc.processes import host_memory
from gpumod_tui.core.errors import GpuUnavailable
from gpumod_tui.core.models import GpuProcess, GpuReading, GpuSample, Xid

_SLOW_FIELDS_S: Final = 0.25
"""How old power, temperature, utilisation and clock reasons may be: tight loops ask for memory alone."""
_RARE_FIELDS_S: Final = 10.0
"""How old counts of ECC errors may be."""
_UNCORRECTED, _SINCE_DRIVER_LOAD = 1, 0
_BACKOFF_S: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
_MIG_INDEX: Final = 100
"""MIG instance i of GPU n has index 100·(n+1)+i: no GPU's own index moves when MIG is switched on elsewhere."""
_PROCESS_LISTS: Final = ("nvmlDeviceGetComputeRunningProcesses", "nvmlDeviceGetGraphicsRunningProcesses")
_LIST_TRIES: Final = 3
"""Of a process list that grew while it was fetched."""
LIMIT_S: Final = 5.0
"""A read takes well under a millisecond, the first one with its start of NVML up to two seconds."""


class _GpuFault(Exception):
    """One GPU cannot be used; carries the sentence for people."""


@dataclass(slots=True)
class _Device:
    index: int
    handle: Any
    base: GpuSample
    parent: Any = None
    """A MIG instance's GPU, which reports errors for it; None: it is a GPU itself."""
    looks: int = 0
    slow_at: float = float("-inf")
    slow: dict[str, Any] = field(default_factory=dict)
    rare_at: float = float("-inf")
    rare: dict[str, Any] = field(default_factory=dict)

    @property
    def is_mig(self) -> bool:
        return self.parent is not None


class VRAMTracker:
    """The port Gpus over NVML; may be used from several threads.

    `nvml` is a module shaped like pynvml; None: pynvml itself, imported at the first read.
    """

    def __init__(self, nvml: ModuleType | Any | None = None, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._nvml: Any = nvml
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._patience = Patience("gpumod-nvml")
        self._devices: list[_Device] | None = None
        self._driver_version: str | None = None
        self._known: dict[int, GpuSample] = {}
        self._watches: dict[int, XidWatch] = {}
        self._failure: GpuUnavailable | None = None
        self._failures = 0
        self._retry_at = float("-inf")

    def read(self, *, processes: bool) -> GpuReading:
        """All GPUs now, with process lists if asked; processes are read first, free memory after.

        A GPU that fails alone has `error` set. Raises: GpuUnavailable when NVML as a whole cannot be read, or does not
        answer within `LIMIT_S`: a driver that hangs must not hold up whoever wants to stop a server.
        """
        try:
            return self._patience.call(lambda: self._read(processes=processes), LIMIT_S)
        except OverdueError:
            raise GpuUnavailable(
                f"the NVIDIA driver has not answered for {LIMIT_S:g} s",
                hint="dmesg | grep -iE 'nvrm|xid'; a driver that hangs for good needs a reboot",
            ) from None

    def _read(self, *, processes: bool) -> GpuReading:
        with self._lock:
            self._refuse_while_backing_off()
            try:
                devices = self._ready_devices()
                gpus = tuple(self._sample(device, processes) for device in devices)
            except GpuUnavailable as error:
                self._failure = error
                self._back_off()
                self._shut_down()
                raise
            self._failure = None
            if all(gpu.error is None for gpu in gpus):
                self._failures = 0
            return GpuReading(at=time.time(), driver_version=self._driver_version, gpus=gpus)

    def close(self) -> None:
        """Let go of NVML; the next read begins anew."""
        with self._lock:
            self._shut_down()

    def _refuse_while_backing_off(self) -> None:
        """An initialisation may take seconds: what failed a moment ago is not tried at every poll."""
        if self._failure is not None and self._monotonic() < self._retry_at:
            raise GpuUnavailable(str(self._failure), hint=self._failure.hint)

    def _ready_devices(self) -> list[_Device]:
        """The devices, after a new initialisation where one is due. Raises: GpuUnavailable."""
        if self._devices is not None:
            lost = any(device.base.error for device in self._devices)
            if not lost or self._monotonic() < self._retry_at:
                return self._devices
            self._shut_down()
        return self._initialise()

    def _initialise(self) -> list[_Device]:
        if self._nvml is None:
            import pynvml

            self._nvml = pynvml
        try:
            self._nvml.nvmlInit()
        except self._nvml.NVMLError as error:
            raise faults.whole_fault(error.value, str(error)) from error
        self._devices = []
        try:
            self._driver_version = self._ask("nvmlSystemGetDriverVersion")
            count = self._ask("nvmlDeviceGetCount")
        except _GpuFault as fault:
            raise GpuUnavailable(str(fault)) from fault
        if count is None:
            raise GpuUnavailable("NVML does not say how many GPUs there are", hint="`nvidia-smi` should say more")
        self._devices = [device for index in range(count) for device in self._open(index)]
        return self._devices

    def _open(self, index: int) -> list[_Device]:
        """The GPU, or in MIG mode its instances: only they can be used, and only they have memory of their own."""
        try:
            handle = self._ask("nvmlDeviceGetHandleByIndex", index)
            if handle is None:
                raise _GpuFault("the NVIDIA driver gives no access to this GPU")
            parent = self._device(index, handle)
            mode = self._ask("nvmlDeviceGetMigMode", handle)
            if not mode or mode[0] != 1:
                return [parent]
            instances = []
            for number in range(self._ask("nvmlDeviceGetMaxMigDeviceCount", handle) or 0):
                instance = self._ask("nvmlDeviceGetMigDeviceHandleByIndex", handle, number)
                if instance is not None:
                    device = self._device(_MIG_INDEX * (index + 1) + number, instance, parent=handle)
                    device.base = replace(device.base, mig=(index, number))
                    instances.append(device)
        except _GpuFault as fault:
            return [self._broken(_Device(index, None, GpuSample(index=index)), fault)]
        return instances

    def _device(self, index: int, handle: Any, *, parent: Any = None) -> _Device:
        base = GpuSample(
            index=index, uuid=self._ask("nvmlDeviceGetUUID", handle), name=self._ask("nvmlDeviceGetName", handle)
        )
        self._known[index] = base
        return _Device(index, handle, base, parent)

    def _broken(self, device: _Device, fault: _GpuFault) -> _Device:
        """The device as one that only says why it fails; what it was called is remembered."""
        watch = self._watches.get(device.index)
        base = self._known.get(device.index, device.base)
        device.base = replace(base, error=str(fault), xids=watch.xids() if watch else None)
        self._back_off()
        return device

    def _sample(self, device: _Device, with_processes: bool) -> GpuSample:
        if device.base.error is not None:
            return device.base
        try:
            # A process that grows between the two calls must lower `free`, not be counted as free twice.
            processes = self._processes(device.handle) if with_processes else None
            memory = self._memory(device)
            slow = self._slow_fields(device)
            rare = self._rare_fields(device)
        except _GpuFault as fault:
            return self._broken(device, fault).base
        return replace(device.base, processes=processes, **memory, **slow, **rare)

    def _memory(self, device: _Device) -> dict[str, Any]:
        version = getattr(self._nvml, "nvmlMemory_v2", None)
        second = self._ask("nvmlDeviceGetMemoryInfo", device.handle, version) if version is not None else None
        if second is not None:
            used = second.used
            # Drivers disagree on whether v2's `used` holds `reserved`: where the sum says so, take it out.
            if second.free + used + second.reserved - second.total > second.reserved // 2:
                used = max(used - second.reserved, 0)
            return {
                "total_bytes": second.total,
                "free_bytes": second.free,
                "used_bytes": used,
                "reserved_bytes": second.reserved,
            }
        try:
            first = self._call("nvmlDeviceGetMemoryInfo", device.handle)
        except self._nvml.NVMLError as error:
            if error.value == faults.NOT_SUPPORTED and not device.is_mig:
                host = host_memory()
                return {
                    "total_bytes": host.get("MemTotal"),
                    "free_bytes": host.get("MemAvailable"),
                    "unified": True,
                }
            return {}
        # v1's `used` holds what is reserved, and does not say how much that is.
        return {"total_bytes": first.total, "free_bytes": first.free}

    def _processes(self, handle: Any) -> tuple[GpuProcess, ...] | None:
        """None where a list could not be had: a process in it that is not seen would be taken for one that is gone."""
        held: dict[int, int | None] = {}
        told = False
        for name in _PROCESS_LISTS:
            try:
                entries = self._process_list(name, handle)
            except self._nvml.NVMLError:
                return None
            told = told or entries is not None
            for entry in entries or ():
                before = held.get(entry.pid)
                sizes = [size for size in (before, entry.usedGpuMemory) if size is not None]
                held[entry.pid] = max(sizes) if sizes else None
        return tuple(GpuProcess(pid, held[pid]) for pid in sorted(held)) if told else None

    def _process_list(self, name: str, handle: Any) -> list[Any] | None:
        """None: there is no such list on this GPU. Raises: NVMLError, where there is one and it could not be had."""
        # pynvml's unversioned function raises an error of another family where the driver lacks v3.
        version, patience = "_v3", _LIST_TRIES
        while True:
            try:
                return list(self._call(f"{name}{version}", handle))
            except self._nvml.NVMLError as error:
                patience -= 1
                if error.value == faults.FUNCTION_NOT_FOUND and version == "_v3":
                    version = "_v2"
                elif error.value in (faults.FUNCTION_NOT_FOUND, faults.NOT_SUPPORTED):
                    return None
                # More processes came while the list was fetched: ask once more.
                elif error.value != faults.INSUFFICIENT_SIZE or not patience:
                    raise

    def _slow_fields(self, device: _Device) -> dict[str, Any]:
        now = self._monotonic()
        if now - device.slow_at >= _SLOW_FIELDS_S:
            handle = device.handle
            rates = self._ask("nvmlDeviceGetUtilizationRates", handle)
            power = self._ask("nvmlDeviceGetPowerUsage", handle)
            limit = self._ask("nvmlDeviceGetEnforcedPowerLimit", handle)
            reasons = self._first(
                handle, "nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons"
            )
            device.slow = {
                "utilization_percent": None if rates is None else int(rates.gpu),
                "temperature_c": self._first(handle, "nvmlDeviceGetTemperature", "nvmlDeviceGetTemperatureV", 0),
                "power_w": None if power is None else power / 1000,
                "power_limit_w": None if limit is None else limit / 1000,
                "throttle_reasons": None if reasons is None else faults.throttle_words(int(reasons)),
                "xids": self._xids_of(device),
            }
            device.slow_at = now
        return device.slow

    def _rare_fields(self, device: _Device) -> dict[str, Any]:
        now = self._monotonic()
        if now - device.rare_at >= _RARE_FIELDS_S:
            errors = self._ask("nvmlDeviceGetTotalEccErrors", device.handle, _UNCORRECTED, _SINCE_DRIVER_LOAD)
            device.rare = {"ecc_errors": None if errors is None else int(errors)}
            device.rare_at = now
        return device.rare

    def _xids_of(self, device: _Device) -> tuple[Xid, ...] | None:
        """Watched from the second look on: who reads once waits for no event."""
        watch = self._watches.get(device.index)
        if watch is None:
            faults_here = (self._nvml.NVMLError, _GpuFault, GpuUnavailable)
            watch = self._watches[device.index] = XidWatch(self._call, faults_here)
        if device.looks == 1:
            watch.begin(device.parent if device.is_mig else device.handle)
        device.looks += 1
        return watch.xids()

    def _first(self, handle: Any, name: str, other: str, *arguments: Any) -> Any:
        """The value under one name, or where the driver lacks that under its other."""
        value = self._ask(name, handle, *arguments)
        return value if value is not None else self._ask(other, handle, *arguments)

    def _ask(self, name: str, *arguments: Any) -> Any:
        """One NVML value; None: this GPU or driver does not tell it. Raises: _GpuFault, GpuUnavailable."""
        try:
            return self._call(name, *arguments)
        except self._nvml.NVMLError:
            return None

    def _call(self, name: str, *arguments: Any) -> Any:
        """The one place where NVML is called.

        Raises: NVMLError for what only this value lacks, _GpuFault when the GPU is gone, GpuUnavailable when NVML is.
        """
        function = getattr(self._nvml, name, None)
        if function is None:
            raise self._nvml.NVMLError(faults.FUNCTION_NOT_FOUND)
        try:
            return function(*arguments)
        except self._nvml.NVMLError as error:
            if error.value in faults.GPU_FAULTS:
                raise _GpuFault(faults.GPU_FAULTS[error.value]) from error
            if error.value in faults.WHOLE_FAULTS:
                raise faults.whole_fault(error.value, str(error)) from error
            raise

    def _back_off(self) -> None:
        self._retry_at = self._monotonic() + _BACKOFF_S[min(self._failures, len(_BACKOFF_S) - 1)]
        self._failures += 1

    def _shut_down(self) -> None:
        if self._devices is not None:
            for watch in self._watches.values():
                watch.end()
            with contextlib.suppress(self._nvml.NVMLError):
                self._nvml.nvmlShutdown()
        self._devices = None
