"""The played host's services and modes: the ids, ports and memory needs of the packaged presets."""

from dataclasses import replace
from types import MappingProxyType

from gpumod_tui.core.catalog.registry import BLANK_MODE, ServiceRegistry
from gpumod_tui.core.models import DriverKind, Mode, Service
from gpumod_tui.core.text import MIB

SERVICES = (
    Service(
        id="glm-code",
        name="GLM-4.7 Flash (code)",
        driver=DriverKind.LLAMACPP,
        port=7070,
        vram_bytes=20480 * MIB,
        default_model="GLM-4.7-Flash-UD-Q4_K_XL",
        startup_timeout_s=60.0,
        context_size=32768,
    ),
    Service(
        id="nemotron-3-nano",
        name="Nemotron 3 Nano 30B",
        driver=DriverKind.LLAMACPP,
        port=7070,
        vram_bytes=23040 * MIB,
        default_model="Nemotron-3-Nano-30B-A3B-UD-Q4_K_XL",
        startup_timeout_s=60.0,
        context_size=32768,
    ),
    Service(
        id="vllm-embedding",
        name="Qwen3-VL Embedding 2B",
        driver=DriverKind.VLLM,
        port=8200,
        vram_bytes=5000 * MIB,
        model_id="Qwen/Qwen3-VL-Embedding-2B",
        unit_vars=MappingProxyType({"gpu_mem_util": 0.2}),
        startup_timeout_s=120.0,
    ),
    Service(
        id="devstral-small-2",
        name="Devstral Small 2",
        driver=DriverKind.VLLM,
        port=8000,
        vram_bytes=15000 * MIB,
        model_id="mistralai/Devstral-Small-2505",
        unit_vars=MappingProxyType({"gpu_mem_util": 0.6}),
        startup_timeout_s=180.0,
    ),
)

MODES = (
    BLANK_MODE,
    Mode(id="rag", name="RAG", services=("vllm-embedding",), description="Embeddings for retrieval."),
    Mode(id="code", name="Code", services=("glm-code",), description="GLM-4.7 Flash for coding agents."),
    Mode(id="nemotron", name="Nemotron", services=("nemotron-3-nano",), description="Reasoning, fills the card."),
)


def demo_registry(*, sleeps: str = "") -> ServiceRegistry:
    """The catalog as a registry. `sleeps`: the vLLM service that can be put to sleep; empty: none."""
    services = {service.id: service for service in SERVICES}
    if sleeps:
        unit_vars = {**services[sleeps].unit_vars, "enable_sleep_mode": True}
        services[sleeps] = replace(services[sleeps], unit_vars=MappingProxyType(unit_vars))
    return ServiceRegistry(
        services=MappingProxyType(services),
        modes=MappingProxyType({mode.id: mode for mode in MODES}),
    )
