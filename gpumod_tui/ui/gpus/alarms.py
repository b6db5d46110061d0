"""What of the GPUs is an alarm: it stays until somebody has acknowledged it, or until it is gone."""

from dataclasses import dataclass

from gpumod_tui.core.models import GpuReading
from gpumod_tui.core.status.markers import xid_words
from gpumod_tui.ui.common import format as fmt


@dataclass(frozen=True, slots=True)
class Alarm:
    """One thing that is wrong with one GPU."""

    gpu: int
    """Its index."""
    key: str
    """The same for as long as it is the same trouble."""
    words: str


def alarms_of(reading: GpuReading | None) -> tuple[Alarm, ...]:
    """All that a reading tells, the worst of each GPU first."""
    found = []
    for sample in reading.gpus if reading else ():
        if sample.error is not None:
            found.append(Alarm(sample.index, f"{sample.index} {sample.error}", sample.error))
        for xid in reversed(sample.xids or ()):
            key = f"{sample.index} Xid {xid.number} {xid.at}"
            found.append(Alarm(sample.index, key, f"{fmt.clock(xid.at)} {xid_words(xid.number)}"))
        if sample.ecc_errors:
            errors = "error" if sample.ecc_errors == 1 else "errors"
            words = f"{sample.ecc_errors} memory {errors} that ECC could not correct"
            found.append(Alarm(sample.index, f"{sample.index} ECC {sample.ecc_errors}", words))
    return tuple(found)


class AlarmBook:
    """Knows what was acknowledged."""

    def __init__(self) -> None:
        self._acknowledged: frozenset[str] = frozenset()
        self._open: tuple[Alarm, ...] = ()

    @property
    def open(self) -> tuple[Alarm, ...]:
        """What nobody has acknowledged."""
        return self._open

    def take(self, reading: GpuReading) -> None:
        """A new reading; what is gone and comes back is a new alarm."""
        found = alarms_of(reading)
        self._acknowledged &= {alarm.key for alarm in found}
        self._open = tuple(alarm for alarm in found if alarm.key not in self._acknowledged)

    def acknowledge(self) -> None:
        """All that is open now."""
        self._acknowledged |= {alarm.key for alarm in self._open}
        self._open = ()

    def of(self, gpu: int) -> tuple[Alarm, ...]:
        """The open ones of one GPU."""
        return tuple(alarm for alarm in self._open if alarm.gpu == gpu)
