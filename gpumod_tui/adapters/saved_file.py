"""Text that the operator saves somewhere."""

from pathlib import Path

from gpumod_tui.adapters._atomic import write_whole
from gpumod_tui.core.errors import FileNotSaved


def save_text(path: Path, text: str, *, replace: bool) -> bool:
    """Write it whole or not at all, readable by its owner alone; False: there is such a file, and it stays.

    Raises: FileNotSaved.
    """
    if path.is_dir():
        raise FileNotSaved(f"{path} is a folder", hint="add a file name")
    try:
        write_whole(path, text.encode("utf-8", "replace"), mode=0o600, replace=replace)
    except FileExistsError:
        return False
    except FileNotFoundError as error:
        raise FileNotSaved(f"{path} cannot be written: there is no folder {path.parent}") from error
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise FileNotSaved(f"{path} cannot be written: {why}") from error
    return True
