"""Who would have to end so that there is room."""

from collections.abc import Iterable

from gpumod_tui.core.models import Holder, whereabouts
from gpumod_tui.core.quantities import format_mib


def relief(holders: Iterable[Holder], short_bytes: int) -> str:
    """A sentence on the fewest processes that hold what is short: what to stop, or that stopping does not help."""
    known = sorted(
        ((holder.used_bytes, holder) for holder in holders if holder.used_bytes and not holder.is_gone),
        key=lambda pair: (pair[0], pair[1].pid),
    )
    chosen = [next((holder for used, holder in known if used >= short_bytes), None)]
    if chosen == [None]:
        chosen, left = [], short_bytes
        for used, holder in reversed(known):
            if left > 0:
                chosen.append(holder)
                left -= used
        if left > 0:
            return "no process that is known holds enough: choose a smaller model or context"
    named = " and ".join(_named(holder) for holder in chosen if holder is not None)
    return f"it would fit without {named}; or choose a smaller model or context"


def _named(holder: Holder) -> str:
    size = format_mib(holder.used_bytes)
    if holder.unit is None:
        return f"{holder.command} pid {holder.pid} ({size}, {whereabouts(holder.elsewhere, holder.user)})"
    return f"{holder.unit.removesuffix('.service')} (pid {holder.pid}, {size})"
