"""The columns of the unit table: how many fit, and what stands in them; pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from rich.style import Style

from gpumod_tui.core.models import ActiveState, Health, Holder, ModelState, ModelStatus, ServiceView
from gpumod_tui.ui.common import format as fmt
from gpumod_tui.ui.common.rows import Row, clip_middle, pad, rpad
from gpumod_tui.ui.theme.styles import BAD, DIM, FOREIGN, GOOD, TEXT, WARN

WIDE: Final = 100
"""Columns from which on names may be longer."""
USUAL: Final = 64
"""From which on there are bars, and since when."""
_MODEL_LEAST: Final = 18
_MODEL_GOOD: Final = 30
_WISHES: Final = (
    *(("port", 6), ("model", _MODEL_LEAST), ("cpu", 7), ("memory", 8)),
    *(("gpu", 5), ("restarts", 9), ("login", 7)),
)
"""What is shown where there is room, the most wanted first, with its cells."""
_WIDTHS: Final = dict(_WISHES)
_TITLES: Final = {"gpu": "GPU", "cpu": "CPU", "memory": "RAM GiB"}
_EXTRA: Final = ("gpu", "cpu", "memory", "restarts", "login")
"""From left to right."""
_READY: Final = 6
_SINCE: Final = 8
_STATE_LEAST: Final = 8
_STATE: Final = 17
_STATE_MOST: Final = 26
_BAR: Final = 8
_BAR_MOST: Final = 20
_STATES: Final[Mapping[ActiveState, Style]] = {
    ActiveState.ACTIVE: GOOD,
    ActiveState.RELOADING: WARN,
    ActiveState.ACTIVATING: WARN,
    ActiveState.DEACTIVATING: WARN,
    ActiveState.FAILED: BAD,
}


@dataclass(frozen=True, slots=True)
class Columns:
    """How wide each column is; 0: it is left out."""

    name: int
    state: int
    port: int
    bar: int
    """Cells of the bar itself; measured and declared stand beside it."""
    model: int
    since: int
    extra: tuple[str, ...]

    @property
    def memory(self) -> int:
        """Cells of what is held, with its bar and what is declared."""
        return _memory_width(self.bar) if self.bar else 6


def _memory_width(bar: int) -> int:
    return 1 + 5 + 1 + bar + 1 + 5


def columns(width: int, longest_name: int) -> Columns:
    """What fits."""
    if width < USUAL:
        name = max(8, min(longest_name, 18, width - 3 - 2 - 9 - 3 - 6))
        return Columns(name, max(8, width - 3 - name - 2 - 3 - 6), 0, 0, 0, 0, ())
    rest = 3 + 2 + _READY + _memory_width(_BAR) + _SINCE
    name = min(longest_name, 24 if width >= WIDE else 18, width - rest - _STATE_LEAST)
    state = min(_STATE, width - rest - name)
    left = width - rest - name - state
    there = []
    for what, cells in _WISHES:
        if cells <= left:
            there.append(what)
            left -= cells
    extra = tuple(what for what in _EXTRA if what in there)
    port = _WIDTHS["port"] if "port" in there else 0
    if "model" not in there:
        return Columns(name, state + left, port, _BAR, 0, _SINCE, extra)
    model = _MODEL_LEAST + left
    more = min(_STATE_MOST - state, max(0, model - _MODEL_GOOD))
    longer = min(_BAR_MOST - _BAR, max(0, model - more - _MODEL_GOOD) // 2)
    return Columns(name, state + more, port, _BAR + longer, model - more - longer, _SINCE, extra)


def heading(at: Columns, title: str) -> str:
    """The names of the columns, the title in the place of the first."""
    text = f"─ {pad(title, at.name + 2)} {pad('state', at.state)}"
    if not at.since:
        return text + "   GiB "
    text += " ready" + (rpad("port", at.port) if at.port else "")
    text += " " + pad("VRAM / declared GiB", at.memory - 1)
    for what in at.extra:
        text += rpad(_TITLES.get(what, what), _WIDTHS[what])
    text += "  " + pad("model", at.model - 2) if at.model else ""
    return text + "   since"


def unit_cells(view: ServiceView, at: Columns, name_style: Style, colour: Style, now: float, loading_s: float) -> Row:
    """All cells from the name on; `loading_s`: for how long its model has been seen loading."""
    off = view.state.is_down and view.state.active_state is not ActiveState.FAILED
    row: Row = [(pad(clip_middle(view.id, at.name), at.name) + "  ", name_style)]
    row += _state(view, at, colour, loading_s)
    sign, style = _ready(view)
    row.append((f"   {sign}  " if at.since else f" {sign} ", style))
    if at.port:
        port = view.service.port if view.service else None
        row.append((rpad(str(port or fmt.NOTHING), at.port), DIM if off else TEXT))
    row += _memory(view, at, colour)
    for what in at.extra:
        row.append(_extra(view, what, off=off))
    if at.model:
        row += [("  ", TEXT), *_model(view, at.model - 2, colour, loading_s)]
    if at.since:
        row.append(("  " + rpad(fmt.ago(view.state.since, now), _SINCE - 2), DIM))
    return row


def orphan_cells(holder: Holder, at: Columns) -> Row:
    """The same for a process of no managed unit."""
    who = f"pid {holder.pid} {holder.command}"
    if not at.since:
        return [
            (pad(who, at.name + 2 + at.state + 3), FOREIGN),
            (f"{fmt.gib(holder.used_bytes):>5} ", TEXT),
        ]
    row: Row = [(pad(who, at.name + 2 + at.state + _READY + at.port), FOREIGN)]
    row.append((f" {fmt.gib(holder.used_bytes):>5} ", TEXT))
    inside = holder.unit or holder.elsewhere
    where = f", not managed{f' ({inside})' if inside else ''}" if at.model else ""
    return [*row, (f"GiB on GPU {holder.gpu}, user {holder.user}{where}", DIM)]


def loading(view: ServiceView) -> ModelState | None:
    """The model that is on its way."""
    return next((model for model in view.models if model.status is ModelStatus.LOADING), None)


def is_coming(view: ServiceView) -> bool:
    """It runs and is on its way to ready."""
    if view.state.active_state is not ActiveState.ACTIVE or view.is_ready or view.is_asleep:
        return False
    return view.probe is not None and view.probe.health in (Health.LOADING, Health.DOWN)


def _state(view: ServiceView, at: Columns, colour: Style, loading_s: float) -> Row:
    """Where no column tells them, also how far a load is, and how often it was restarted."""
    style = _STATES.get(view.state.active_state, DIM)
    model = loading(view)
    if not at.model and (model is not None or is_coming(view)):
        words = _loading_words(model, loading_s)
        if model is None or model.progress is None or at.state < _STATE:
            forms = (words, words.replace("loading", "load"), words.removeprefix("loading "))
            return [(pad(next((form for form in forms if len(form) <= at.state), forms[-1]), at.state), WARN)]
        done = words.removeprefix("loading")
        full, empty = fmt.bar(model.progress, at.state - 5 - len(done))
        return [("load ", WARN), (full, colour), (empty, DIM), (done, WARN)]
    if view.is_asleep:
        return [(pad("active asleep", at.state), style)]
    words = fmt.state_words(view, at.state)
    again = f" ↻{view.state.restarts}" if view.state.restarts and "restarts" not in at.extra else ""
    if len(words) + len(again) > at.state:
        again = ""
    return [(words, style), (pad(again, at.state - len(words)), WARN)]


def _loading_words(model: ModelState | None, loading_s: float) -> str:
    if model is not None and model.progress is not None:
        return f"loading {model.progress * 100:.0f} %"
    seconds = f"{int(loading_s)} s" if loading_s < 60 else fmt.ago(0.0, loading_s)
    return f"loading {seconds}"


def _ready(view: ServiceView) -> tuple[str, Style]:
    if view.state.active_state is ActiveState.FAILED:
        return "✖", BAD
    if view.state.is_down or view.is_asleep:
        return fmt.NOTHING, DIM
    if view.state.active_state is ActiveState.UNKNOWN:
        return "?", DIM
    if view.is_ready:
        return "●", GOOD
    dead = view.probe is not None and view.probe.health is Health.DEAD
    return ("✖", BAD) if dead else ("○", WARN)


def _memory(view: ServiceView, at: Columns, colour: Style) -> Row:
    declared = view.service.vram_bytes if view.service else None
    measured = view.vram_bytes
    held = fmt.NOTHING if measured == 0 else fmt.gib(measured)
    over = bool(declared and measured and measured > declared)
    if not at.bar:
        return [(f"{held:>5} ", BAD if over else TEXT if measured else DIM)]
    right = fmt.NOTHING if declared is None else fmt.gib(declared)
    if not measured:
        return [(f" {held:>5} {' ' * at.bar} {right:>5}", DIM)]
    full, empty = fmt.bar(measured / declared if declared else 1.0, at.bar)
    return [(f" {held:>5} ", TEXT), (full, BAD if over else colour), (f"{empty} {right:>5}", DIM)]


def _extra(view: ServiceView, what: str, *, off: bool) -> tuple[str, Style]:
    cells = _WIDTHS[what]
    style = DIM if off else TEXT
    if what == "gpu":
        return rpad(_gpus(view), cells), style
    if what == "restarts":
        restarts = view.state.restarts
        return rpad(str(restarts) if restarts else fmt.NOTHING, cells), WARN if restarts else DIM
    if what == "login":
        on = view.state.file_state.startswith("enabled")
        return rpad("yes" if on else fmt.NOTHING, cells), TEXT if on else DIM
    if view.state.is_down:
        return rpad(fmt.NOTHING, cells), DIM
    if what == "cpu":
        return rpad(fmt.percent(view.cpu_percent), cells), style
    return rpad(fmt.gib(view.state.memory_bytes), cells), style


def _gpus(view: ServiceView) -> str:
    """Where it holds memory; where it is meant to, while it holds none."""
    held = sorted(view.vram_by_gpu)
    meant = view.service.gpus if view.service else ()
    return ",".join(map(str, held or (gpu for gpu in meant if isinstance(gpu, int)))) or fmt.NOTHING


def _model(view: ServiceView, width: int, colour: Style, loading_s: float) -> Row:
    """Exactly `width` cells: a bar while it loads, where something tells how far it is."""
    model = loading(view)
    if model is not None or is_coming(view):
        words = _loading_words(model, loading_s)
        done = words.removeprefix("loading ")
        if model is None or model.progress is None or width < len(done) + 7:
            return [(pad(words if len(words) <= width else done, width), WARN)]
        name = model.id.rsplit("/", 1)[-1] + " "
        row: Row = [(name, TEXT)] if len(name) + 12 + len(done) < width else []
        room = min(20, width - len(done) - 1 - (len(name) if row else 0))
        full, empty = fmt.bar(model.progress, room)
        rest = width - room - (len(name) if row else 0)
        return [*row, (full, colour), (empty, DIM), (pad(f" {done}", rest), WARN)]
    words, style = _model_words(view)
    return [(pad(words, width), style)]


def _model_words(view: ServiceView) -> tuple[str, Style]:
    for model in view.models:
        if model.status in (ModelStatus.LOADED, ModelStatus.SLEEPING):
            asleep = "asleep: " if model.status is ModelStatus.SLEEPING else ""
            return asleep + model.id.rsplit("/", 1)[-1], TEXT
    if any(model.exit_code for model in view.models):
        return "load failed, see journal", BAD
    if view.models:
        return "no model loaded", DIM
    if view.probe is not None and view.probe.health is Health.DEAD and not view.state.is_down:
        return view.probe.detail or "dead", BAD
    return fmt.NOTHING, DIM
