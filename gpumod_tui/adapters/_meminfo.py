"""The host's memory, as the kernel tells it."""

from pathlib import Path


def host_memory(path: Path = Path("/proc/meminfo")) -> dict[str, int]:
    """Fields of meminfo in bytes (`MemTotal`, `MemAvailable`…); empty where it cannot be read."""
    try:
        text = path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return {}
    fields: dict[str, int] = {}
    for line in text.splitlines():
        words = line.replace(":", " ").split()
        if len(words) == 3 and words[1].isdigit() and words[2] == "kB":
            fields[words[0]] = int(words[1]) * 1024
    return fields
