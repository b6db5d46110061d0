"""What NVIDIA's Xid errors mean, for those that servers of models meet."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

_MEANINGS: Final[Mapping[int, str]] = MappingProxyType(
    {
        13: "a program's fault on the GPU",
        31: "a program touched memory it does not have",
        43: "a program was stopped on the GPU",
        45: "a program's work was cleared after a fault",
        48: "ECC error that cannot be corrected",
        61: "the GPU's firmware stopped",
        62: "the GPU's firmware stopped",
        63: "a bad piece of memory was retired",
        64: "a bad piece of memory could not be retired",
        74: "NVLink error",
        79: "the GPU fell off the bus: reboot",
        92: "many ECC errors were corrected",
        94: "memory error, only its program is hit",
        95: "memory error, other programs may be hit: reset the GPU",
        119: "the GPU's firmware does not answer: reset the GPU",
        120: "the GPU's firmware failed: reset the GPU",
    }
)


def xid_words(number: int) -> str:
    """`Xid 79: the GPU fell off the bus: reboot`; the number alone where it is a rare one."""
    meaning = _MEANINGS.get(number)
    return f"Xid {number}: {meaning}" if meaning else f"Xid {number}: see NVIDIA's list of Xid errors"
