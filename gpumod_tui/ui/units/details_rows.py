"""Everything about one unit as rows of words; pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from rich.style import Style

from gpumod_tui.core.status.details import ProcessView, UnitDetails
from gpumod_tui.core.text import number_of
from gpumod_tui.ui.common import format as fmt
from gpumod_tui.ui.common.rows import Row, chop, rule, wrap
from gpumod_tui.ui.theme.styles import ACCENT, BAD, DIM, GOOD, STRONG, TEXT, WARN, UnitColours

SECTIONS: Final = ("State", "Memory", "Processes", "Depends", "Unit file", "Journal")
_NAME: Final = 15
_SHOWN: Final = ("Slice", "Restart", "DropInPaths", "InvocationID", "TasksCurrent")
"""Properties that are shown as systemd words them."""
_DEPENDENCIES: Final = (
    *("Requires", "Requisite", "Wants", "BindsTo", "PartOf", "Conflicts", "After", "Before"),
    *("RequiredBy", "WantedBy", "TriggeredBy"),
)
_SIGNALS: Final = ("2", "3")
"""CLD_KILLED and CLD_DUMPED in ExecMainCode."""
_MOST_WRAPPED: Final = 8


@dataclass(frozen=True, slots=True)
class Page:
    """All lines, and where each part begins."""

    lines: tuple[Row, ...]
    starts: Mapping[str, int]


def page_of(details: UnitDetails, width: int, now: float, colours: UnitColours, *, fault: str = "") -> Page:
    """For a screen of this width. `fault`: why the newest look failed, and this is an older one."""
    lines: list[Row] = []
    starts: dict[str, int] = {}
    for text in (*([f"not read again: {fault}"] if fault else []), *details.faults):
        lines += [[(f" {part}", BAD)] for part in wrap(text, width - 2)]
    parts = {
        "State": _state(details, width, now),
        "Memory": _memory(details, width),
        "Processes": _processes(details, width, now),
        "Depends": _depends(details, width),
        "Unit file": _unit_file(details, width),
        "Journal": _journal(details, width, colours),
    }
    for number, section in enumerate(SECTIONS, 1):
        starts[section] = len(lines)
        lines.append(rule([(f"{number} {section}", ACCENT)], [], width))
        lines += list(parts[section])
    return Page(tuple(lines), starts)


def _fact(name: str, text: str, width: int, style: Style = TEXT) -> Iterator[Row]:
    room = width - _NAME - 2
    parts = [part for line in wrap(text, room) for part in chop(line, room, _MOST_WRAPPED)]
    for number, part in enumerate(parts[:_MOST_WRAPPED]):
        yield [(f" {name if not number else '':<{_NAME}}", DIM), (part, style)]


def _state(details: UnitDetails, width: int, now: float) -> Iterator[Row]:
    state, shown = details.state, details.properties
    if shown.get("Description"):
        yield from _fact("what", shown["Description"], width, STRONG)
    words = f"{state.active_state} {state.sub_state}"
    since = f", since {fmt.clock(state.since)} ({fmt.ago(state.since, now)})" if state.since is not None else ""
    yield from _fact("state", words + since, width)
    if state.load_state != "loaded":
        yield from _fact("unit", state.load_state, width, BAD)
    good = state.result == "success"
    yield from _fact("last result", state.result, width, TEXT if good else BAD)
    yield from _fact("last exit", _exit(details), width)
    yield from _fact("restarts", f"{state.restarts} since it was last started by request", width)
    yield from _fact("at login", _login(shown.get("UnitFileState", "")), width)
    if state.main_pid is not None:
        yield from _fact("main pid", str(state.main_pid), width)
    if shown.get("NeedDaemonReload") == "yes":
        yield from _fact("file changed", "systemd has not read it again: systemctl --user daemon-reload", width, WARN)
    service = details.service
    if service is None:
        yield from _fact("preset", "broken or gone", width, BAD)
    else:
        yield from _fact("preset", str(service.source or "built in"), width)
        yield from _fact("driver", service.driver, width)
        if service.port is not None:
            held = ", held by the guard" if service.is_guarded else ""
            yield from _fact("port", f"{service.port}{held}", width)
        if service.model_id or service.default_model:
            yield from _fact("model", service.default_model or service.model_id or "", width)
    for name in _SHOWN:
        if shown.get(name):
            yield from _fact(name, shown[name], width, DIM)


def _exit(details: UnitDetails) -> str:
    shown, status = details.properties, details.state.exit_status
    if status is None:
        return "none yet"
    by_signal = shown.get("ExecMainCode") in _SIGNALS
    when = shown.get("ExecMainExitTimestamp", "")
    return f"{'signal' if by_signal else 'exit status'} {status}{f', {when}' if when else ''}"


def _login(file_state: str) -> str:
    if file_state.startswith("enabled"):
        return f"started ({file_state})"
    return f"not started ({file_state or 'unknown'})"


def _memory(details: UnitDetails, width: int) -> Iterator[Row]:
    state = details.state
    used = [process.used_bytes for process in details.processes]
    held = None if None in used else sum(amount for amount in used if amount is not None)
    declared = details.service.vram_bytes if details.service is not None else None
    yield from _fact("VRAM held", f"{fmt.gib(held)} GiB" if held is not None else fmt.UNKNOWN, width, STRONG)
    yield from _fact("declared", f"{fmt.gib(declared)} GiB" if declared is not None else "nothing", width)
    for text in details.needs:
        yield from _fact("need", text, width)
    ram = f"{fmt.gib(state.memory_bytes)} GiB" if state.memory_bytes is not None else fmt.UNKNOWN
    peak_bytes = number_of(details.properties.get("MemoryPeak", ""))
    most = "" if peak_bytes is None else f", at most {fmt.gib(peak_bytes)}"
    yield from _fact("host memory", ram + most, width)
    cpu = fmt.seconds(state.cpu_usage_ns / 1e9) if state.cpu_usage_ns is not None else fmt.UNKNOWN
    yield from _fact("CPU used", cpu, width)


def _processes(details: UnitDetails, width: int, now: float) -> Iterator[Row]:
    if not details.processes:
        yield [(" none", DIM)]
    for process in details.processes:
        yield from _process(process, width, now)


def _process(process: ProcessView, width: int, now: float) -> Iterator[Row]:
    gpus = ",".join(map(str, process.gpus))
    held = "" if process.used_bytes == 0 else f"  {fmt.gib(process.used_bytes)} GiB on GPU {gpus}"
    age = f"  {fmt.ago(process.started_at, now)}" if process.started_at is not None else ""
    kernel = "  waits in the kernel (D)" if process.state == "D" else ""
    yield [(f" {process.pid:<8}", STRONG), (f"{process.user}{age}", TEXT), (held, GOOD), (kernel, BAD)]
    command = fmt.harmless(process.arguments or process.command)
    for part in chop(command, width - 11, _MOST_WRAPPED):
        yield [(f"{'':<10}{part}", DIM)]


def _depends(details: UnitDetails, width: int) -> Iterator[Row]:
    service = details.service
    needs = ", ".join(service.depends_on) if service is not None else ""
    yield from _fact("needs", needs or "no other service", width)
    yield from _fact("needed by", ", ".join(details.needed_by) or "no other service", width)
    for name in _DEPENDENCIES:
        if details.properties.get(name):
            yield from _fact(name, details.properties[name], width, DIM)


def _unit_file(details: UnitDetails, width: int) -> Iterator[Row]:
    path = details.state.fragment_path
    if path:
        yield from _fact("file", path, width)
    for part in wrap(details.diff_note, width - 2):
        yield [(f" {part}", WARN if details.diff else DIM)]
    if details.diff:
        yield [(" - as installed", BAD), ("   + as in its preset", GOOD)]
    for text in details.diff:
        style = GOOD if text.startswith("+") else BAD if text.startswith("-") else DIM
        for part in chop(fmt.harmless(text), width - 4, _MOST_WRAPPED):
            yield [(f"   {part}", style)]
    if details.text is None:
        return
    yield []
    for text in details.text.splitlines():
        style = ACCENT if text.startswith("[") else DIM if text.startswith(("#", ";")) else TEXT
        for part in chop(fmt.harmless(text), width - 2, _MOST_WRAPPED):
            yield [(f" {part}", style)]


def _journal(details: UnitDetails, width: int, colours: UnitColours) -> Iterator[Row]:
    if not details.journal:
        yield [(" no lines", DIM)]
    for line in details.journal:
        style = BAD if line.priority <= 3 else WARN if line.priority == 4 else TEXT
        head = f" {fmt.clock(line.at, with_seconds=True)} "
        room = max(10, width - len(head) - 1)
        for number, part in enumerate(chop(fmt.harmless(line.message), room, _MOST_WRAPPED)):
            yield [(head if not number else " " * len(head), colours.style(details.service_id)), (part, style)]
