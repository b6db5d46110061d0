"""Done means: systemd and the servers agree."""

from gpumod_tui.core.observation import look
from gpumod_tui.core.switch.steps.context import Run, StepFailed
from gpumod_tui.core.text import format_mib


def verify(run: Run) -> str:
    """Raises: StepFailed, SystemdUnavailable."""
    survey = look(run.host, run.target.services)
    run.check_alive()
    wrong = []
    for name in run.target.brought_up:
        sighting = survey.units[name]
        if not sighting.is_ready:
            state = sighting.state
            health = "asleep" if sighting.asleep else sighting.probe.health if sighting.probe else "no port"
            seen = f"{state.active_state} {state.sub_state}, {health}"
            wrong.append(run.unit_error(state.unit, f"{state.unit} is not ready any more: {seen}", state))
        elif run.target.load_models and sighting.wants_load:
            model = sighting.service.default_model if sighting.service else None
            wrong.append(run.unit_error(sighting.state.unit, f"{model} is not loaded any more in {name}"))
    if wrong:
        raise StepFailed(*wrong)
    wanted = frozenset((*run.target.services, *run.slept, *run.plan.asleep))
    extra = [name for name, sighting in survey.units.items() if name not in wanted and not sighting.is_down]
    if extra and run.target.stop is None:
        run.warnings.append(f"started meanwhile by somebody else: {', '.join(extra)}")
    if survey.reading is None:
        return "systemd agrees; VRAM unknown"
    free = ", ".join(f"GPU {gpu.index} {format_mib(gpu.free_bytes)} free" for gpu in survey.reading.gpus)
    return f"systemd agrees; {free}"
