"""The guard's table: what is not in it is not passed, however it is written."""

import pytest

from gpumod_tui.guard.http.head import (
    BadRequest,
    back,
    check_origin,
    decode,
    given_key,
    join_target,
    onward,
    split_target,
)
from gpumod_tui.guard.llamacpp.routes import ROUTER, VLLM, Denied, Kind, Route, Table, find_route


def kind_of(method: str, target: str, table: Table = ROUTER) -> Kind | int:
    """The kind of a raw target, or the status it is turned away with."""
    try:
        path, _ = split_target(target)
    except BadRequest as error:
        return error.status
    route = find_route(table, method, path)
    return route.kind if isinstance(route, Route) else route.status


# Every route that llama-server b11434 registers, in its order.
LLAMA_SERVER = """
POST /models, POST /models/load, POST /models/unload, GET /models/sse, DELETE /models, GET /health, GET /v1/health,
GET /metrics, GET /props, POST /props, GET /models, GET /v1/models, POST /completion, POST /completions,
POST /v1/completions, POST /chat/completions, POST /v1/chat/completions, POST /v1/chat/completions/control,
POST /v1/responses, POST /responses, POST /v1/audio/transcriptions, POST /audio/transcriptions, POST /v1/messages,
POST /infill, POST /embedding, POST /embeddings, POST /v1/embeddings, POST /rerank, POST /reranking, POST /v1/rerank,
POST /v1/reranking, POST /v1/systemone, POST /tokenize, POST /detokenize, POST /apply-template,
POST /chat/completions/input_tokens, POST /v1/chat/completions/input_tokens, POST /responses/input_tokens,
POST /v1/responses/input_tokens, POST /v1/messages/count_tokens, GET /lora-adapters, POST /lora-adapters, GET /slots,
POST /slots/0, GET /v1/stream, POST /v1/streams/lookup, DELETE /v1/stream, GET /cors-proxy, POST /cors-proxy,
GET /tools, POST /tools, GET /, GET /index.html, GET /sw.js, GET /_app/version.json, GET /_app/immutable/x-1.js
"""
REFUSED = {"GET /cors-proxy", "POST /cors-proxy", "POST /tools"}
# What proxies to a child by a name in the body or the query, and so can load, wake or disturb one.
BY_MODEL = {Kind.USE, Kind.STEER, Kind.TRANSCRIBE, Kind.ASK, Kind.PROPS}
WITHOUT_MODEL = {
    *("/health", "/v1/health", "/models", "/v1/models", "/models/sse", "/models/load", "/models/unload", "/"),
    *("/v1/stream", "/v1/streams/lookup", "/tools", "/cors-proxy", "/index.html", "/sw.js", "/_app/version.json"),
    "/_app/immutable/x-1.js",
}


@pytest.mark.parametrize("line", [one.strip() for one in LLAMA_SERVER.replace("\n", " ").split(",")])
def test_every_route_of_the_server_has_a_meaning(line: str) -> None:
    method, path = line.split()
    kind = kind_of(method, path)
    assert isinstance(kind, Kind)
    assert (kind is Kind.REFUSED) == (line in REFUSED)
    assert (kind in BY_MODEL) == (path not in WITHOUT_MODEL)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/models%2Fload", Kind.LOAD),
        ("/models%2fload", Kind.LOAD),
        ("/%6dodels/load", Kind.LOAD),
        ("/models/load?", Kind.LOAD),
        ("/models%252Fload", 404),
        ("//models/load", 404),
        ("/models//load", 404),
        ("/./models/load", 404),
        ("/x/../models/load", 404),
        ("/models/load/", 404),
        ("/models/load;a=b", 404),
        ("/models/load%3Bx", 404),
        ("/models/load%3Fautoload=1", 404),
        ("/models/load%23", 404),
        ("/models\\load", 404),
        ("/Models/Load", 404),
        ("/models/load%00", 400),
        ("/models/load%0d%0aX: y", 400),
        ("/models/load%", 400),
        ("/models/load%2", 400),
        ("/models/load%zz", 400),
        ("/models/load%u006c", 400),
        ("/models/load%ff", 400),
        ("/models/load#x", 400),
        ("http://127.0.0.1:7070/models/load", 400),
        ("models/load", 400),
        ("*", 400),
        ("", 400),
        ("/predict", 404),
        ("/slots/0", Kind.STEER),
        ("/slots/-1", 404),
        ("/slots/0/..", 404),
        ("/slots/%30", Kind.STEER),
        ("/slots/0%0a", 400),
        ("/slots/٣", 404),
    ],
)
def test_a_path_is_decoded_once_and_matched_as_it_is(target: str, expected: Kind | int) -> None:
    assert kind_of("POST", target) == expected


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("HEAD", "/models", Kind.MODELS),
        ("HEAD", "/props", Kind.PROPS),
        ("GET", "/models/load", 405),
        ("PUT", "/models/load", 405),
        ("PATCH", "/v1/chat/completions", 405),
        ("post", "/models/load", 405),
        ("TRACE", "/", 405),
        ("CONNECT", "/x", 404),
        ("GET", "/v1/chat/completions", 405),
        ("GET", "/favicon.ico", Kind.PAGE),
        ("GET", "/.env", 404),
        ("GET", "/a/.git/config.json", 404),
        ("GET", "/a/../b.js", 404),
        ("POST", "/x.js", 404),
        ("GET", "/gpumod/metrics", Kind.METRICS),
    ],
)
def test_methods(method: str, path: str, expected: Kind | int) -> None:
    assert kind_of(method, path) == expected


def test_what_cannot_be_asked_says_what_can() -> None:
    route = find_route(ROUTER, "PUT", "/models")
    assert isinstance(route, Denied)
    assert route.allow == ("DELETE", "GET", "POST")


def test_a_parameter_that_could_be_read_twice_is_refused() -> None:
    for target in ("/props?model=a&model=b", "/props?model=a&%6dodel=b", "/props?model&model="):
        with pytest.raises(BadRequest, match="more than once"):
            split_target(target)


def test_only_parameters_of_the_route_go_on() -> None:
    route = find_route(ROUTER, "GET", "/props")
    assert isinstance(route, Route)
    assert "autoload" not in route.query
    assert all("autoload" not in one.query and "reload" not in one.query for one in ROUTER.values())
    assert split_target("/props?model=a+b%2Bc&x")[1] == {"model": "a b+c", "x": ""}


def test_an_address_is_written_so_that_it_has_one_meaning() -> None:
    query = {"model": "a&b=c d+e%f/ü#?;"}
    target = join_target("/props", query)
    assert target == "/props?model=a%26b%3Dc%20d%2Be%25f%2F%C3%BC%23%3F%3B"
    assert split_target(target) == ("/props", query)


def test_vllm_is_guarded_by_its_own_table() -> None:
    assert kind_of("POST", "/v1/chat/completions", VLLM) is Kind.USE
    assert kind_of("POST", "/wake_up", VLLM) is Kind.WAKE
    assert kind_of("POST", "/sleep?level=2", VLLM) is Kind.SLEEP
    assert kind_of("GET", "/is_sleeping", VLLM) is Kind.IS_SLEEPING
    for path in ("/collective_rpc", "/reset_prefix_cache", "/server_info", "/v1/load_lora_adapter", "/update_weights"):
        assert kind_of("POST", path, VLLM) is Kind.REFUSED
    assert kind_of("POST", "/anything", VLLM) == 404
    assert kind_of("GET", "/x.js", VLLM) == 404


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "127.0.0.1:7070"},
        {"Host": "localhost:9999"},
        {"Host": "LOCALHOST"},
        {"Host": "[::1]:7070"},
        {"Host": "box.localhost:7070"},
        {"Host": "localhost:7070", "Origin": "http://localhost:7070"},
        {"Host": "localhost:7070", "Origin": "http://localhost:7070", "Sec-Fetch-Site": "same-origin"},
        {"Host": "localhost:7070", "Sec-Fetch-Site": "none"},
    ],
)
def test_programs_and_our_own_page_are_heard(headers: dict[str, str]) -> None:
    check_origin(headers, is_page=False)


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": "192.168.0.7:7070"},
        {"Host": "0.0.0.0:7070"},
        {"Host": "localhost:7070", "Origin": "http://evil.example"},
        {"Host": "localhost:7070", "Origin": "http://localhost:3000"},
        {"Host": "localhost:7070", "Origin": "http://127.0.0.1:7070"},
        {"Host": "localhost:7070", "Origin": "null"},
        {"Host": "localhost:7070", "Origin": ""},
        {"Host": "localhost:7070", "Origin": "file://"},
        {"Host": "localhost:7070", "Origin": "http://["},
        {"Host": "localhost:7070", "Sec-Fetch-Site": "cross-site"},
        {"Host": "localhost:7070", "Sec-Fetch-Site": "same-site"},
        {"Host": "localhost:7070", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
    ],
)
def test_pages_of_other_origins_are_not(headers: dict[str, str]) -> None:
    with pytest.raises(BadRequest) as caught:
        check_origin(headers, is_page=False)
    assert caught.value.status == 403


@pytest.mark.parametrize("host", ["", "a b", "localhost:7070:1", "localhost:", "user@localhost", "localhost/x", "[::1"])
def test_a_host_has_to_be_one(host: str) -> None:
    for headers in ({"Host": host}, {}):
        with pytest.raises(BadRequest):
            check_origin(headers, is_page=False)


def test_a_link_to_the_page_may_be_followed() -> None:
    check_origin({"Host": "localhost:1", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, is_page=True)


def test_headers_of_one_connection_stay_there() -> None:
    given = [
        *(("Host", "x"), ("Connection", "close, X-Secret"), ("X-Secret", "1"), ("Transfer-Encoding", "chunked")),
        *(("Content-Length", "3"), ("Content-Type", "text/plain"), ("Expect", "100-continue"), ("Origin", "http://x")),
        *(("Authorization", "Bearer k"), ("X-Api-Key", "k"), ("Accept", "a"), ("Content-Encoding", "gzip")),
    ]
    assert onward(given) == [("Authorization", "Bearer k"), ("X-Api-Key", "k"), ("Accept", "a")]
    assert back([("Content-Length", "3"), ("Content-Type", "x"), ("Connection", "close")]) == [("Content-Type", "x")]


def test_the_key_is_read_as_the_server_reads_it() -> None:
    assert given_key({"Authorization": "Bearer k"}) == "k"
    assert given_key({"Authorization": "k"}) == "k"
    assert given_key({"X-Api-Key": "k"}) == "k"
    assert given_key({}) == ""


def test_decoding_is_strict() -> None:
    assert decode("a%20b") == "a b"
    for text in ("%", "%1", "%g1", "%00", "%7f", "%c0%af", "\x01", "\udcff"):
        with pytest.raises(BadRequest):
            decode(text)
