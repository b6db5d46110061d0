"""When memory that is on its way back counts as standing still."""

from typing import Final

from gpumod_tui.core.quantities import MIB

STILL_BYTES: Final = 64 * MIB
"""Free memory that moves less than this is still."""
STILL_S: Final = 1.0
GRACE_S: Final = 5.0
"""So long after the stop an unlisted process may still be in the NVIDIA driver's hands."""
