"""The mode that a user unit switches to at login, or at boot where the user lingers."""

from dataclasses import dataclass
from typing import Final

LOGIN_ID: Final = "gpumod-mode"
"""No service may be named so."""
LOGIN_UNIT: Final = f"{LOGIN_ID}.service"


@dataclass(frozen=True, slots=True)
class LoginMode:
    """How that unit stands."""

    mode: str | None = None
    """None: no such unit is installed, or its file does not say."""
    file: str = "missing"
    """As `template list` shows files: missing, current, outdated, hand-edited, foreign."""
    enabled: bool = False
    failed: bool = False
    """It ran, and the mode was not reached."""
    lingers: bool | None = None
    """Whether the user's units begin at boot; None: there is no logind to ask."""
    user: str = ""

    @property
    def note(self) -> str:
        """What keeps it from happening at boot; empty: nothing."""
        if self.mode is None or self.lingers is not False:
            return ""
        return f"at boot only with lingering: loginctl enable-linger {self.user}".rstrip()
