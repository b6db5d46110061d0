"""config.yaml: what it may say, what wins over it, and how folders are recorded."""

from pathlib import Path

import pytest
import yaml

from gpumod_tui.adapters.files.config import load_config, record_folders
from gpumod_tui.adapters.files.paths import Places
from gpumod_tui.adapters.files.presets import load_registry
from gpumod_tui.core.catalog.config import Confirm
from gpumod_tui.core.errors import ConfigInvalid
from gpumod_tui.core.text import MIB

HOME = {"HOME": "/home/someone"}


@pytest.fixture
def places(tmp_path: Path) -> Places:
    places = Places(*(tmp_path / name for name in ("config", "state", "cache", "units", "runtime")))
    places.config.mkdir()
    return places


def write(places: Places, text: str) -> Path:
    file = places.config / "config.yaml"
    file.write_text(text)
    return file


@pytest.mark.parametrize("text", [None, "", "# nothing set\n"])
def test_without_settings_the_defaults_hold(places: Places, text: str | None) -> None:
    if text is not None:
        write(places, text)
    config = load_config(places, HOME)
    assert config.models_dir == Path("/home/someone/models")
    assert (config.vram_margin_bytes, config.release_timeout_s) == (512 * MIB, 30.0)
    assert (config.presets, config.confirm, config.theme) == ((), Confirm.ALWAYS, None)
    assert config.guard_allow == frozenset()


def test_settings_are_read_also_from_the_cache(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    write(places, "models_dir: ~/m\npresets: [$HOME/p, /q]\nvram_margin_mb: 0\nconfirm: when-stops\ntheme: light\n")
    cold = load_config(places, HOME)
    assert cold.models_dir == Path("/home/someone/m")
    assert cold.presets == (Path("/home/someone/p"), Path("/q"))
    assert (cold.vram_margin_bytes, cold.confirm, cold.theme) == (0, Confirm.WHEN_STOPS, "light")
    monkeypatch.setattr("gpumod_tui.adapters.files.yaml.read_yaml", lambda path: pytest.fail(f"{path} was parsed"))
    assert load_config(places, HOME) == cold


def test_the_environment_goes_before_the_file(places: Places) -> None:
    write(places, "models_dir: /of/file\n")
    assert load_config(places, {**HOME, "GPUMOD_MODELS_DIR": "/of/shell"}).models_dir == Path("/of/shell")
    assert load_config(places, {**HOME, "GPUMOD_MODELS_DIR": ""}).models_dir == Path("/of/file")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("vram_margin: 5\n", ("vram_margin", "unknown field", "vram_margin_mb")),
        ("vram_margin_mb: -5\n", ("vram_margin_mb", "-5", "0 or more")),
        ("vram_margin_mb: true\n", ("vram_margin_mb", "true", "MiB")),
        ("release_timeout_s: .nan\n", ("release_timeout_s", "nan", "seconds")),
        ("confirm: maybe\n", ("confirm", "'maybe'", "one of always, when-stops, never")),
        ("guard_allow: [upload]\n", ("guard_allow", "'upload'", "list of download, delete, reload")),
        ("presets: /p\n", ("presets", "'/p'", "list of folders")),
        ("presets: [p]\n", ("presets", "'p'", "absolute")),
        ("models_dir: $X/m\n", ("models_dir", "$X/m", "no other variable")),
        ("- a\n", ("file", "['a']", "mapping")),
        ("a: [\n", ("file", "line", "YAML")),
        ("theme: nord\n", ("theme", "'nord'", "one of dark, light, contrast, ansi")),
        ("mouse: 1\n", ("mouse", "1", "true or false")),
        ("keys: [a]\n", ("keys", "['a']", "mapping of ids to keys")),
        ("keys: {unit.stop: 1}\n", ("keys", "1", "mapping of ids to keys")),
        ("bell_after_s: -1\n", ("bell_after_s", "-1", "0 for never")),
        ("theme: a\ntheme: b\n", ("file", "twice", "YAML")),
    ],
)
def test_a_bad_file_is_named_with_key_found_and_expected(places: Places, text: str, parts: tuple[str, ...]) -> None:
    file = write(places, text)
    with pytest.raises(ConfigInvalid) as caught:
        load_config(places, HOME)
    for part in (str(file), *parts):
        assert part in str(caught.value)


def test_a_relative_folder_of_the_shell_is_taken_from_where_it_stands(
    places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_config(places, {**HOME, "GPUMOD_MODELS_DIR": "m"}).models_dir == tmp_path / "m"


def test_recorded_folders_are_there_without_the_shell(places: Places) -> None:
    shell = {**HOME, "GPUMOD_PRESETS": "/p:/q", "GPUMOD_MODELS_DIR": "/m"}
    assert record_folders(places, shell) == ("presets", "models_dir")
    config = load_config(places, HOME)
    assert config.presets == (Path("/p"), Path("/q"))
    assert config.models_dir == Path("/m")
    assert record_folders(places, shell) == ()


def test_the_shell_and_units_rank_folders_alike(places: Places, tmp_path: Path) -> None:
    """What units read is what was recorded; what a shell reads has GPUMOD_PRESETS beside it."""
    for name, vram in (("set", 1000), ("given", 2000)):
        (tmp_path / name).mkdir()
        preset = f"id: a\ndriver: command\nvram_mb: {vram}\nunit_vars: {{command: [x]}}\n"
        (tmp_path / name / "a.yaml").write_text(preset)
    write(places, f"presets: [{tmp_path / 'set'}]\n")
    shell = {**HOME, "GPUMOD_PRESETS": f"{tmp_path / 'given'}"}
    in_shell = load_registry(places, shell).service("a").vram_bytes
    record_folders(places, shell)
    assert in_shell == load_registry(places, HOME).service("a").vram_bytes == 2000 * MIB


def test_recording_keeps_the_users_other_keys_and_comments(places: Places) -> None:
    file = write(
        places,
        "# mine\nvram_margin_mb: 700  # more\npresets:\n  # old\n  - /o\n\nmodels_dir: /was\n"
        "# about the theme\ntheme: light\n",
    )
    assert record_folders(places, {**HOME, "GPUMOD_PRESETS": "/p", "GPUMOD_MODELS_DIR": "/m"})
    text = file.read_text()
    assert yaml.safe_load(text) == {
        "vram_margin_mb": 700,
        "theme": "light",
        "presets": ["/o", "/p"],
        "models_dir": "/m",
    }
    for comment in ("# mine", "# more", "# about the theme"):
        assert comment in text


def test_recording_into_an_odd_form_still_says_what_is_wanted(places: Places) -> None:
    file = write(places, '{"theme": "light", "presets": ["/o"]}\n')
    assert record_folders(places, {**HOME, "GPUMOD_PRESETS": "/p"}) == ("presets",)
    assert yaml.safe_load(file.read_text()) == {"theme": "light", "presets": ["/o", "/p"]}


def test_nothing_to_record_writes_nothing(places: Places) -> None:
    assert record_folders(places, HOME) == ()
    assert not (places.config / "config.yaml").exists()


def test_a_link_to_the_file_and_its_mode_stay(places: Places, tmp_path: Path) -> None:
    dotfile = tmp_path / "dotfile"
    dotfile.write_text("theme: light\n")
    dotfile.chmod(0o600)
    (places.config / "config.yaml").symlink_to(dotfile)
    record_folders(places, {**HOME, "GPUMOD_PRESETS": "/p"})
    assert (places.config / "config.yaml").is_symlink()
    assert yaml.safe_load(dotfile.read_text()) == {"theme": "light", "presets": ["/p"]}
    assert dotfile.stat().st_mode & 0o777 == 0o600
