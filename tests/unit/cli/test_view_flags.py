"""What the dashboard is opened with: flags go before config.yaml, and belong to no other command."""

import json
from pathlib import Path

import pytest

from gpumod_tui.cli._options import THEMES
from gpumod_tui.cli.dashboard import chosen
from gpumod_tui.core.catalog.config import Theme
from gpumod_tui.ui.options import ViewOptions
from tests.unit.cli.test_faults import gpumod

FLAGS = {"theme": None, "ascii_only": False, "no_mouse": False, "read_only": False}


def test_flags_go_before_the_settings_and_take_nothing_away() -> None:
    settings = ViewOptions(theme=Theme.LIGHT, ascii_only=True, mouse=True, read_only=True, keys={"unit.stop": "X"})
    assert chosen(settings, **FLAGS) == settings  # type: ignore[arg-type]
    flags = {"theme": "ansi", "ascii_only": True, "no_mouse": True, "read_only": True}
    wanted = ViewOptions(theme=Theme.ANSI, ascii_only=True, mouse=False, read_only=True)
    assert chosen(ViewOptions(), **flags) == wanted  # type: ignore[arg-type]


def test_the_command_line_knows_all_themes() -> None:
    assert tuple(Theme) == THEMES


@pytest.mark.parametrize("flag", ["--ascii", "--no-mouse", "--read-only", "--theme=light"])
def test_they_are_not_silently_taken_by_other_commands(flag: str, tmp_path: Path) -> None:
    done = gpumod(flag, "mode", "list", folder=tmp_path)
    assert done.returncode == 2
    assert "not with mode" in done.stderr
    assert gpumod("demo", flag, folder=tmp_path).returncode == 2
    assert "needs a terminal" in gpumod("demo", flag, folder=tmp_path).stderr


def test_keys_are_listed_by_id(tmp_path: Path) -> None:
    rows = {row["id"]: row for row in json.loads(gpumod("keys", "--json", folder=tmp_path).stdout)}
    assert rows["unit.stop"] == {"id": "unit.stop", "keys": ["x"], "what": "stop it"}
    assert (rows["app.quit"]["keys"], rows["app.quit_anywhere"]["keys"]) == (["q"], ["ctrl+q", "ctrl+c"])
    printed = gpumod("keys", folder=tmp_path).stdout
    assert all(id_ in printed for id_ in rows)
    assert printed.replace("\n", "").isprintable()


def test_keys_of_the_users_own_are_listed_and_a_broken_file_is_told(tmp_path: Path) -> None:
    config = tmp_path / ".config" / "gpumod" / "config.yaml"
    config.parent.mkdir(parents=True)
    config.write_text("keys:\n  unit.stop: X,delete\n")
    rows = {row["id"]: row["keys"] for row in json.loads(gpumod("keys", "--json", folder=tmp_path).stdout)}
    assert rows["unit.stop"] == ["X", "delete"]
    assert rows["unit.start"] == ["s"]
    config.write_text("keys: [\n")
    broken = gpumod("keys", folder=tmp_path)
    assert broken.returncode != 0
    assert str(config) in broken.stderr
