"""Builds what a bed needs, once for all beds, and prints where it lies as shell assignments.

Usage: PYTHON prepare.py; PYTHON is the interpreter that the tested command will run with.
"""

from __future__ import annotations

import compileall
import fcntl
import hashlib
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent


def cache_dir() -> Path:
    given = os.environ.get("GPUMOD_TEST_CACHE")
    if given:
        return Path(given).absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "gpumod-tests"


def fingerprint(*sources: Path) -> str:
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:12]


def build_nvml(target: Path) -> None:
    """Compiles the played NVML into the directory `target`."""
    flags = [
        "-std=gnu11",
        "-O2",
        "-shared",
        "-fPIC",
        "-fvisibility=hidden",
        "-pthread",
        "-Wl,-soname,libnvidia-ml.so.1",
    ]
    library = target / "libnvidia-ml.so.1"
    subprocess.run(["gcc", *flags, "-o", str(library), str(HERE / "play" / "nvml.c")], check=True)


def build_models(target: Path) -> None:
    subprocess.run([sys.executable, str(HERE / "play" / "tiny_models.py"), str(target)], check=True)


def once(target: Path, build: Callable[[Path], None]) -> Path:
    """The directory `target`, built whole or not at all; the caller holds the lock."""
    if not target.exists():
        unfinished = target.with_name(target.name + ".new")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o755)
        build(unfinished)
        unfinished.rename(target)
    return target


def compile_code() -> None:
    """As an installation has it: a bed's user cannot write to a checkout, and each start would compile all of it."""
    for folder in (HERE.parents[1] / "gpumod_tui", HERE / "play"):
        compileall.compile_dir(folder, quiet=2)


def main() -> int:
    missing = [module for module in ("pynvml", "gguf") if importlib.util.find_spec(module) is None]
    if missing:
        print(
            f"bed: {sys.executable} has no {' and no '.join(missing)}: set PYTHON to one with the extra 'test'",
            file=sys.stderr,
        )
        return 3
    cache = cache_dir()
    cache.mkdir(parents=True, exist_ok=True)
    play = HERE / "play"
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        compile_code()
        try:
            nvml = once(cache / f"nvml-{fingerprint(play / 'nvml.c')}", build_nvml)
            models = once(cache / f"models-{fingerprint(play / 'tiny_models.py')}", build_models)
            build = [str(HERE / "build-llama-server.sh")]
            environment = {**os.environ, "PYTHON": sys.executable}
            answer = subprocess.run(build, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        except FileNotFoundError as error:
            print(f"bed: {error.filename} is missing: apt-get install gcc g++ cmake", file=sys.stderr)
            return 3
        except subprocess.CalledProcessError as error:
            print(f"bed: {shlex.join(error.cmd)} failed ({error.returncode})", file=sys.stderr)
            return 3
    found = {
        "bed_prefix": sys.prefix,
        "bed_base_prefix": sys.base_prefix,
        "bed_base_python": getattr(sys, "_base_executable", sys.executable),
        "bed_nvml": str(nvml / "libnvidia-ml.so.1"),
        "bed_models": str(models),
        "bed_llama_server": answer.stdout.strip(),
    }
    for name, value in found.items():
        print(f"{name}={shlex.quote(value)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
