"""The recorded mode against what runs."""

import dataclasses
from types import MappingProxyType

import pytest

from gpumod_tui.core.catalog.registry import ServiceRegistry
from gpumod_tui.core.models import (
    ActiveState,
    Health,
    Mode,
    ModelState,
    ModelStatus,
    ModeTruth,
    OnLeave,
    Probe,
    ServiceView,
    UnitState,
)
from gpumod_tui.core.status.mode_status import Recorded, mode_view
from gpumod_tui.demo.catalog import demo_registry

REGISTRY = demo_registry()
CODE = Recorded("code", since=100.0)


def view(service_id: str, state: ActiveState, health: Health | None = Health.READY) -> ServiceView:
    unit = UnitState(f"{service_id}.service", active_state=state, result="exit-code")
    return ServiceView(service_id, REGISTRY.services.get(service_id), unit, Probe(health) if health else None)


def test_reached_when_everything_of_the_mode_is_ready_and_nothing_else_runs() -> None:
    found = mode_view(
        REGISTRY, CODE, [view("glm-code", ActiveState.ACTIVE), view("nemotron-3-nano", ActiveState.FAILED)]
    )
    assert (found.truth, found.mode, found.since) == (ModeTruth.REACHED, "code", 100.0)


@pytest.mark.parametrize(
    ("state", "health", "note"),
    [
        (ActiveState.FAILED, None, "glm-code failed (exit-code)"),
        (ActiveState.INACTIVE, None, "glm-code does not run"),
        (ActiveState.ACTIVE, Health.LOADING, "glm-code is not ready"),
        (ActiveState.ACTIVATING, None, "glm-code is activating"),
    ],
)
def test_partial_names_what_is_missing(state: ActiveState, health: Health | None, note: str) -> None:
    found = mode_view(REGISTRY, CODE, [view("glm-code", state, health)])
    assert (found.truth, found.note) == (ModeTruth.PARTIAL, note)


def test_partial_when_systemd_has_no_such_unit() -> None:
    assert mode_view(REGISTRY, CODE, []).note == "glm-code is not installed"


def test_drifted_names_what_is_too_much_also_where_its_preset_is_gone() -> None:
    found = mode_view(REGISTRY, CODE, [view("glm-code", ActiveState.ACTIVE), view("gone", ActiveState.ACTIVE)])
    assert (found.truth, found.note) == (ModeTruth.DRIFTED, "gone runs too")


def test_blank_is_drifted_as_soon_as_anything_runs() -> None:
    assert mode_view(REGISTRY, Recorded("blank"), []).truth is ModeTruth.REACHED
    assert mode_view(REGISTRY, Recorded("blank"), [view("glm-code", ActiveState.ACTIVE)]).truth is ModeTruth.DRIFTED


def left(service_id: str, on_leave: OnLeave, status: ModelStatus) -> ServiceView:
    seen = view(service_id, ActiveState.ACTIVE)
    assert seen.service is not None
    service = dataclasses.replace(seen.service, on_leave=on_leave)
    return dataclasses.replace(seen, service=service, models=(ModelState("m", status),))


@pytest.mark.parametrize(
    ("mode", "service_id", "on_leave", "status", "truth"),
    [
        ("code", "vllm-embedding", OnLeave.SLEEP, ModelStatus.SLEEPING, ModeTruth.REACHED),
        ("code", "vllm-embedding", OnLeave.SLEEP, ModelStatus.LOADED, ModeTruth.DRIFTED),
        ("code", "vllm-embedding", OnLeave.STOP, ModelStatus.LOADED, ModeTruth.DRIFTED),
        ("code", "nemotron-3-nano", OnLeave.SLEEP, ModelStatus.UNLOADED, ModeTruth.REACHED),
        ("code", "nemotron-3-nano", OnLeave.SLEEP, ModelStatus.LOADING, ModeTruth.DRIFTED),
        ("code", "nemotron-3-nano", OnLeave.STOP, ModelStatus.UNLOADED, ModeTruth.DRIFTED),
        ("blank", "vllm-embedding", OnLeave.SLEEP, ModelStatus.SLEEPING, ModeTruth.DRIFTED),
    ],
)
def test_what_was_left_to_sleep_is_no_drift_while_it_sleeps_but_in_blank(
    mode: str, service_id: str, on_leave: OnLeave, status: ModelStatus, truth: ModeTruth
) -> None:
    views = [left(service_id, on_leave, status)]
    if mode == "code":
        views.append(view("glm-code", ActiveState.ACTIVE))
    assert mode_view(REGISTRY, Recorded(mode), views).truth is truth


GLM = "GLM-4.7-Flash-UD-Q4_K_XL"


@pytest.mark.parametrize(
    ("models", "truth", "note"),
    [
        ((), ModeTruth.REACHED, ""),
        ((ModelState(GLM, ModelStatus.LOADED),), ModeTruth.REACHED, ""),
        ((ModelState(GLM, ModelStatus.SLEEPING),), ModeTruth.REACHED, ""),
        ((ModelState(GLM, ModelStatus.UNLOADED),), ModeTruth.PARTIAL, f"not loaded: {GLM}"),
        ((ModelState(GLM, ModelStatus.LOADING),), ModeTruth.PARTIAL, f"loading: {GLM}"),
        ((ModelState("other", ModelStatus.LOADED),), ModeTruth.PARTIAL, f"not loaded: {GLM}"),
    ],
)
def test_a_routers_default_model_belongs_to_the_mode_as_far_as_the_router_tells(
    models: tuple[ModelState, ...], truth: ModeTruth, note: str
) -> None:
    seen = dataclasses.replace(view("glm-code", ActiveState.ACTIVE), models=models)
    found = mode_view(REGISTRY, CODE, [seen])
    assert (found.truth, found.note) == (truth, note)


def test_unknown_says_why() -> None:
    failed = mode_view(REGISTRY, Recorded(note="switch to rag failed at start"), [])
    assert (failed.truth, failed.note) == (ModeTruth.UNKNOWN, "switch to rag failed at start")
    assert mode_view(REGISTRY, Recorded(), []).note == "no switch was recorded yet"
    assert "no mode 'gone'" in mode_view(REGISTRY, Recorded("gone"), []).note
    broken = ServiceRegistry(modes=MappingProxyType({"m": Mode("m", "M", ("nothing",))}))
    assert mode_view(broken, Recorded("m"), []).truth is ModeTruth.UNKNOWN
