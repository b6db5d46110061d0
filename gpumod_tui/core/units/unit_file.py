"""The text of unit files: quoting for systemd, gpumod's stamp, and what drop-ins undo."""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

STAMP: Final = "# gpumod-stamp: "
_PLAIN_WORD: Final = re.compile(r"[A-Za-z0-9_./:=,@+-]+")
_ESCAPES: Final[Mapping[str, str]] = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "%": "%%"}


def quote_word(word: str) -> str:
    """One argument of ExecStart=, as systemd splits, unescapes and expands it. Raises: ValueError for NUL."""
    return word if _PLAIN_WORD.fullmatch(word) else _quoted(word.replace("$", "$$"))


def quote_assignment(name: str, value: str) -> str:
    """One assignment of Environment=, where `$` is itself. Raises: ValueError for NUL."""
    return _quoted(f"{name}={value}")


def quote_line(text: str) -> str:
    """The rest of a line, as Description= and WorkingDirectory= take it. Raises: ValueError for what ends a line."""
    if any(ord(character) < 32 for character in text) or text.endswith("\\"):
        raise ValueError(f"{text!r} does not fit on a line of a unit file")
    return text.replace("%", "%%")


def _quoted(text: str) -> str:
    if "\0" in text:
        raise ValueError("an argument cannot hold NUL")
    return '"' + "".join(_escaped(character) for character in text) + '"'


def _escaped(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    return f"\\x{ord(character):02x}" if ord(character) < 32 or ord(character) == 127 else character


class Stamp(StrEnum):
    """Whose text a unit file is."""

    OURS = "ours"
    EDITED = "hand-edited"
    """It carries the stamp, and was changed after."""
    FOREIGN = "foreign"
    """No stamp."""


def stamped(body: str) -> str:
    """The text of a unit with gpumod's stamp on top."""
    return f"{STAMP}{_digest(body)}\n{body}"


def read_stamp(text: str) -> Stamp:
    """Whether gpumod wrote the text, and whether it is still as written."""
    first, _, body = text.partition("\n")
    if first.startswith(STAMP):
        return Stamp.OURS if first.removeprefix(STAMP) == _digest(body) else Stamp.EDITED
    return Stamp.EDITED if f"\n{STAMP}" in text else Stamp.FOREIGN


def _digest(body: str) -> str:
    import hashlib  # 3 ms with OpenSSL, which only a unit that is compared or written needs

    return f"sha256:{hashlib.sha256(body.encode()).hexdigest()}"


_ASSIGNMENT: Final = re.compile(r'^Environment="(?P<name>\w+)=(?P<value>[^"\\]*)"$', re.MULTILINE)


def environment_of(text: str) -> dict[str, str]:
    """The plain variables that a unit of gpumod's sets; those with escapes are left out."""
    return {found["name"]: found["value"].replace("%%", "%") for found in _ASSIGNMENT.finditer(text)}


SAFE_SETTINGS: Final[Mapping[str, frozenset[str]]] = {
    name: frozenset(values)
    for name, values in {
        "Type": ("exec",),
        "KillMode": ("control-group",),
        "SendSIGKILL": ("yes", "true", "on", "1"),
        "Slice": ("gpumod.slice",),
        "OOMPolicy": ("stop", "kill"),
        "NoNewPrivileges": ("yes", "true", "on", "1"),
        "RemainAfterExit": ("no", "false", "off", "0"),
        "Restart": ("no", "on-failure"),
        "Delegate": ("no", "false", "off", "0"),
    }.items()
}
"""Settings that safety hangs on, and the values that leave it whole."""
_UNSAFE: Final = re.compile(
    r"Exec(Start|Condition|Stop|StartPre|StopPost|Reload)|StartLimit\w+|RestartForceExitStatus|SuccessExitStatus"
    r"|Timeout(Start|Stop|Abort)?Sec|KillSignal|FinalKillSignal|EnvironmentFile|PassEnvironment"
    r"|UnsetEnvironment|ControlGroup|User|Group|Listen\w+|BindToDevice|Accept|TriggerLimit\w+"
)
_UNSAFE_VARIABLE: Final = re.compile(
    r"\b(CUDA_\w+|NVIDIA_VISIBLE_DEVICES|GGML_CUDA_\w+|LLAMA_ARG_\w+|UVICORN_\w+|VLLM_\w+|GPUMOD_\w+)="
)


def unsafe_settings(drop_in: str) -> tuple[str, ...]:
    """The lines of a drop-in that change what gpumod's safety hangs on."""
    found = []
    for line in drop_in.replace("\\\n", " ").splitlines():
        name, equals, value = (part.strip() for part in line.partition("="))
        if not equals or name.startswith(("#", ";", "[")):
            continue
        if name in SAFE_SETTINGS:
            unsafe = value.lower() not in SAFE_SETTINGS[name]
        elif name == "Environment":
            unsafe = not value or bool(_UNSAFE_VARIABLE.search(value))
        else:
            unsafe = bool(_UNSAFE.fullmatch(name))
        if unsafe:
            found.append(f"{name}={value}")
    return tuple(found)
