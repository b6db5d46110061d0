"""What a server was started with, or is about to be, whatever its preset has come to say since."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from gpumod_tui.core.models import GpuSample, Service
from gpumod_tui.core.servers.memory_settings import VARIABLE, memory_settings
from gpumod_tui.core.units.unit_file import Stamp, environment_of, read_stamp
from gpumod_tui.core.vram.estimate.options import LoadSettings, settings_of, with_arguments
from gpumod_tui.core.vram.need import UnknownNeed, gpu_indices

VISIBLE: Final = "CUDA_VISIBLE_DEVICES"
_NOT_GIVEN: Final = -1
_COMPANIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "projector": ("-mm", "--mmproj"),
    "draft model": ("-md", "--model-draft", "--spec-draft-model"),
}
_ANY_DIFFERENCE: Final[Mapping[str, str]] = {
    "kv_type_k": "cache type {} for keys",
    "kv_type_v": "cache type {} for values",
}
_MORE: Final[Mapping[str, str]] = {
    "gpu_layers": "{} layers on the GPU",
    "ubatch": "batches of {} at a time (ubatch)",
    "batch": "batches of {}",
    "swa_full": "the whole context in layers with a window ({})",
    "kv_offload": "its KV cache on the GPU ({})",
    "projector": "projectors ({})",
}
_LESS: Final[Mapping[str, str]] = {
    "cpu_moe_layers": "experts of {} layers in host memory",
    "cpu_ffn_layers": "feed-forward weights of {} layers in host memory",
}


@dataclass(frozen=True, slots=True)
class Stale:
    """Why what runs, or would start, is not what the preset says."""

    reason: str
    hint: str

    def __str__(self) -> str:
        return f"{self.reason}; {self.hint}"


def misplaced(service: Service, gpus: Sequence[GpuSample], visible: str) -> Stale | None:
    """Why a server with this `CUDA_VISIBLE_DEVICES` takes other GPUs than its preset names.

    None: it takes those, or none; or it names one that is not known here.
    """
    known = {name: sample.index for sample in gpus for name in (str(sample.index), sample.uuid) if name is not None}
    names = [part.strip() for part in visible.split(",") if part.strip()]
    wanted = () if service.vram_bytes == 0 else gpu_indices(service, gpus)
    if not names or isinstance(wanted, UnknownNeed) or any(name not in known for name in names):
        return None
    seen = [known[name] for name in names]
    if {*seen} != {*wanted}:
        return Stale(f"its server is set to {_words(seen)} and its preset says {_words(wanted)}", _anew(service))
    if service.gpu_shares and seen != [*wanted]:
        order = f"{', '.join(map(str, seen))} and its preset {', '.join(map(str, wanted))}"
        return Stale(f"its server counts its GPUs as {order}, and each has another share", _anew(service))
    return None


def outdated(service: Service, told: str | None) -> Stale | None:
    """Why a unit that was installed for these `memory_settings` may take other memory than its preset says.

    None: it takes the same; or its unit does not tell, since gpumod did not write it.
    """
    if told is None or told == memory_settings(service):
        return None
    reason = "its unit was installed for other settings than its preset has now, and the need is that of the preset"
    return Stale(reason, _anew(service))


def outgrown(service: Service, arguments: Sequence[str]) -> Stale | None:
    """Why a router with this command line loads models with more than its preset names.

    None: it does not, as far as its command line tells.
    """
    if not arguments:
        return None
    told = with_arguments(LoadSettings(context=_NOT_GIVEN), arguments)
    more = [*_more(told, settings_of(service)), *_companions(service, arguments)]
    if not more:
        return None
    runs_with, wanted = (", ".join(words) for words in zip(*more, strict=True))
    return Stale(f"its router was started with {runs_with} and its preset says {wanted}", _anew(service))


def of_process(
    service: Service,
    gpus: Sequence[GpuSample],
    variable: Callable[[str], str | None],
    arguments: Sequence[str] | None,
) -> Stale | None:
    """Of a server that runs, or of a unit's condition, which has its environment.

    `arguments`: the command line of the router whose model is asked for; None: it is about the unit itself.
    """
    visible = variable(VISIBLE)
    stale = None if visible is None else misplaced(service, gpus, visible)
    if stale is not None:
        return stale
    return outdated(service, variable(VARIABLE)) if arguments is None else outgrown(service, arguments)


def of_unit(service: Service, gpus: Sequence[GpuSample], text: str | None) -> Stale | None:
    """Of an installed unit file that is about to be started; `text` None: there is none."""
    if text is None:
        return None
    environment = environment_of(text)
    stale = of_process(service, gpus, environment.get, None)
    if stale is None:
        return None
    force = "--force " if read_stamp(text) is Stamp.EDITED else ""
    return Stale(stale.reason, f"gpumod template install {service.id} {force}--yes")


def _more(runs: LoadSettings, wanted: LoadSettings) -> Iterator[tuple[str, str]]:
    """What it runs with, and what its preset says, where the first may take more."""
    whole = LoadSettings().context
    longer = runs.context == whole or runs.context > wanted.context
    if runs.context not in (_NOT_GIVEN, wanted.context) and wanted.context != whole and longer:
        yield (
            ("the model's whole context" if runs.context == whole else f"a context of {runs.context}"),
            str(wanted.context),
        )
    is_apart = runs.slots > 1 and not runs.is_unified and wanted.is_unified
    if runs.slots > wanted.slots or is_apart:
        yield _slots(runs), _slots(wanted)
    if runs.flash_attn is False and wanted.flash_attn is not False:
        yield "flash attention off", "on" if wanted.flash_attn else "auto"
    for name, phrase in _ANY_DIFFERENCE.items():
        if getattr(runs, name) != getattr(wanted, name):
            yield phrase.format(getattr(runs, name)), str(getattr(wanted, name))
    for names, sign in ((_MORE, 1), (_LESS, -1)):
        for name, phrase in names.items():
            one, other = getattr(runs, name), getattr(wanted, name)
            if sign * _size(one) > sign * _size(other):
                yield phrase.format(_shown(one)), _shown(other)
    ours, theirs = dict(runs.others), dict(wanted.others)
    for name in sorted({*ours, *theirs}):
        if ours.get(name) != theirs.get(name):
            yield f"{name.replace('_', '-')} {ours.get(name, 'not set')}", theirs.get(name, "not set")


def _companions(service: Service, arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Files that are loaded beside every model, and that the preset does not name."""
    named = [str(word) for word in service.unit_vars.get("extra_args") or ()]
    for what, flags in _COMPANIONS.items():
        ours, theirs = _last(arguments, flags), _last(named, flags)
        if ours is not None and ours != theirs:
            yield f"the {what} {ours}", theirs or "none"


def _last(words: Sequence[str], flags: tuple[str, ...]) -> str | None:
    return next((value for flag, value in reversed([*pairwise(words)]) if flag in flags), None)


def _slots(settings: LoadSettings) -> str:
    if settings.slots == 1:
        return "1 slot"
    return f"{settings.slots} slots{' that share one context' if settings.is_unified else ''}"


def _size(value: int | bool | None) -> float:
    """None stands for all."""
    return float("inf") if value is None else value


def _shown(value: int | bool | None) -> str:
    return "all" if value is None else ("yes" if value else "no") if isinstance(value, bool) else str(value)


def _anew(service: Service) -> str:
    return f"gpumod template install {service.id} --yes, then gpumod service restart {service.id}"


def _words(indices: Iterable[int]) -> str:
    numbers = ", ".join(map(str, sorted({*indices})))
    return f"GPU {numbers}" if numbers else "no GPU"
