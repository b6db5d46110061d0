"""The head of a request, read strictly: its target, where it comes from, what is handed on. Pure."""

import re
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import quote, unquote_to_bytes, urlsplit

_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_HOST: Final = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(?::[0-9]{1,5})?\Z")
_LOCAL: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
_STAYS: Final = frozenset(
    {
        *("connection", "keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization", "te", "trailer"),
        *("transfer-encoding", "upgrade", "http2-settings", "host", "content-length", "content-type", "expect"),
        *("content-encoding", "origin", "referer"),
    }
)
_STAYS_BACK: Final = frozenset(
    {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "content-length"}
)


class BadRequest(Exception):
    """A request that is answered here. `status` is its HTTP status."""

    def __init__(
        self,
        message: str,
        status: int = 400,
        *,
        kind: str = "invalid_request_error",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """`headers`: of the answer."""
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.headers = headers


def decode(text: str) -> str:
    """Percent-decoded once. Raises: BadRequest for broken escapes, control characters and what is no UTF-8."""
    if _BAD_ESCAPE.search(text):
        raise BadRequest("a percent sign in the address is not followed by two hexadecimal digits")
    try:
        # A raw byte above 127 comes in as a surrogate.
        decoded = unquote_to_bytes(text.encode("utf-8", "surrogateescape")).decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadRequest("the address is not UTF-8") from error
    if _CONTROL.search(decoded):
        raise BadRequest("the address holds a control character")
    return decoded


def split_target(target: str) -> tuple[str, dict[str, str]]:
    """Path and query, each decoded once. Raises: BadRequest, also for a parameter that is given twice."""
    if not target.startswith("/") or "#" in target:
        raise BadRequest("the address has to begin with / and to be without #")
    path, _, rest = target.partition("?")
    if "%" in path or not path.isascii() or _CONTROL.search(path):
        path = decode(path)
    query: dict[str, str] = {}
    for part in rest.split("&") if rest else ():
        if not part:
            continue
        name, _, value = part.partition("=")
        name = decode(name.replace("+", " "))
        if name in query:
            raise BadRequest(f"the parameter {name!r} is given more than once")
        query[name] = decode(value.replace("+", " "))
    return path, query


def join_target(path: str, query: Mapping[str, str]) -> str:
    """An address that means just this to every server."""
    target = quote(path, safe="/")
    if query:
        target += "?" + "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in query.items())
    return target


def check_origin(headers: Mapping[str, str], *, is_page: bool) -> None:
    """A page of another origin must not send requests. Raises: BadRequest, status 403.

    The name in Host tells a page that has its own name point here (rebinding); its port may be that of a tunnel.
    """
    host = headers.get("Host")
    match = _HOST.match(host or "")
    if host is None or match is None:
        raise BadRequest("one Host is required")
    name = match["name"].lower()
    if name not in _LOCAL and not name.endswith(".localhost"):
        raise BadRequest(f"{host} is no name of this host's loopback", 403, kind="forbidden_host")
    origin = headers.get("Origin")
    if origin is not None:
        try:
            parts = urlsplit(origin)
        except ValueError:
            parts = urlsplit("")
        if parts.scheme not in ("http", "https") or parts.netloc.lower() != host.lower():
            raise BadRequest("a page of another origin may not send requests here", 403, kind="forbidden_origin")
    site = headers.get("Sec-Fetch-Site")
    if site in ("cross-site", "same-site") and not (is_page and headers.get("Sec-Fetch-Mode") == "navigate"):
        raise BadRequest("a page of another origin may not send requests here", 403, kind="forbidden_origin")


def onward(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Headers for the server: what concerns this connection alone stays, and so does what `Connection` names."""
    found = list(headers)
    named = {word.strip().lower() for name, value in found if name.lower() == "connection" for word in value.split(",")}
    return [(name, value) for name, value in found if name.lower() not in _STAYS and name.lower() not in named]


def back(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Headers for the client."""
    return [(name, value) for name, value in headers if name.lower() not in _STAYS_BACK]


def given_key(headers: Mapping[str, str]) -> str:
    """The API key as llama-server reads it; empty: none."""
    key = headers.get("Authorization") or headers.get("X-Api-Key") or ""
    return key.removeprefix("Bearer ")
