"""All ports of one host, and the settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from gpumod_tui.core.text import MIB
from gpumod_tui.core.units.guard import GuardAction

if TYPE_CHECKING:
    from gpumod_tui.core.catalog.registry import ServiceRegistry
    from gpumod_tui.core.ports import (
        Clock,
        Drivers,
        Gpus,
        Journal,
        LoginModes,
        ModeFiles,
        Processes,
        RenderUnit,
        UnitFiles,
        Units,
    )
    from gpumod_tui.core.switch.records import SwitchStore


@dataclass(frozen=True, slots=True)
class Settings:
    """What the user may set for switches."""

    vram_margin_bytes: int = 512 * MIB
    """Kept free on each GPU beyond all needs."""
    release_timeout_s: float = 30.0
    guard_allow: frozenset[GuardAction] = frozenset()


class Host(Protocol):
    """Satisfied by the real host and by the demo; each part is built when it is first asked for."""

    @property
    def registry(self) -> ServiceRegistry:
        """The catalog."""

    def reload(self) -> ServiceRegistry:
        """Read presets and settings anew; `registry` and `settings` are the new ones from then on.

        Raises: ConfigInvalid.
        """

    @property
    def mode_files(self) -> ModeFiles:
        """The user's own modes."""

    @property
    def settings(self) -> Settings:
        """From config.yaml."""

    @property
    def gpus(self) -> Gpus:
        """NVML."""

    @property
    def units(self) -> Units:
        """systemd."""

    @property
    def processes(self) -> Processes:
        """/proc."""

    @property
    def journal(self) -> Journal:
        """journald."""

    @property
    def drivers(self) -> Drivers:
        """Servers."""

    @property
    def unit_files(self) -> UnitFiles:
        """Installed units."""

    @property
    def render_unit(self) -> RenderUnit:
        """What `template install` would write."""

    @property
    def store(self) -> SwitchStore:
        """State on disk."""

    @property
    def clock(self) -> Clock:
        """Time."""

    @property
    def login_mode(self) -> LoginModes:
        """The mode at login."""
