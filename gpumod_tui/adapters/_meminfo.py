"""The host's memory, as the kernel tells it."""

from pathlib import Path

from gpumod_tui.core.digits import number_of


def host_memory(path: Path = Path("/proc/meminfo")) -> dict[str, int]:
    """Fields of meminfo in bytes (`MemTotal`, `MemAvailable`…); empty where it cannot be read."""
    try:
        text = path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return {}
    fields: dict[str, int] = {}
    for line in text.splitlines():
        words = line.replace(":", " ").split()
        amount_kib = number_of(words[1]) if len(words) == 3 and words[2] == "kB" else None
        if amount_kib is not None:
            fields[words[0]] = amount_kib * 1024
    return fields
