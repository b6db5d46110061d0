"""What a llama-server is told, as far as it shapes the memory that a model takes."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final

from gpumod_tui.core.models import Service
from gpumod_tui.core.text import mib

DEFAULT_CONTEXT: Final = 4096
"""What our unit pins where a preset names none."""
AUTO_SLOTS: Final = 4
"""llama-server's slots without --parallel; they then share one context."""


@dataclass(frozen=True, slots=True)
class LoadSettings:
    """Memory-shaping settings of one model's process; the defaults are llama-server's own."""

    context: int = 0
    """Cells over all slots; 0: as many as the model was trained on."""
    parallel: int | None = None
    """None: `AUTO_SLOTS`, sharing one context."""
    unified: bool | None = None
    """Whether slots share one context; None: only where `parallel` is None."""
    kv_type_k: str = "f16"
    kv_type_v: str = "f16"
    gpu_layers: int | None = None
    """None: all."""
    flash_attn: bool | None = None
    """None: on where the model allows it."""
    swa_full: bool = False
    """Sliding-window layers hold every cell."""
    ubatch: int = 512
    batch: int = 2048
    kv_offload: bool = True
    """False: the KV cache lies in host memory."""
    cpu_moe_layers: int = 0
    """First layers whose experts stay in host memory."""
    cpu_ffn_layers: int = 0
    """First layers whose dense feed-forward weights stay in host memory."""
    projector: bool = True
    """Whether a projector found beside the model is loaded to the GPU."""
    others: tuple[tuple[str, str], ...] = ()
    """Further ones that change how much lies on which GPU, sorted; the estimate does not know them."""

    @property
    def slots(self) -> int:
        """Parallel sequences."""
        return AUTO_SLOTS if self.parallel is None else self.parallel

    @property
    def is_unified(self) -> bool:
        """Whether slots share one context."""
        return self.parallel is None if self.unified is None else self.unified


MOST_LAYERS: Final = 512
"""llama.cpp's limit; more than that means all."""
ALL_EXPERTS: Final = 1 << 20
_WORDS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "context": ("-c", "--ctx-size", "LLAMA_ARG_CTX_SIZE"),
        "parallel": ("-np", "--parallel", "LLAMA_ARG_N_PARALLEL"),
        "kv_type_k": ("-ctk", "--cache-type-k", "LLAMA_ARG_CACHE_TYPE_K"),
        "kv_type_v": ("-ctv", "--cache-type-v", "LLAMA_ARG_CACHE_TYPE_V"),
        "gpu_layers": ("-ngl", "--gpu-layers", "--n-gpu-layers", "LLAMA_ARG_N_GPU_LAYERS"),
        "flash_attn": ("-fa", "--flash-attn", "LLAMA_ARG_FLASH_ATTN"),
        "ubatch": ("-ub", "--ubatch-size", "LLAMA_ARG_UBATCH"),
        "batch": ("-b", "--batch-size", "LLAMA_ARG_BATCH"),
        "cpu_moe_layers": ("-ncmoe", "--n-cpu-moe", "LLAMA_ARG_N_CPU_MOE"),
        "cpu_ffn_layers": ("-ncffn", "--n-cpu-ffn", "LLAMA_ARG_N_CPU_FFN"),
        # Kept as they are: whoever measured with them, measured something else.
        "kv_unified_per_slot": ("--kv-unified-per-slot", "LLAMA_ARG_KV_UNIFIED_PER_SLOT"),
        "tensor_split": ("-ts", "--tensor-split", "LLAMA_ARG_TENSOR_SPLIT"),
        "split_mode": ("-sm", "--split-mode", "LLAMA_ARG_SPLIT_MODE"),
        "main_gpu": ("-mg", "--main-gpu", "LLAMA_ARG_MAIN_GPU"),
        "device": ("-dev", "--device", "LLAMA_ARG_DEVICE"),
        "override_tensor": ("-ot", "--override-tensor", "LLAMA_ARG_OVERRIDE_TENSOR"),
        "lora": ("--lora", "--lora-scaled"),
        "control_vector": ("--control-vector", "--control-vector-scaled"),
        "spec_type": ("--spec-type", "LLAMA_ARG_SPEC_TYPE"),
        "draft_layers": ("-ngld", "--gpu-layers-draft", "--n-gpu-layers-draft", "--spec-draft-ngl"),
        "draft_device": ("-devd", "--device-draft", "--spec-draft-device"),
        "draft_type_k": ("-ctkd", "--cache-type-k-draft", "--spec-draft-type-k"),
        "draft_type_v": ("-ctvd", "--cache-type-v-draft", "--spec-draft-type-v"),
    }
)
_SWITCHES: Final[Mapping[str, tuple[str, Any]]] = MappingProxyType(
    {
        "-kvu": ("unified", True),
        "--kv-unified": ("unified", True),
        "-no-kvu": ("unified", False),
        "--no-kv-unified": ("unified", False),
        "--swa-full": ("swa_full", True),
        "-kvo": ("kv_offload", True),
        "--kv-offload": ("kv_offload", True),
        "-nkvo": ("kv_offload", False),
        "--no-kv-offload": ("kv_offload", False),
        "-cmoe": ("cpu_moe_layers", ALL_EXPERTS),
        "--cpu-moe": ("cpu_moe_layers", ALL_EXPERTS),
        "--spec-default": ("spec_type", "default"),
        "--no-mmproj": ("projector", False),
        "--no-mmproj-auto": ("projector", False),
        "--no-mmproj-offload": ("projector", False),
        "--mmproj-offload": ("projector", True),
    }
)
_SWITCH_VARIABLES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "LLAMA_ARG_KV_UNIFIED": "unified",
        "LLAMA_ARG_SWA_FULL": "swa_full",
        "LLAMA_ARG_KV_OFFLOAD": "kv_offload",
        "LLAMA_ARG_MMPROJ_AUTO": "projector",
        "LLAMA_ARG_MMPROJ_OFFLOAD": "projector",
    }
)
_NAME_OF: Final[Mapping[str, str]] = MappingProxyType({word: name for name, words in _WORDS.items() for word in words})
_TRUE: Final = ("on", "enabled", "true", "1", "yes")
_FALSE: Final = ("off", "disabled", "false", "0", "no")


def settings_of(service: Service, args: Sequence[str] = ()) -> LoadSettings:
    """What the service's unit tells its server, overridden by the command line of one model's process."""
    given = service.unit_vars
    settings = LoadSettings(context=service.context_size or DEFAULT_CONTEXT)
    for name, value in sorted(service.env.items()):
        if name in _NAME_OF:
            settings = _with(settings, _NAME_OF[name], str(value))
        elif name in _SWITCH_VARIABLES:
            settings = _with(settings, _SWITCH_VARIABLES[name], str(value).lower() in _TRUE)
    # The command line comes after the environment, as llama-server has it.
    settings = replace(settings, context=service.context_size or DEFAULT_CONTEXT, gpu_layers=None)
    for name, setting in (
        ("gpu_layers", given.get("n_gpu_layers")),
        ("cpu_moe_layers", given.get("n_cpu_moe")),
        ("flash_attn", given.get("flash_attn")),
    ):
        if setting is not None:
            settings = _with(settings, name, str(setting).lower())
    if len(service.gpus) > 1:
        settings = _with(settings, "tensor_split", tensor_split(service))
    extra = given.get("extra_args") or ()
    settings = with_arguments(settings, shlex.split(extra) if isinstance(extra, str) else [str(one) for one in extra])
    return with_arguments(settings, args)


def tensor_split(service: Service) -> str:
    """How a model is dealt out over the service's GPUs, as `--tensor-split` has it: by what is declared on each."""
    return ",".join(str(mib(share)) for share in service.gpu_shares) or ",".join("1" for _ in service.gpus)


def with_arguments(settings: LoadSettings, args: Sequence[str]) -> LoadSettings:
    """The settings after these words of a command line; what shapes no memory is passed over."""
    words: Iterator[str] = iter(args)
    for word in words:
        if word in _SWITCHES:
            settings = _with(settings, *_SWITCHES[word])
        elif word in _NAME_OF:
            value = next(words, None)
            if value is not None:
                settings = _with(settings, _NAME_OF[word], value)
    return settings


def _with(settings: LoadSettings, name: str, value: Any) -> LoadSettings:
    """A value that llama-server would refuse changes nothing: it will not load a model then."""
    if name not in LoadSettings.__dataclass_fields__:
        others = {**dict(settings.others), name: str(value)}
        return replace(settings, others=tuple(sorted(others.items())))
    change: dict[str, Any] = {name: value}
    if name in ("kv_type_k", "kv_type_v"):
        change[name] = str(value).lower()
    elif name == "flash_attn":
        change[name] = True if value in _TRUE else False if value in _FALSE else None
    elif name == "gpu_layers" and value in ("auto", "all"):
        change[name] = None
    elif not isinstance(value, bool):
        try:
            number = int(value)
        except ValueError:
            return settings
        change[name] = None if number < 0 and name in ("parallel", "gpu_layers") else max(0, number)
        if name == "gpu_layers" and number > MOST_LAYERS:
            change[name] = None
    return replace(settings, **change)
