"""Files written whole or not at all."""

import os
from pathlib import Path

from gpumod_tui.core.errors import FileNotSaved


def write_whole(path: Path, data: str | bytes, *, mode: int = 0o644, replace: bool = True) -> None:
    """Write a temporary file beside `path`, fsync it, rename it over, fsync the folder; without `replace` what has
    that name stays, whoever wrote it and when. Raises: OSError, FileExistsError."""
    import tempfile  # for those who write; it takes 3 ms, and most only read

    content = data.encode() if isinstance(data, str) else data
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            Path(name).replace(path)
        else:
            _name_new(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _name_new(name: str, path: Path) -> None:
    """Let the file go by a name that no other has."""
    try:
        os.link(name, path)
    except FileExistsError:
        raise
    except OSError:
        # No links there (FAT, some network shares): the name is taken first, so that no other writer can.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        try:
            Path(name).replace(path)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
    else:
        Path(name).unlink()


def private_folder(path: Path) -> Path:
    """Make the folder, and its parents, as 0700 where missing. Raises: OSError."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


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
