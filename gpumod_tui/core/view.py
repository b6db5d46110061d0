"""What the dashboard remembers from one time to the next; losing it loses nothing else."""

from dataclasses import dataclass

from gpumod_tui.core.catalog.config import Theme


@dataclass(frozen=True, slots=True)
class View:
    """How an operator left it."""

    theme: Theme | None = None
    unit: str = ""
    """Service id of the selected unit; empty: none."""
    unit_order: str = "catalog"
    """How units were sorted."""
    unit_filter: str = ""
    """Words; empty: all units."""
    log_units: tuple[str, ...] = ()
    """Service ids of those whose journal was shown; empty: all."""
    log_level: int = 7
    """The largest journal priority that was shown."""
    log_filter: str = ""
    """A regular expression; empty: none."""
    log_rows: int = 3
    """At most so many rows of the screen for one line."""
    zoomed: bool = False
    """The journal had the screen."""
    window_min: int = 0
    """Minutes of the graph; 0: as many as usual."""
    graphs: bool | None = None
    """Graphs, or bars in their place; None: as there is room."""
