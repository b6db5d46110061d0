"""Look, plan, and refuse before anything stops."""

from dataclasses import replace
from typing import Final

from gpumod_tui.core.admission.commitments import ORPHAN_S
from gpumod_tui.core.events import Planned, Step
from gpumod_tui.core.observation import look
from gpumod_tui.core.switch.plan import plan_switch
from gpumod_tui.core.switch.records import SwitchError
from gpumod_tui.core.switch.results import Blocker, SwitchPlan
from gpumod_tui.core.switch.steps.context import Run, StepFailed
from gpumod_tui.core.vram.sleep import GRACE_S

REPLAN_S: Final = 0.25


def preflight(run: Run) -> str:
    """Raises: StepFailed, Cancelled."""
    plan = run.waiter.until(lambda: _look_and_plan(run), limit_s=GRACE_S, interval_s=REPLAN_S)
    if plan is None and run.survey.settling:
        plan = run.waiter.until(lambda: _look_and_plan(run), limit_s=ORPHAN_S, interval_s=GRACE_S)
    plan = plan or run.plan
    run.report(Planned(plan))
    run.warnings += plan.warnings
    if plan.blockers:
        raise StepFailed(
            *(SwitchError(blocker.reason, hint=blocker.hint, holders=blocker.holders) for blocker in plan.blockers)
        )
    if run.survey.gpu_error is not None:
        run.warnings.append(f"VRAM could not be measured: {run.survey.gpu_error}")
    run.waiter.checkpoint()
    return "; ".join(str(row) for row in plan.arithmetic if row.need_bytes) or "nothing to fit"


def _look_and_plan(run: Run) -> SwitchPlan | None:
    """None while all that is in the way is memory of something that ended a moment ago."""
    run.surveyed = look(run.host, run.target.services)
    margin_bytes = run.host.settings.vram_margin_bytes
    run.planned = plan_switch(run.host.registry, run.survey, run.target, margin_bytes=margin_bytes)
    if not run.plan.blockers and run.plan.promises:
        ending = frozenset(f"{name}.service" for name in (*run.plan.stop, *run.plan.restart, *run.plan.sleep))
        left: dict[int, int] = {}
        for leaves in run.plan.leaves.values():
            for gpu, amount in leaves.items():
                left[gpu] = left.get(gpu, 0) + amount
        refused = run.host.admission.promise(run.lock.record.id, run.plan.promises, ending, left)
        if refused is not None:
            blocker = Blocker(str(refused), "", refused.holders, may_pass=refused.may_pass)
            run.planned = replace(run.plan, blockers=(blocker,))
    if run.plan.blockers and all(blocker.may_pass for blocker in run.plan.blockers):
        run.progress(Step.PREFLIGHT, str(run.plan.blockers[0]))
        return None
    return run.plan
