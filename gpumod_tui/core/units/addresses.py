"""Addresses that a server listens on, and whether only this host reaches them."""

import re
from collections.abc import Iterator, Sequence
from typing import Final

_OPTIONS: Final = re.compile(
    r"--?(?:(?:web|http|server|listen|bind)[.-])?(?:host|hostname|listen|bind|addr|address|ip|listen-address)"
    r"|--?server-name"
)
"""Options whose value is where a server listens, by the names that servers give them."""
_ANYWHERE: Final = re.compile(r"(?:^|[=@/\[])(?:0\.0\.0\.0|::)(?:\]|:\d+|$|/)|(?:^|[=@/])\*:\d+")
_SCHEME: Final = re.compile(r"^\w+://")


def is_loopback(address: str) -> bool:
    """Whether only this host reaches the address; False for what is no address."""
    import ipaddress  # as long as all of a preset's check takes

    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return (mapped or found).is_loopback


def is_anywhere(text: str) -> bool:
    """Whether the text is all addresses of the host, with or without a port; a bare `*` may mean anything."""
    return bool(_ANYWHERE.search(text))


def exposed(words: Sequence[str]) -> Iterator[str]:
    """The words of a command line that have a server listen beyond loopback, as far as they tell."""
    for at, word in enumerate(words):
        option, equals, value = word.partition("=")
        if is_anywhere(word):
            yield word
        elif _OPTIONS.fullmatch(option):
            following = words[at + 1] if at + 1 < len(words) else ""
            value = value if equals else following
            if not equals and value.startswith("-"):
                value = ""
            if not is_anywhere(value) and not all(map(_is_of_this_host, value.split(","))):
                yield word if equals else f"{word} {value}".rstrip()
        elif any(character.isspace() for character in word):
            # A shell's program.
            yield from exposed(word.split())


def _is_of_this_host(place: str) -> bool:
    """A host with or without a port, a socket's path, or a port alone, which tells no host."""
    place = place.strip().strip("'\"")
    if place.startswith(("/", "unix:", "@", "fd:")):
        return True
    place = _SCHEME.sub("", place).partition("/")[0]
    if place.startswith("["):
        host = place[1:].partition("]")[0]
    else:
        host = place if place.count(":") > 1 else place.partition(":")[0]
    if host.isdigit() and host != "0":
        return True
    return host == "localhost" or host.endswith(".localhost") or is_loopback(host)
