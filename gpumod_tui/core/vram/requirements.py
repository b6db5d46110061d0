"""The VRAM need of units and of models: what is declared, what was measured, and an estimate where there is neither."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from gpumod_tui.core.errors import ModelFileInvalid
from gpumod_tui.core.models import DriverKind, GpuReading, Service
from gpumod_tui.core.servers.memory_settings import memory_settings
from gpumod_tui.core.text import format_mib, mib
from gpumod_tui.core.units.managed import service_id
from gpumod_tui.core.vram.drift import of_process
from gpumod_tui.core.vram.estimate.options import LoadSettings, settings_of
from gpumod_tui.core.vram.need import FILE_FACTOR, Need, UnknownNeed, gpu_indices, undeclared, vllm_basis, vllm_shares
from gpumod_tui.core.vram.peaks import PeakKey, digest, gpu_names, subject_of_model, subject_of_unit

if TYPE_CHECKING:
    from gpumod_tui.core.admission.inventory import Look
    from gpumod_tui.core.host import Host
    from gpumod_tui.core.models import GpuReading
    from gpumod_tui.core.ports import ModelFiles, Peaks, Programs
    from gpumod_tui.core.vram.estimate.model_file import ModelFile


ROUTER_BYTES: Final = 0
"""VRAM of a router's own process on each GPU, its models apart.

llama-server without a model counts the devices and reads their properties, neither of which makes a CUDA context
(server.cpp passes print_devices=false, ggml_cuda_init sets no device). Builds with a regression (b8248 of March 2026,
b8738, b9159) make one of 110 to 560 MiB on each GPU: it is seen in the unit's peak and counts from then on, and a
model's load is admitted on what is free beside it.
"""
_NONE: Final = Need({}, "declared: no GPU memory")


class VramRequirements:
    """Bytes by GPU that something takes at its highest: max(declared or estimated, highest ever measured)."""

    def __init__(self, files: ModelFiles, peaks: Peaks, programs: Programs) -> None:
        self._files = files
        self._peaks = peaks
        self._programs = programs

    def unit_need(self, service: Service, reading: GpuReading | None) -> Need | UnknownNeed:
        """What the unit's own processes take; of a router the router's process alone.

        `reading` None: NVML cannot be read, and only a service that declares no VRAM has a known need.
        """
        key = self.unit_key(service, reading)
        if service.vram_bytes == 0:
            return self._with_peak(_NONE, key, service)
        indices = _indices(service, reading)
        if isinstance(indices, UnknownNeed):
            return indices
        if service.is_router:
            return self._with_peak(Need(dict.fromkeys(indices, ROUTER_BYTES), "a router's own process"), key, None)
        base = self._unit_base(service, reading, indices)
        return self._with_peak(base, key, service)

    def model_need(
        self,
        service: Service,
        model_id: str,
        reading: GpuReading | None,
        *,
        args: Sequence[str] = (),
        elsewhere_bytes: int | None = None,
    ) -> Need | UnknownNeed:
        """What the process of one model of a router takes, its CUDA context included.

        `args`: its command line as the router tells it (`status.args`); empty: the service's own arguments.
        `elsewhere_bytes`: what other presets declare for the same model; a router that has it, too, needs no less.
        """
        own = service.vram_bytes if model_id == service.default_model else None
        declared = max((bytes_ for bytes_ in (own, elsewhere_bytes) if bytes_ is not None), default=None)
        file = self._files.find(service, model_id, args)
        key = self._model_key(service, file, reading, args) if file is not None else None
        if service.vram_bytes == 0:
            return self._with_peak(_NONE, key, service)
        indices = _indices(service, reading)
        if isinstance(indices, UnknownNeed):
            return indices
        base: Need | UnknownNeed
        if declared is not None:
            base = Need(_spread(declared, indices, service), "declared")
        elif file is not None:
            base = self._estimate(file, settings_of(service, args), indices, service)
        else:
            base = undeclared(service, f"model {model_id} of {service.id}", "its file is not found")
        return self._with_peak(base, key, service if own is not None else None)

    def unit_key(self, service: Service, reading: GpuReading | None, settings: str | None = None) -> PeakKey:
        """Under which a measurement of the unit's own processes is noted.

        `settings`: the `memory_settings` that they were started with; None: taken to be those of the preset.
        """
        return self._key(subject_of_unit(service), settings or memory_settings(service), service, reading)

    def model_key(
        self, service: Service, model_id: str, reading: GpuReading | None, *, args: Sequence[str] = ()
    ) -> PeakKey | None:
        """Under which a measurement of one model's process is noted; None: its file is not found."""
        file = self._files.find(service, model_id, args)
        return None if file is None else self._model_key(service, file, reading, args)

    def underdeclared(self, services: Iterable[Service], reading: GpuReading | None) -> tuple[str, ...]:
        """A sentence for each preset that declares less than was ever measured."""
        return tuple(need.warning for need in self._known(services, reading) if need.warning)

    def overdeclared(self, services: Iterable[Service], reading: GpuReading | None) -> tuple[str, ...]:
        """A sentence for each preset that declares more than was ever measured."""
        return tuple(need.offer for need in self._known(services, reading) if need.offer)

    def note(self, key: PeakKey | None, by_gpu: Mapping[int, int]) -> None:
        """Take a measurement."""
        if key is not None:
            self._peaks.note(key, by_gpu)

    def _known(self, services: Iterable[Service], reading: GpuReading | None) -> Iterator[Need]:
        """Of each service with its default model."""
        for service in services:
            if service.is_router and service.default_model is not None:
                need = self.model_need(service, service.default_model, reading)
            else:
                need = self.unit_need(service, reading)
            if isinstance(need, Need):
                yield need

    def _model_key(self, service: Service, file: ModelFile, reading: GpuReading | None, args: Sequence[str]) -> PeakKey:
        """The settings as understood, not as written: what a router tells and what its preset says are then one."""
        arguments = digest(settings_of(service, args), sorted(service.env.items()))
        return self._key(subject_of_model(file), arguments, service, reading)

    def _key(self, subject: str, arguments: str, service: Service, reading: GpuReading | None) -> PeakKey:
        indices = _indices(service, reading)
        return PeakKey(
            subject,
            arguments,
            self._programs.version(service),
            (reading.driver_version if reading else None) or "",
            gpu_names(reading, () if isinstance(indices, UnknownNeed) else indices),
        )

    def _unit_base(self, service: Service, reading: GpuReading | None, indices: tuple[int, ...]) -> Need | UnknownNeed:
        declared = None
        if service.vram_bytes is not None:
            declared = Need(_spread(service.vram_bytes, indices, service), "declared")
        if service.driver is DriverKind.VLLM:
            shares = vllm_shares(service, reading.gpus if reading else (), indices)
            if isinstance(shares, UnknownNeed):
                return shares
            if declared is None:
                return Need(shares, vllm_basis(service))
            if any(shares[gpu] > declared.by_gpu[gpu] for gpu in indices):
                basis = f"{vllm_basis(service)}, more than the declared {format_mib(service.vram_bytes)}"
                return Need({gpu: max(shares[gpu], declared.by_gpu[gpu]) for gpu in indices}, basis)
        if declared is not None:
            return declared
        file = self._files.find(service) if service.driver is DriverKind.LLAMACPP else None
        return self._estimate(file, settings_of(service), indices, service) if file else undeclared(service, service.id)

    def _estimate(self, file: ModelFile, settings: LoadSettings, indices: tuple[int, ...], service: Service) -> Need:
        """From the header; where that cannot be read or does not tell all, by the file's size."""
        # Who declares everything has no use for all this, and the guard would keep it for life.
        from gpumod_tui.core.vram.estimate import Estimate, estimate

        size = file.size_bytes + file.extra_bytes
        found: Estimate | None = None
        try:
            found = estimate(self._files.header(file), settings, len(indices))
            why = found.unknown
        except ModelFileInvalid as error:
            why = str(error)
        if found is not None and found.total_bytes is not None:
            parts = ", ".join(f"{part.name} {format_mib(part.total_bytes)}" for part in found.parts)
            return Need(dict(zip(indices, found.by_gpu, strict=True)), f"estimate: {parts}", is_estimate=True)
        whole = max(int(size * FILE_FACTOR), found.known_bytes if found else 0)
        basis = f"{FILE_FACTOR} × file size ({format_mib(size)}); {why}"
        return Need(_spread(whole, indices, service), basis, is_estimate=True)

    def _with_peak(self, base: Need | UnknownNeed, key: PeakKey | None, of: Service | None) -> Need | UnknownNeed:
        """Per GPU the larger of both. `of`: the service whose preset may declare the base; None: nobody declared it."""
        peak = self._peaks.highest(key) if key is not None else None
        if not peak:
            return base
        total = sum(peak.values())
        if isinstance(base, UnknownNeed):
            return Need(dict(peak), "highest ever measured; nothing is declared", total)
        declarer = None if of is None else _declarer(of)
        apart = of is not None and bool(of.gpu_shares)
        by_gpu = {gpu: max(base.by_gpu.get(gpu, 0), peak.get(gpu, 0)) for gpu in [*base.by_gpu, *sorted(peak)]}
        if by_gpu == dict(base.by_gpu):
            basis = f"{base.basis}; at most {format_mib(total)} were measured"
            offer = ""
            if declarer is not None and mib(total) < mib(base.total_bytes):
                less = _as_declared({gpu: peak.get(gpu, 0) for gpu in base.by_gpu}) if apart else mib(total)
                offer = (
                    f"{declarer} declares {format_mib(base.total_bytes)}, and at most {format_mib(total)} were measured"
                    f" so far: vram_mb: {less} would do, once it has been full"
                )
            return replace(base, basis=basis, measured_peak_bytes=total, offer=offer)
        basis = f"highest ever measured, more than {format_mib(base.total_bytes)} ({base.basis})"
        warning = ""
        if declarer is not None:
            more = _as_declared(by_gpu) if apart else mib(sum(by_gpu.values()))
            warning = (
                f"{declarer} declares {format_mib(base.total_bytes)}, and {format_mib(total)} were measured:"
                f" set vram_mb to {more} or more"
            )
        return Need(by_gpu, basis, total, warning=warning)


def _indices(service: Service, reading: GpuReading | None) -> tuple[int, ...] | UnknownNeed:
    if reading is None:
        return UnknownNeed(f"{service.id}: its GPUs are unknown: NVML cannot be read", "nvidia-smi")
    return gpu_indices(service, reading.gpus)


def _spread(total_bytes: int, indices: tuple[int, ...], service: Service) -> dict[int, int]:
    """In proportion to what the service declares for each of its GPUs, else equally; rounded up."""
    shares = service.gpu_shares or (1,) * len(indices)
    whole = sum(shares)
    return {gpu: -(-total_bytes * share // whole) for gpu, share in zip(indices, shares, strict=True)}


def _as_declared(by_gpu: Mapping[int, int]) -> str:
    """Bytes by GPU as `vram_mb` would say them where each GPU has a share of its own."""
    return f"[{', '.join(str(mib(amount)) for amount in by_gpu.values())}]"


def _declarer(service: Service) -> str | None:
    return None if service.vram_bytes is None else str(service.source or service.id)


class Claims:
    """By the presets and the measured peaks as they are now."""

    def __init__(self, host: Host, book: VramRequirements) -> None:
        self._host = host
        self._book = book

    def needs(self, unit: str, model: str, reading: GpuReading | None) -> Mapping[int, int] | str:
        """Bytes by GPU, or in words why they are unknown."""
        service = self._host.registry.services.get(service_id(unit))
        if service is None:
            return f"the preset of {service_id(unit)} is broken or gone, so its need is unknown"
        if not model:
            need = self._book.unit_need(service, reading)
        else:
            # Routers share a folder of models: one of them may be asked for what another's preset declares.
            others = [one.vram_bytes for one in self._host.registry.services.values() if one.default_model == model]
            elsewhere = max((vram for vram in others if vram is not None), default=None)
            need = self._book.model_need(service, model, reading, elsewhere_bytes=elsewhere)
        return f"{need.reason}; {need.hint}" if isinstance(need, UnknownNeed) else need.by_gpu

    def fault(self, unit: str, model: str, look: Look) -> str | None:
        """Why its need is not the one to reckon with: what runs is not what its preset describes; None: it is."""
        service, live = self._host.registry.services.get(service_id(unit)), look.live.get(unit)
        if service is None or live is None or live.pid is None:
            return None
        pid, processes = live.pid, self._host.processes
        gpus = look.reading.gpus if look.reading else ()
        arguments = processes.arguments(pid) if model and service.is_router else None
        stale = of_process(service, gpus, lambda name: processes.variable(pid, name), arguments)
        return None if stale is None else str(stale)
