"""What is shipped, and what README.md says of it."""

import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
SET_UP = [line for block in re.findall(r"^```\w*\n(.*?)^```", README, re.M | re.S) for line in block.splitlines()]
SET_UP = [line for line in SET_UP if "apt-get" in line]


def gpumod(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    runtime = folder / "runtime"
    runtime.mkdir(mode=0o700, exist_ok=True)
    environment = {"HOME": str(folder), "XDG_RUNTIME_DIR": str(runtime), "PATH": os.environ["PATH"]}
    command = [sys.executable, "-m", "gpumod_tui", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)


def written_by_people() -> list[Path]:
    """All files of the checkout that are not ignored."""
    ignored = [".git", *(line.strip("/") for line in (ROOT / ".gitignore").read_text().splitlines())]

    def is_ignored(name: str) -> bool:
        return any(fnmatch(name, pattern) for pattern in ignored)

    found = []
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [name for name in folders if not is_ignored(name)]
        found += [Path(folder, name) for name in files if not is_ignored(name)]
    return found


# --- README.md


def test_readme_has_two_set_up_commands_that_a_shell_can_read() -> None:
    """One opens the demo, one runs the tests; .ci/run carries out the second one as it stands."""
    assert [line.rsplit(" && ", 1)[1] for line in SET_UP] == [".venv/bin/gpumod demo", ".venv/bin/pytest"]
    for line in SET_UP:
        assert subprocess.run(["bash", "-n", "-c", line]).returncode == 0


def test_readme_installs_an_extra_that_is_there() -> None:
    extras = re.findall(r"pip install -e '?\.(?:\[(\w+)\])?", "\n".join(SET_UP))
    assert set(filter(None, extras)) == set(PROJECT["project"]["optional-dependencies"])


def test_documents_point_at_files_and_headings_that_are_there() -> None:
    for document in DOCUMENTS:
        for link in re.findall(r"\]\(([^)#\s]*(?:#[^)\s]*)?)\)", document.read_text()):
            name, _, heading = link.partition("#")
            if "://" in link:
                continue
            target = document.parent / name if name else document
            assert target.exists(), f"{document.name} points at {link}"
            if heading:
                titles = re.findall(r"^#+ (.+)$", target.read_text(), re.M)
                anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
                assert heading in anchors, f"{document.name} points at {link}"


def test_documents_name_commands_and_options_that_are_there() -> None:
    """Each `gpumod …` in backticks or in a block of shell, word by word as far as it names commands and options."""
    import click

    from gpumod_tui.cli import cli

    known: set[str] = set()
    for document in DOCUMENTS:
        text = document.read_text()
        blocks = "\n".join(re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S))
        for call in re.findall(r"^gpumod( +[^#\n]+)", blocks, re.M) + re.findall(r"`gpumod( [^`\n]+)`", text):
            if call.split()[:1] in (["preflight"], ["tui"]):
                continue  # one goes past the command line, the other is the original gpumod's
            command: click.Command = cli
            for word in re.split(r"[\s|,]+", call.strip()):
                if word.startswith("--"):
                    options = {name for option in command.params for name in option.opts}
                    assert word.partition("=")[0] in options | {"--help", "--version"}, f"{document.name}: gpumod{call}"
                elif isinstance(command, click.Group) and re.fullmatch(r"[a-z-]+", word):
                    found = command.get_command(click.Context(command), word)
                    assert found is not None, f"{document.name}: gpumod{call}"
                    known.add(word)
                    if isinstance(found, click.Group) or "|" not in call:  # `load|unload`: its sister comes next
                        command = found
    assert {"switch", "install", "estimate", "simulate", "doctor"} <= known


def test_readme_tells_each_exit_code() -> None:
    from gpumod_tui.core.switch.results import EXIT_CODES

    told = {int(code) for code in re.findall(r"^\| (\d+) \|", README, re.M)}
    assert told == set(EXIT_CODES.values())


def test_every_field_of_a_preset_is_in_the_documents() -> None:
    import msgspec

    from gpumod_tui.core.catalog.config import ConfigFile
    from gpumod_tui.core.catalog.schema import PRESETS, ModePreset

    told = set(re.findall(r"`([a-z][a-z0-9_]*)`", (ROOT / "docs" / "presets.md").read_text()))
    structs: list[type[msgspec.Struct]] = [ModePreset, ConfigFile, *PRESETS.values()]
    for struct in structs:
        for field in msgspec.structs.fields(struct):
            assert field.encode_name in told
            if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
                for inner in msgspec.structs.fields(field.type):
                    assert inner.encode_name in told


def test_documents_tell_no_field_of_a_preset_that_is_not_there() -> None:
    from gpumod_tui.core.catalog.config import ConfigFile
    from gpumod_tui.core.catalog.schema import json_schema

    fields = {"driver", *ConfigFile.__struct_encode_fields__}
    waiting: list[object] = [json_schema()]
    while waiting:
        match waiting.pop():
            case dict() as mapping:
                fields |= set(mapping.get("properties", {}))
                waiting += mapping.values()
            case list() as items:
                waiting += items
    rows = re.findall(r"^\| (`[a-z_0-9]+`(?:, `[a-z_0-9]+`)*) \|", (ROOT / "docs" / "presets.md").read_text(), re.M)
    told = {field for row in rows for field in re.findall(r"`(.+?)`", row)}
    assert len(told) > 50
    assert told <= fields


def test_examples_of_presets_are_right(tmp_path: Path) -> None:
    """Each YAML block of docs/presets.md, all of them together: what people copy must load."""
    blocks = re.findall(r"^```yaml\n(.*?)^```", (ROOT / "docs" / "presets.md").read_text(), re.M | re.S)
    presets = [block for block in blocks if re.search(r"^(driver|services):", block, re.M)]
    settings = [block for block in blocks if block not in presets]
    assert presets
    assert len(settings) == 1
    (tmp_path / ".config" / "gpumod" / "presets").mkdir(parents=True)
    (tmp_path / ".config" / "gpumod" / "config.yaml").write_text(settings[0])
    for number, block in enumerate(presets):
        (tmp_path / ".config" / "gpumod" / "presets" / f"{number}.yaml").write_text(block)
    done = gpumod("preset", "check", "--json", folder=tmp_path)
    assert json.loads(done.stdout)["problems"] == []


# --- the distribution


def test_version_is_the_projects(tmp_path: Path) -> None:
    assert gpumod("--version", folder=tmp_path).stdout.split()[-1] == PROJECT["project"]["version"]


def test_every_import_is_a_declared_dependency() -> None:
    """What another package happens to bring along may be gone with its next version."""
    distribution = {"pynvml": "nvidia-ml-py", "yaml": "pyyaml", "re2": "google-re2"}
    declared = {re.split(r"[<>=~!\[;]", item)[0] for item in PROJECT["project"]["dependencies"]}
    imported = set()
    for path in (ROOT / "gpumod_tui").rglob("*.py"):
        imported |= set(re.findall(r"^\s*(?:from|import) ([A-Za-z_]\w*)", path.read_text(), re.M))
    foreign = imported - sys.stdlib_module_names - {"gpumod_tui", "_typeshed"}
    assert {distribution.get(name, name) for name in foreign} == declared


def test_a_wheel_holds_presets_templates_and_styles(tmp_path: Path) -> None:
    """Built from the checkout as pip does."""
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    shipped = set(zipfile.ZipFile(wheel).namelist())
    for folder in ("presets", "units"):
        for path in (ROOT / folder).rglob("*.*"):
            assert f"gpumod_tui/_data/{path.relative_to(ROOT)}" in shipped
    for path in (ROOT / "gpumod_tui").rglob("*.tcss"):
        assert str(path.relative_to(ROOT)) in shipped


def test_no_file_names_a_path_of_the_machine_it_was_written_on() -> None:
    paths = {str(ROOT), sys.prefix, os.path.realpath(sys.base_prefix)} - {"/usr", "/usr/local"}
    for file in written_by_people():
        text = file.read_text(errors="replace")
        assert not [path for path in paths if path in text], file


def test_shipped_presets_have_no_problems(tmp_path: Path) -> None:
    done = gpumod("preset", "check", "--json", folder=tmp_path)
    assert json.loads(done.stdout) == {"problems": [], "warnings": [], "notes": []}
