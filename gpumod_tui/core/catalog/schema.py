"""What a preset file may hold. The descriptions are what people are told is expected, and the JSON schema's text."""

from enum import StrEnum
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from gpumod_tui.core.models import OnLeave

PLAIN = r"^[^\x00-\x1f\x7f]+$"
WORD = r"^[A-Za-z0-9/][^\s\x00-\x1f\x7f]*$"

Id = Annotated[
    str,
    Meta(
        pattern=r"^[a-z0-9][a-z0-9._-]{0,48}\Z",
        description="an id: a to z, 0 to 9, then also . _ -, at most 49 characters",
    ),
]
Seconds = Annotated[float, Meta(ge=1, le=86400, description="seconds, 1 to 86400")]
Port = Annotated[int, Meta(ge=1, le=65535, description="a port, 1 to 65535")]
OptionalPort = Annotated[int, Meta(ge=1, le=65535, description="a port, 1 to 65535")] | None
OptionalText = Annotated[str, Meta(pattern=PLAIN, description="text without control characters")] | None
OptionalWord = (
    Annotated[str, Meta(pattern=WORD, description="one word that begins with a letter, digit or /, without spaces")]
    | None
)
OptionalPath = (
    Annotated[str, Meta(pattern=PLAIN, description="an absolute path, or one that begins with ~ or $HOME")] | None
)
Count = Annotated[int, Meta(ge=1, description="a whole number, 1 or more")] | None
Text = Annotated[str, Meta(description="one string, split as a shell would")] | None
Flag = Annotated[bool, Meta(description="true or false")] | None
Gpu = Annotated[int, Meta(ge=0, le=255)] | Annotated[str, Meta(pattern=r"^(GPU|MIG)-[0-9A-Za-z/-]+\Z")]
EnvValue = str | int | float
OptionalModule = (
    Annotated[
        str, Meta(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*\Z", description="module:application, as uvicorn wants")
    ]
    | None
)
_MOST_MIB = 16_777_216
OptionalMib = (
    Annotated[
        int,
        Meta(
            ge=0,
            le=_MOST_MIB,
            description="MiB over all its GPUs as NVML shows it, or a list: MiB on each of gpus; 0: no GPU memory",
        ),
    ]
    | Annotated[list[Annotated[int, Meta(ge=1, le=_MOST_MIB)]], Meta(min_length=1)]
    | None
)
OptionalGpus = (
    Annotated[list[Gpu], Meta(min_length=1, description="a list of NVML indices (0, 1…) or UUIDs (GPU-…), each once")]
    | None
)
OptionalEndpoint = Annotated[str, Meta(pattern=r"^/[\x21-\x7e]*\Z", description="a path that begins with /")] | None


class SleepMode(StrEnum):
    """What the server can do besides running and not running."""

    NONE = "none"
    L1 = "l1"
    L2 = "l2"
    ROUTER = "router"


class LlamacppVars(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """llama-server: a router (`models_dir`), or one model (`model_path`)."""

    models_dir: OptionalPath = None
    model_path: OptionalPath = None
    models_max: Count = None
    evict: Flag = None
    no_models_autoload: Annotated[
        Literal[True] | None, Meta(description="true: a router that loads on its own asks nobody whether it fits")
    ] = None
    default_model: OptionalWord = None
    context_size: Count = None
    ctx_size: Count = None
    n_gpu_layers: (
        Annotated[int, Meta(ge=-1, le=10000, description="a whole number of layers; -1 means all of them")] | None
    ) = None
    n_cpu_moe: Annotated[int, Meta(ge=0, description="a whole number, 0 or more")] | None = None
    threads: Count = None
    jinja: Flag = None
    flash_attn: Annotated[bool | Literal["on", "off", "auto"] | None, Meta(description="true, false or auto")] = None
    reasoning_format: Literal["none", "auto", "deepseek", "deepseek-legacy"] | None = None
    extra_args: Text = None
    binary: OptionalText = None
    host: Annotated[Literal["127.0.0.1"] | None, Meta(description="127.0.0.1: servers are bound to loopback")] = None


class VllmVars(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """`vllm serve`."""

    model_path: OptionalPath = None
    gpu_mem_util: (
        Annotated[float, Meta(gt=0, le=1, description="a share of the GPU, more than 0 and at most 1")] | None
    ) = None
    max_model_len: Count = None
    max_num_seqs: Count = None
    dtype: OptionalWord = None
    enforce_eager: Flag = None
    runner: Literal["auto", "generate", "pooling", "draft"] | None = None
    hf_overrides: Annotated[
        str | dict[str, Any] | None, Meta(description="a JSON object, as a string or as a mapping")
    ] = None
    trust_remote_code: Flag = None
    enable_sleep_mode: Flag = None
    sleep_level: Literal[1, 2] | None = None
    omni: Flag = None
    extra_args: Text = None
    binary: OptionalText = None


class FastapiVars(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """An ASGI application under uvicorn."""

    app_module: OptionalModule = None
    working_dir: OptionalPath = None
    workers: Count = None
    lazy_load: Flag = None
    extra_args: Text = None
    binary: OptionalText = None


class CommandVars(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Any other server."""

    command: Annotated[
        str | list[str | int | float], Meta(description="a list of words, or one string split as a shell would")
    ]
    working_dir: OptionalPath = None


class _Preset(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, tag_field="driver"):
    id: Id
    name: OptionalText = None
    vram_mb: OptionalMib = None
    gpus: OptionalGpus = None
    model_id: OptionalWord = None
    default_model: OptionalWord = None
    health_endpoint: OptionalEndpoint = None
    startup_timeout: Seconds | None = None
    stop_timeout: Seconds | None = None
    depends_on: Annotated[list[Id], Meta(description="a list of service ids")] | None = None
    on_leave: OnLeave | None = None
    supports_sleep: Flag = None
    sleep_mode: SleepMode | None = None
    context_size: Count = None
    kv_cache_per_1k: Annotated[float, Meta(ge=0, description="MiB for 1000 tokens")] | None = None
    """Told to people; need is not reckoned from it."""
    api_key_file: OptionalPath = None
    env: Annotated[dict[str, EnvValue] | None, Meta(description="a mapping of names to strings or numbers")] = None
    unit_template: OptionalText = None


class LlamacppPreset(_Preset, tag="llamacpp"):
    """A service of llama-server."""

    port: Port
    model_path: OptionalPath = None
    unit_vars: LlamacppVars = msgspec.field(default_factory=LlamacppVars)


class VllmPreset(_Preset, tag="vllm"):
    """A service of vLLM."""

    port: Port
    model_id: Annotated[str, Meta(pattern=WORD, description="the model's name, e.g. organisation/model")]
    unit_vars: VllmVars = msgspec.field(default_factory=VllmVars)


class FastapiPreset(_Preset, tag="fastapi"):
    """A service of uvicorn."""

    port: Port
    unit_vars: FastapiVars = msgspec.field(default_factory=FastapiVars)


class CommandPreset(_Preset, tag="command"):
    """A service of any other server, started by a command of yours."""

    unit_vars: CommandVars
    port: OptionalPort = None


class ModePreset(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A named set of services."""

    id: Id
    services: Annotated[list[Id], Meta(description="a list of service ids")]
    name: OptionalText = None
    description: Annotated[str, Meta(description="text")] | None = None
    total_vram_mb: Annotated[int, Meta(ge=0, description="ignored: it is the sum of the services")] | None = None


PRESETS: dict[str, type[_Preset]] = {
    "llamacpp": LlamacppPreset,
    "vllm": VllmPreset,
    "fastapi": FastapiPreset,
    "command": CommandPreset,
}


def json_schema() -> dict[str, Any]:
    """The JSON schema of a preset file: one of the services, or a mode."""
    kinds: tuple[Any, ...] = (*PRESETS.values(), ModePreset)
    schemas, components = msgspec.json.schema_components(kinds, ref_template="#/$defs/{name}")
    # JavaScript, which reads such schemas, has no \\Z; its $ is what Python's \\Z is.
    components = msgspec.json.decode(msgspec.json.encode(components).replace(rb"\\Z", b"$"))
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "gpumod preset",
        "anyOf": list(schemas),
        "$defs": components,
    }
