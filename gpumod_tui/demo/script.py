"""How a played unit behaves; every field may be changed at any time, and holds from the unit's next move on."""

from dataclasses import dataclass

from gpumod_tui.core.models import DriverKind, Service


@dataclass(slots=True)
class Script:
    """Times in seconds of the host's clock."""

    start_s: float = 0.04
    """From the start job to active/running."""
    ready_s: float = 0.3
    """From active to ready."""
    stop_s: float = 0.4
    """From SIGTERM to the last process's end."""
    load_s: float = 6.0
    """A router's model load."""
    held_share: float = 0.975
    """What it really holds, as a share of what it declares."""
    start_fails: int = 0
    """How many of the next starts fail after `ready_s`; negative: all."""
    load_fails: int = 0
    """How many of the next model loads fail; negative: all."""
    load_never_ends: bool = False
    never_ready: bool = False
    dead: bool = False
    """The health endpoint answers that the server cannot recover."""
    ignores_stop: bool = False
    """Only SIGKILL ends it."""
    ignores_kill: bool = False
    """Stuck in the kernel (D state): nothing ends it."""
    systemd_kills_after_s: float | None = None
    """When systemd itself sends SIGKILL after a stop; None: never."""
    auto_restart: bool = False
    """A failed start or a death is tried again after `restart_s`, five times at most."""
    restart_s: float = 0.5
    exec_condition_fails: bool = False
    refuses: str = ""
    """Why systemd refuses start and stop requests; empty: it does not."""
    installed: bool = True
    enabled: bool = False
    """It starts at login."""
    missing: tuple[str, ...] = ()
    """What UnitFiles.missing_files says."""
    sleep_share: float = 0.2
    """What it holds asleep, as a share of what it holds awake; 1: its memory does not come back."""
    sleep_s: float = 0.0
    wake_s: float = 0.0
    sleep_fails: bool = False
    wake_fails: bool = False
    probe_hangs_s: float = 0.0
    """How long a probe takes before it answers."""


def default_script(service: Service) -> Script:
    """Times as measured on such servers, load times cut to a tenth."""
    if service.driver is DriverKind.VLLM:
        big = (service.vram_bytes or 0) > 8 * 1024**3
        return Script(ready_s=9.0 if big else 5.0, stop_s=1.2)
    if service.driver is DriverKind.LLAMACPP and not service.is_router:
        return Script(ready_s=4.0)
    return Script()
