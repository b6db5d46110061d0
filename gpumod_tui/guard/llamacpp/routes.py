"""What may pass to a router: a default-deny table of methods and paths. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from types import MappingProxyType
from typing import Final


class Kind(Enum):
    """What the guard does with a request."""

    HEALTH = auto()
    METRICS = auto()
    MODELS = auto()
    """The merged list of models."""
    EVENTS = auto()
    """The merged event stream of all routers."""
    LOAD = auto()
    UNLOAD = auto()
    DOWNLOAD = auto()
    DELETE = auto()
    ASK = auto()
    """Looks at one model, named in the query: only while it is loaded."""
    PROPS = auto()
    """As ASK; without a model it is about the router itself."""
    USE = auto()
    """Works with one model, named in the body: it is loaded first, if that is admitted."""
    STEER = auto()
    """As USE, for what makes sense in a model that is loaded only."""
    TRANSCRIBE = auto()
    """As USE, with the model in a multipart field."""
    SESSION = auto()
    """A resumable stream, named in the query by its conversation."""
    SESSIONS = auto()
    """Looks for resumable streams of several conversations."""
    PAGE = auto()
    """The web page and its files."""
    PASS = auto()
    """Forwarded as it is."""
    SLEEP = auto()
    WAKE = auto()
    IS_SLEEPING = auto()
    REFUSED = auto()


@dataclass(frozen=True, slots=True)
class Route:
    """What a method and a path mean."""

    kind: Kind
    query: tuple[str, ...] = ()
    """Parameters that are handed on; all others stop here."""
    reason: str = ""
    """Why it is refused."""
    field: str = ""
    """The body must have it: without it llama-server fails (500) rather than refuses, and after a load for nothing."""
    is_chat: bool = False
    """Its `messages` are checked, for the same reason."""


@dataclass(frozen=True, slots=True)
class Denied:
    """No route."""

    status: int
    message: str
    allow: tuple[str, ...] = ()
    """Methods that the path knows."""


Table = Mapping[tuple[str, str], Route]

_USE: Final = Route(Kind.USE)
_CHAT: Final = Route(Kind.USE, is_chat=True)
_USED_IN_BODY: Final = (
    *("/completion", "/completions"),
    *("/responses", "/v1/responses", "/infill", "/embedding", "/embeddings", "/v1/embeddings"),
    *("/rerank", "/reranking", "/v1/rerank", "/v1/reranking", "/v1/systemone", "/tokenize", "/detokenize"),
    *("/responses/input_tokens", "/v1/responses/input_tokens"),
)
_CHATS: Final = (
    *("/chat/completions", "/v1/chat/completions", "/apply-template"),
    *("/chat/completions/input_tokens", "/v1/chat/completions/input_tokens"),
)

ROUTER: Final[Table] = MappingProxyType(
    {
        ("GET", "/health"): Route(Kind.HEALTH),
        ("GET", "/v1/health"): Route(Kind.HEALTH),
        ("GET", "/gpumod/metrics"): Route(Kind.METRICS),
        ("GET", "/models"): Route(Kind.MODELS),
        ("GET", "/v1/models"): Route(Kind.MODELS),
        ("GET", "/models/sse"): Route(Kind.EVENTS),
        ("POST", "/models/load"): Route(Kind.LOAD),
        ("POST", "/models/unload"): Route(Kind.UNLOAD),
        ("POST", "/models"): Route(Kind.DOWNLOAD),
        ("DELETE", "/models"): Route(Kind.DELETE, ("model",)),
        **{("POST", path): _USE for path in _USED_IN_BODY},
        **{("POST", path): _CHAT for path in _CHATS},
        ("POST", "/v1/completions"): Route(Kind.USE, field="prompt"),
        ("POST", "/v1/messages"): Route(Kind.USE, field="messages"),
        ("POST", "/v1/messages/count_tokens"): Route(Kind.USE, field="messages"),
        ("POST", "/v1/chat/completions/control"): Route(Kind.STEER),
        ("POST", "/props"): Route(Kind.STEER),
        ("POST", "/lora-adapters"): Route(Kind.STEER),
        ("POST", "/audio/transcriptions"): Route(Kind.TRANSCRIBE),
        ("POST", "/v1/audio/transcriptions"): Route(Kind.TRANSCRIBE),
        ("GET", "/props"): Route(Kind.PROPS, ("model",)),
        ("GET", "/slots"): Route(Kind.ASK, ("model", "fail_on_no_slot")),
        ("GET", "/metrics"): Route(Kind.ASK, ("model",)),
        ("GET", "/lora-adapters"): Route(Kind.ASK, ("model",)),
        ("GET", "/v1/stream"): Route(Kind.SESSION, ("conv_id", "from")),
        ("DELETE", "/v1/stream"): Route(Kind.SESSION, ("conv_id",)),
        ("POST", "/v1/streams/lookup"): Route(Kind.SESSIONS),
        ("GET", "/tools"): Route(Kind.PASS),
        ("POST", "/tools"): Route(Kind.REFUSED, reason="a server's tools run commands past every check of memory"),
        ("GET", "/cors-proxy"): Route(Kind.REFUSED, reason="a server that fetches addresses reaches past every check"),
        ("POST", "/cors-proxy"): Route(Kind.REFUSED, reason="a server that fetches addresses reaches past every check"),
        ("GET", "/"): Route(Kind.PAGE),
    }
)

_DEVELOPMENT: Final = "a development endpoint: it is the guard's and gpumod's alone"
_DEVELOPMENT_PATHS: Final = (
    *("/collective_rpc", "/reset_prefix_cache", "/reset_mm_cache", "/reset_encoder_cache", "/pause", "/resume"),
    *("/is_paused", "/server_info", "/start_profile", "/stop_profile", "/load_lora_adapter", "/unload_lora_adapter"),
    *("/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/scale_elastic_ep", "/is_scaling_elastic_ep"),
    *("/init_weight_transfer_engine", "/update_weights", "/get_world_size", "/abort_requests"),
)
_VLLM_USED: Final = (
    *("/v1/completions", "/v1/chat/completions", "/v1/responses", "/v1/messages", "/v1/messages/count_tokens"),
    *("/v1/embeddings", "/tokenize", "/detokenize", "/pooling", "/classify", "/score", "/v1/score", "/rerank"),
    *("/v1/rerank", "/v2/rerank", "/v1/chat/completions/render", "/v1/completions/render"),
)

VLLM: Final[Table] = MappingProxyType(
    {
        ("GET", "/health"): Route(Kind.PASS),
        ("GET", "/ping"): Route(Kind.PASS),
        ("GET", "/load"): Route(Kind.PASS),
        ("GET", "/version"): Route(Kind.PASS),
        ("GET", "/metrics"): Route(Kind.PASS),
        ("GET", "/v1/models"): Route(Kind.PASS),
        ("GET", "/gpumod/metrics"): Route(Kind.METRICS),
        **{("POST", path): _USE for path in _VLLM_USED},
        ("POST", "/v1/audio/transcriptions"): Route(Kind.TRANSCRIBE),
        ("POST", "/v1/audio/translations"): Route(Kind.TRANSCRIBE),
        ("POST", "/sleep"): Route(Kind.SLEEP, ("level",)),
        ("POST", "/wake_up"): Route(Kind.WAKE),
        ("GET", "/is_sleeping"): Route(Kind.IS_SLEEPING),
        **{
            (method, path): Route(Kind.REFUSED, reason=_DEVELOPMENT)
            for path in _DEVELOPMENT_PATHS
            for method in ("GET", "POST")
        },
    }
)

_SLOT: Final = re.compile(r"/slots/[0-9]{1,9}\Z")
_FILE: Final = re.compile(
    r"(?:/[A-Za-z0-9_][A-Za-z0-9_.~-]*){1,8}\.(?:html|js|mjs|css|json|map|svg|png|jpg|jpeg|gif|ico|webp|webmanifest"
    r"|txt|woff|woff2|ttf|wasm)\Z"
)
"""No route of the API ends like a file: what matches cannot reach one."""
_SLOTS: Final = Route(Kind.STEER, ("action",))
_PAGE: Final = Route(Kind.PAGE)


def find_route(table: Table, method: str, path: str) -> Route | Denied:
    """The route of a path that was percent-decoded once; nothing else about it is made regular."""
    # A server answers HEAD as it would GET, side effects included.
    asked = "GET" if method == "HEAD" else method
    route = table.get((asked, path))
    if route is not None:
        return route
    if table is ROUTER:
        if asked == "POST" and _SLOT.match(path):
            return _SLOTS
        if asked == "GET" and _FILE.match(path):
            return _PAGE
    known = tuple(sorted({name for name, other in table if other == path}))
    if known:
        return Denied(405, f"{method} is not allowed here", known)
    return Denied(404, "File Not Found")
