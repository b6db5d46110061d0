"""The files that gpumod ships: presets and unit templates."""

from pathlib import Path

from gpumod_tui.core.errors import ConfigInvalid

_PACKAGE = Path(__file__).resolve().parent


def packaged(folder: str) -> Path:
    """The folder `presets` or `units`, as a wheel ships it or as it lies in a checkout. Raises: ConfigInvalid."""
    shipped = _PACKAGE / "_data" / folder
    if shipped.is_dir():
        return shipped
    checkout = _PACKAGE.parent
    if (checkout / "pyproject.toml").is_file() and (checkout / folder).is_dir():
        return checkout / folder
    raise ConfigInvalid(f"gpumod's own folder {folder!r} is missing below {_PACKAGE}", hint="install gpumod-tui again")
