"""Faults, as exceptions that carry objects. Expected outcomes are return values."""

from pathlib import Path


class GpumodError(Exception):
    """A fault with a message for people: what, why, and in `hint` what to do next."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    @property
    def with_hint(self) -> str:
        """Both in one sentence."""
        return f"{self} ({self.hint})" if self.hint else str(self)


class GpuUnavailable(GpumodError):
    """NVML cannot be read: no library, no driver, a mismatch after an update."""


class SystemdUnavailable(GpumodError):
    """The user manager cannot be asked."""


class UnitMissing(GpumodError):
    """systemd knows no such unit."""

    def __init__(self, unit: str) -> None:
        super().__init__(f"unit {unit} is not installed", hint=f"gpumod template install {unit.split('.')[0]}")
        self.unit = unit


class UnitRefused(GpumodError):
    """systemd refused a request for a unit (masked, bad setting, conflicting job)."""


class NotPermitted(GpumodError):
    """The kernel does not let this user touch the process."""


class JournalUnavailable(GpumodError):
    """journalctl cannot be run or cannot read the user's journal."""


class ServerError(GpumodError):
    """A server answered a request with an error, or not at all. `status` None: no HTTP answer."""

    def __init__(self, message: str, *, status: int | None = None, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status


class PresetInvalid(GpumodError):
    """A preset file that cannot be used; names file, key, what was found and what is expected."""

    def __init__(self, source: Path, key: str, found: str, expected: str) -> None:
        super().__init__(f"{source}: {key or 'file'}: found {found}, expected {expected}")
        self.source = source
        self.key = key
        self.found = found
        self.expected = expected


class ModeRefused(GpumodError):
    """A mode that cannot be saved or deleted; nothing was touched."""


class ModeTaken(ModeRefused):
    """There is a mode of that id already; saving it needs a yes."""


class UnknownName(GpumodError):
    """No service, mode or model of that name."""


class ConfigInvalid(GpumodError):
    """The configuration or the environment cannot be used (exit code 2)."""


class FileNotSaved(GpumodError):
    """A file that the operator asked for could not be written."""


class StateUnavailable(GpumodError):
    """The state or runtime folder cannot be used."""


class ModelFileInvalid(GpumodError):
    """A GGUF file that cannot be read as one; names the file, what was found and what is expected."""

    def __init__(self, path: Path, found: str, expected: str) -> None:
        super().__init__(f"{path}: found {found}, expected {expected}", hint="download or convert the file again")
        self.path = path
        self.found = found
        self.expected = expected
