"""What presets may not hand to a llama-server, held against the options that a real one has."""

import re

import pytest

from gpumod_tui.core.models import DriverKind
from gpumod_tui.core.servers.refusals import refused_arguments
from tests.bed.host import run

_NAMES = re.compile(r"(?<![\w<-])--?[A-Za-z][\w.-]*")
_FETCHES = re.compile(r"-(url|hf|hf-repo|hf-repo-draft|hf-file|docker-repo)\b")
_PLACES = re.compile(r"-(device|device-draft|main-gpu|split-mode|tensor-split)\b")


def options() -> dict[tuple[str, ...], str]:
    """Names that mean the same, and all that `--help` says of them."""
    found: dict[tuple[str, ...], str] = {}
    names: tuple[str, ...] = ()
    for line in run("llama-server", "--help", check=True).stdout.splitlines():
        if line.startswith("-"):
            names = tuple(_NAMES.findall(re.split(r" <|  (?=[a-z])", line, maxsplit=1)[0]))
            found[names] = line
        elif names:
            found[names] += line
    return found


@pytest.mark.bed
def test_what_fetches_a_model_or_names_a_device_is_refused_by_each_of_its_names() -> None:
    told = options()
    wanted = [
        name
        for names, text in told.items()
        for name in names
        if "can download" in text or any(_FETCHES.search(one) or _PLACES.search(one) for one in names)
    ]
    assert {"--spec-draft-hf", "-hfd", "-hfrd", "--hf-repo-draft", "-mmdev", "--mmproj-url"} <= {*wanted}
    passed = [name for name in wanted if not refused_arguments(DriverKind.LLAMACPP, [name, "x"], "extra_args")]
    assert passed == []
