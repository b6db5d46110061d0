"""Plays nvidia-smi: the table, -L, and --query-gpu=… --format=csv[,noheader][,nounits], through the played NVML."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

import pynvml as n

MIB = 1 << 20


def memory(handle: Any) -> Any:
    return n.nvmlDeviceGetMemoryInfo(handle, version=n.nvmlMemory_v2)


def mib(value: int) -> tuple[str, str]:
    return str(round(value / MIB)), "MiB"


FIELDS: dict[str, Callable[[Any], tuple[str, str]]] = {
    "index": lambda h: (str(n.nvmlDeviceGetIndex(h)), ""),
    "name": lambda h: (n.nvmlDeviceGetName(h), ""),
    "uuid": lambda h: (n.nvmlDeviceGetUUID(h), ""),
    "pci.bus_id": lambda h: (n.nvmlDeviceGetPciInfo(h).busId, ""),
    "driver_version": lambda h: (n.nvmlSystemGetDriverVersion(), ""),
    "memory.total": lambda h: mib(memory(h).total),
    "memory.used": lambda h: mib(memory(h).used),
    "memory.free": lambda h: mib(memory(h).free),
    "memory.reserved": lambda h: mib(memory(h).reserved),
    "utilization.gpu": lambda h: (str(n.nvmlDeviceGetUtilizationRates(h).gpu), "%"),
    "utilization.memory": lambda h: (str(n.nvmlDeviceGetUtilizationRates(h).memory), "%"),
    "temperature.gpu": lambda h: (str(n.nvmlDeviceGetTemperature(h, 0)), ""),
    "power.draw": lambda h: (f"{n.nvmlDeviceGetPowerUsage(h) / 1000:.2f}", "W"),
    "power.limit": lambda h: (f"{n.nvmlDeviceGetEnforcedPowerLimit(h) / 1000:.2f}", "W"),
    "fan.speed": lambda h: (str(n.nvmlDeviceGetFanSpeed(h)), "%"),
}
LOST = {n.NVML_ERROR_GPU_IS_LOST: "GPU is lost", n.NVML_ERROR_RESET_REQUIRED: "GPU requires reset"}


def ask(field: str, handle: Any, units: bool) -> str:
    try:
        value, unit = FIELDS[field](handle)
    except n.NVMLError as error:
        return f"[{LOST.get(error.value, 'N/A')}]"
    return f"{value} {unit}" if units and unit else value


def every_handle() -> list[Any]:
    return [n.nvmlDeviceGetHandleByIndex(i) for i in range(n.nvmlDeviceGetCount())]


def holders(handle: Any) -> dict[int, int | None]:
    found: dict[int, int | None] = {}
    for getter in (n.nvmlDeviceGetGraphicsRunningProcesses, n.nvmlDeviceGetComputeRunningProcesses):
        for process in getter(handle):
            found[process.pid] = process.usedGpuMemory
    return found


def process_name(pid: int) -> str:
    try:
        return n.nvmlSystemGetProcessName(pid)
    except n.NVMLError:
        return "[Not Found]"


def query(fields: list[str], style: list[str]) -> None:
    for field in fields:
        if field not in FIELDS:
            sys.exit(f'Field "{field}" is not a valid field to query.')
    units = "nounits" not in style
    if "noheader" not in style:
        print(", ".join(fields))
    for handle in every_handle():
        print(", ".join(ask(field, handle, units) for field in fields))


def query_apps(fields: list[str], style: list[str]) -> None:
    if "noheader" not in style:
        print(", ".join(fields))
    unit = "" if "nounits" in style else " MiB"
    for handle in every_handle():
        for pid, used in holders(handle).items():
            values = {
                "pid": str(pid),
                "process_name": process_name(pid),
                "used_memory": "[N/A]" if used is None else f"{used // MIB}{unit}",
                "used_gpu_memory": "[N/A]" if used is None else f"{used // MIB}{unit}",
                "gpu_uuid": n.nvmlDeviceGetUUID(handle),
            }
            print(", ".join(values[field] for field in fields))


def table() -> None:
    version = n.nvmlSystemGetDriverVersion()
    cuda = n.nvmlSystemGetCudaDriverVersion()
    line = "+" + "-" * 89 + "+"
    print(time.strftime("%a %b %e %H:%M:%S %Y"))
    print(line)
    head = f"NVIDIA-SMI {version:<22} Driver Version: {version:<14} CUDA Version: {cuda // 1000}.{cuda % 1000 // 10}"
    print(f"| {head:<87} |")
    print(line)
    for handle in every_handle():
        asked = {f: ask(f, handle, True) for f in FIELDS}
        print(f"| {asked['index']:>3}  {asked['name']:<40} {asked['pci.bus_id']:>41} |")
        load = f"{asked['memory.used'].replace(' ', '')} / {asked['memory.total'].replace(' ', '')}"
        power = f"{asked['power.draw']} / {asked['power.limit']}"
        sensors = f"{asked['fan.speed']:>5} {asked['temperature.gpu']:>4}C {power:>22}"
        print(f"| {sensors} | {load:>25} | {asked['utilization.gpu']:>22} |")
    print(line)
    print(
        f"\n{line}\n| {'Processes:':<87} |\n| {'GPU':>4} {'PID':>9}   {'Process name':<52} {'GPU Memory':>17} |\n{line}"
    )
    for index, handle in enumerate(every_handle()):
        try:
            found = holders(handle)
        except n.NVMLError:
            continue
        for pid, used in found.items():
            amount = "N/A" if used is None else f"{used // MIB}MiB"
            print(f"| {index:>4} {pid:>9}   {process_name(pid)[:52]:<52} {amount:>17} |")
    print(line)


def main() -> int:
    parser = argparse.ArgumentParser(prog="nvidia-smi")
    parser.add_argument("-L", "--list-gpus", action="store_true")
    parser.add_argument("--query-gpu", default="")
    parser.add_argument("--query-compute-apps", default="")
    parser.add_argument("--format", default="csv")
    arguments = parser.parse_args()
    try:
        n.nvmlInit()
    except n.NVMLError as error:
        if error.value == n.NVML_ERROR_LIB_RM_VERSION_MISMATCH:
            print("Failed to initialize NVML: Driver/library version mismatch")
            return 18
        print("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.")
        return 9
    style = arguments.format.split(",")
    try:
        if arguments.list_gpus:
            for index, handle in enumerate(every_handle()):
                print(f"GPU {index}: {n.nvmlDeviceGetName(handle)} (UUID: {n.nvmlDeviceGetUUID(handle)})")
        elif arguments.query_gpu:
            query(arguments.query_gpu.split(","), style)
        elif arguments.query_compute_apps:
            query_apps(arguments.query_compute_apps.split(","), style)
        else:
            table()
    except n.NVMLError as error:
        print(f"Unable to determine the device handle: {error}")
        return error.value
    return 0


if __name__ == "__main__":
    sys.exit(main())
