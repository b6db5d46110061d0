"""How an operator wants the dashboard; no Textual here, since the command line fills it in."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from gpumod_tui.core.catalog.config import Confirm, Theme


@dataclass(frozen=True, slots=True)
class ViewOptions:
    """Settings of config.yaml and flags of the command line, put together."""

    theme: Theme | None = None
    """None: the one that was on when the dashboard was left, else dark."""
    ascii_only: bool = False
    """No box, block or braille characters."""
    mouse: bool = True
    read_only: bool = False
    """No command leaves the dashboard."""
    keys: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Other keys, comma-separated, by the binding's id."""
    keys_from: str = "config.yaml"
    """The file that `keys` come from."""
    confirm: Confirm = Confirm.ALWAYS
    bell_after_s: float = 10.0
    """A switch that took longer rings when it ends; 0: never."""
