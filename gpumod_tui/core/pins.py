"""What a server was started with, GPUs and context, whatever its preset has come to say since."""

from collections.abc import Iterable, Sequence
from typing import Final

from gpumod_tui.core.load_settings import LoadSettings, settings_of, with_arguments
from gpumod_tui.core.models import GpuSample, Service
from gpumod_tui.core.need import UnknownNeed, gpu_indices

VISIBLE: Final = "CUDA_VISIBLE_DEVICES"
_NOT_GIVEN: Final = -1


def misplaced(service: Service, gpus: Sequence[GpuSample], visible: str) -> str | None:
    """Why a server with this `CUDA_VISIBLE_DEVICES` takes other GPUs than its preset names, and what to do.

    None: it takes those, or none; or it names one that is not known here.
    """
    known = {name: sample.index for sample in gpus for name in (str(sample.index), sample.uuid) if name is not None}
    names = [part.strip() for part in visible.split(",") if part.strip()]
    wanted = () if service.vram_bytes == 0 else gpu_indices(service, gpus)
    if not names or isinstance(wanted, UnknownNeed) or any(name not in known for name in names):
        return None
    seen = {known[name] for name in names}
    if seen == {*wanted}:
        return None
    return f"its server is set to {_words(seen)} and its preset says {_words(wanted)}; {_anew(service)}"


def outgrown(service: Service, arguments: Sequence[str]) -> str | None:
    """Why a router with this command line loads models with a longer context than its preset names, and what to do.

    None: it does not, or its command line names none.
    """
    runs, wanted = with_arguments(LoadSettings(context=_NOT_GIVEN), arguments).context, settings_of(service).context
    whole = LoadSettings().context
    if runs in (_NOT_GIVEN, wanted) or wanted == whole or (runs != whole and runs < wanted):
        return None
    words = "the model's whole context" if runs == whole else f"a context of {runs}"
    return f"its router was started with {words} and its preset says {wanted}; {_anew(service)}"


def _anew(service: Service) -> str:
    return f"gpumod template install {service.id} --yes, then gpumod service restart {service.id}"


def _words(indices: Iterable[int]) -> str:
    numbers = ", ".join(map(str, sorted(indices)))
    return f"GPU {numbers}" if numbers else "no GPU"
