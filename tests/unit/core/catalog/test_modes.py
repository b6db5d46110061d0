"""Modes of the user's own: saved whole or not at all, never over somebody else's without a yes."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gpumod_tui.adapters.files.presets import load_registry
from gpumod_tui.cli import mode as mode_cli
from gpumod_tui.core.catalog.modes import delete_mode, save_mode
from gpumod_tui.core.catalog.registry import ServiceRegistry
from gpumod_tui.core.errors import ModeRefused, ModeTaken, PresetInvalid, UnknownName
from gpumod_tui.core.models import Mode
from gpumod_tui.core.switch.manager import Manager
from gpumod_tui.demo.host import DemoHost
from gpumod_tui.wiring import RealHost


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RealHost:
    runtime = tmp_path / "runtime"
    runtime.mkdir(mode=0o700)
    for name, value in {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(runtime)}.items():
        monkeypatch.setenv(name, value)
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "GPUMOD_PRESETS", "GPUMOD_MODELS_DIR"):
        monkeypatch.delenv(name, raising=False)
    return RealHost()


@pytest.fixture
def own(host: RealHost) -> Path:
    return host.places.config / "presets"


def anew(host: RealHost) -> ServiceRegistry:
    """As another process sees the presets."""
    return load_registry(host.places)


def talk(*services: str, description: str = "") -> Mode:
    return Mode("talk", "Talk", services or ("glm-code",), description)


def test_a_new_mode_is_a_file_of_ones_own_and_counts_everywhere_at_once(host: RealHost, own: Path) -> None:
    saved = save_mode(host, talk("vllm-embedding", "glm-code", description="Speech: all of it # yes"))
    assert saved.path == own / "talk.yaml"
    assert (saved.shadows, host.registry) == (None, saved.registry)
    assert anew(host).modes["talk"] == saved.mode == host.registry.modes["talk"]
    assert (saved.mode.services, saved.mode.description) == (
        ("vllm-embedding", "glm-code"),
        "Speech: all of it # yes",
    )


def test_a_mode_that_is_there_is_replaced_only_with_a_yes(host: RealHost) -> None:
    save_mode(host, talk())
    with pytest.raises(ModeTaken, match="talk is there already, with glm-code"):
        save_mode(host, talk("vllm-embedding"))
    assert anew(host).modes["talk"].services == ("glm-code",)
    save_mode(host, talk("vllm-embedding"), replaces=True)
    assert anew(host).modes["talk"].services == ("vllm-embedding",)


def test_a_packaged_mode_is_shadowed_and_comes_back(host: RealHost, own: Path) -> None:
    packaged = host.registry.modes["code"]
    saved = save_mode(host, Mode("code", "Mine", ("vllm-embedding",)), replaces=True)
    assert (saved.path, saved.shadows) == (own / "code.yaml", packaged)
    assert packaged.source is not None
    assert packaged.source.exists()
    gone = delete_mode(host, "code")
    assert (gone.path, gone.shadows, anew(host).modes["code"]) == (saved.path, packaged, packaged)
    assert not saved.path.exists()


def test_ones_own_file_keeps_its_place_name_rights_and_comments(host: RealHost, own: Path) -> None:
    file, real = own / "deep" / "of-mine.yml", host.places.config / "dotfiles.yml"
    file.parent.mkdir(parents=True)
    real.write_text("# my words\nid: talk\nservices: [glm-code]\n# and these\n")
    real.chmod(0o600)
    file.symlink_to(real)
    saved = save_mode(host, talk("vllm-embedding"), replaces=True)
    assert (saved.path, saved.shadows, file.is_symlink()) == (file, None, True)
    text = real.read_text()
    assert "# my words" in text
    assert "# and these" in text
    assert (real.stat().st_mode & 0o777, list(own.rglob("*.y*ml"))) == (0o600, [file])
    assert anew(host).modes["talk"].services == ("vllm-embedding",)


def test_a_file_that_defines_something_else_is_never_overwritten(host: RealHost, own: Path) -> None:
    own.mkdir(parents=True)
    other = "id: other\nservices: [glm-code]\n"
    (own / "talk.yaml").write_text(other)
    with pytest.raises(ModeRefused, match="is there already, and is no mode talk"):
        save_mode(host, talk(), replaces=True)
    assert (own / "talk.yaml").read_text() == other


def test_what_would_not_count_is_not_left_behind(host: RealHost, own: Path, tmp_path: Path) -> None:
    stronger = tmp_path / "stronger"
    stronger.mkdir()
    (stronger / "talk.yaml").write_text("id: talk\nservices: [glm-code]\n")
    host.places.config.mkdir(parents=True)
    (host.places.config / "config.yaml").write_text(f"presets: [{stronger}]\n")
    with pytest.raises(ModeRefused, match=r"stronger/talk\.yaml goes before it"):
        save_mode(host, talk("vllm-embedding"), replaces=True)
    assert list(own.iterdir()) == []
    assert host.registry.modes["talk"].source == stronger / "talk.yaml"
    with pytest.raises(ModeRefused, match="none of your own"):
        delete_mode(host, "talk")


def test_a_disk_that_cannot_be_written_is_told_and_changes_nothing(
    host: RealHost, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_mode(host, talk())

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gpumod_tui.adapters.files.atomic.os.fsync", full)
    with pytest.raises(ModeRefused, match="No space left"):
        save_mode(host, talk("vllm-embedding"), replaces=True)
    monkeypatch.undo()
    assert [file.name for file in own.iterdir()] == ["talk.yaml"]
    assert "glm-code" in (own / "talk.yaml").read_text()


@pytest.mark.parametrize(
    ("mode", "word"),
    [
        (Mode("Bad Id", "x", ("glm-code",)), "an id: a to z"),
        (Mode("../up", "x", ("glm-code",)), "an id: a to z"),
        (Mode("x" * 50, "x", ("glm-code",)), "at most 49"),
        (Mode("", "x", ("glm-code",)), "an id: a to z"),
        (Mode("x", "a\nb", ("glm-code",)), "without control characters"),
        (Mode("x", "x", ("glm-cod",)), "did you mean that"),
        (Mode("x", "x", ("glm-code",), "\ud800"), "expected text"),
        (Mode("blank", "x", ("glm-code",)), "built in"),
        (Mode("x", "x", ()), "holds no service"),
    ],
)
def test_what_is_no_mode_is_refused_in_words(host: RealHost, own: Path, mode: Mode, word: str) -> None:
    with pytest.raises((PresetInvalid, ModeRefused), match=word):
        save_mode(host, mode, replaces=True)
    assert not own.exists()


def test_only_modes_that_are_there_can_be_deleted(host: RealHost) -> None:
    with pytest.raises(UnknownName):
        delete_mode(host, "talk")
    with pytest.raises(ModeRefused, match="none of your own"):
        delete_mode(host, "code")


def test_nothing_changes_the_catalog_under_a_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    host = DemoHost()
    manager = Manager(host)
    monkeypatch.setattr(Manager, "busy", True)
    with pytest.raises(ModeRefused, match="a switch runs"):
        manager.save_mode(talk())
    with pytest.raises(ModeRefused, match="a switch runs"):
        manager.delete_mode("talk")
    assert manager.catalog() is host.registry


class TestCommands:
    @pytest.fixture
    def call(self, host: RealHost, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
        monkeypatch.setattr(mode_cli, "real_host", lambda: RealHost())
        return lambda *arguments, **more: CliRunner().invoke(mode_cli.mode, arguments, **more)

    def test_save_says_where_and_delete_takes_it_back(self, call: Callable[..., Result], own: Path) -> None:
        done = call("save", "talk", "--services", "glm-code, vllm-embedding", "--name", "Talk")
        assert (done.exit_code, f"mode talk saved: {own}/talk.yaml" in done.stdout) == (0, True)
        assert "talk" in call("list").stdout
        again = call("save", "talk", "--services", "glm-code")
        assert isinstance(again.exception, ModeRefused)
        assert again.exception.hint.startswith("--force")
        told = json.loads(call("save", "talk", "--description", "Chat", "--force", "--json").stdout)
        assert told["mode"]["services"] == ["glm-code", "vllm-embedding"]
        assert (told["mode"]["name"], told["mode"]["description"], told["shadows"]) == ("Talk", "Chat", None)
        assert json.loads(call("delete", "talk", "--json").stdout)["file"] == f"{own}/talk.yaml"
        assert "talk" not in call("list").stdout

    def test_a_shadowed_mode_is_named(self, call: Callable[..., Result]) -> None:
        done = call("save", "code", "--services", "vllm-embedding", "--force")
        assert "it goes before" in done.stdout
        assert "is now the one of" in call("delete", "code").stdout

    def test_what_runs_becomes_a_mode(self, call: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
        played = DemoHost(running=["vllm-embedding", "glm-code"])
        monkeypatch.setattr(mode_cli, "real_host", lambda: played)
        assert call("save", "now", "--from-running").exit_code == 0
        assert set(played.registry.modes["now"].services) == {"vllm-embedding", "glm-code"}

    def test_the_mode_at_login_is_missed(self, call: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
        played = DemoHost()
        monkeypatch.setattr(mode_cli, "real_host", lambda: played)
        for mode, words in (("talk", "talk is still the mode at login"), ("code", "")):
            call("save", mode, "--services", "glm-code", "--force")
            Manager(played).set_login_mode(mode)
            done = call("delete", mode)
            assert (done.exit_code, words in done.stderr, bool(done.stderr)) == (0, True, bool(words))

    @pytest.mark.parametrize("arguments", ["save x", "save x --from-running --services glm-code"])
    def test_usage(self, call: Callable[..., Result], arguments: str) -> None:
        assert call(*arguments.split()).exit_code == 2
