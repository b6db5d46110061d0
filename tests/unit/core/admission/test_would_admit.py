"""Nobody loses a model for a load that would not fit without it either."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from gpumod_tui.core.admission.decide import Refused
from gpumod_tui.guard.http.responses import refuse
from gpumod_tui.guard.server.metrics import Counts
from tests import ledger_world
from tests.ledger_world import DEFAULT, NEEDS, ROUTER, Box


@pytest.fixture
def box(tmp_path: Path) -> Box:
    """A router that has loaded its default model: 9 of the 22 that may be promised on its GPU."""
    box = Box(tmp_path)
    box.start_router()
    box.load_default()
    return box


def would(box: Box, *without: str) -> bool:
    return box.admission(box.asker()).would_admit(ROUTER, "o", without=without)


@pytest.mark.parametrize("held", [9, 4, 0])
def test_what_a_model_holds_and_what_it_was_promised_make_room(box: Box, held: int) -> None:
    serving = box.serving(DEFAULT)
    assert serving is not None
    box.grow(serving, held)
    assert not would(box)
    assert would(box, DEFAULT)


def test_nothing_is_promised_or_forgotten_by_the_question(box: Box) -> None:
    before = (box.runtime / "ledger.json").read_bytes()
    assert would(box, DEFAULT)
    assert (box.runtime / "ledger.json").read_bytes() == before


def test_where_nobody_tells_what_it_holds_it_is_what_it_was_promised(box: Box) -> None:
    serving = box.serving(DEFAULT)
    assert serving is not None
    box.grow(serving, 9)
    box.tells_processes = False
    assert would(box, DEFAULT)


def test_what_others_hold_is_no_room(box: Box) -> None:
    box.grow(box.spawn(None, {1: 8}), 8)
    assert not would(box, DEFAULT), "14 are left of 15"


def test_what_is_unknown_is_no_room(box: Box) -> None:
    box.nvml_error = "Driver/library version mismatch"
    assert not would(box, DEFAULT)


@pytest.mark.parametrize(("need", "hopeless"), [(22, False), (23, True)])
def test_no_switch_is_advised_where_the_whole_gpu_is_too_small(
    box: Box, monkeypatch: pytest.MonkeyPatch, need: int, hopeless: bool
) -> None:
    needs: dict[tuple[str, str], Mapping[int, int]] = {**NEEDS, (ROUTER, "o"): {1: need}}
    monkeypatch.setattr(ledger_world, "NEEDS", needs)
    refused = box.admission(box.asker()).admit(ROUTER, "o")
    assert isinstance(refused, Refused)
    assert refused.is_hopeless is hopeless
    text = refuse(refused, Counts(), loaded=[(DEFAULT, "r")], mode="code").body
    assert isinstance(text, bytes)
    assert (b"gpumod mode switch" in text) is not hopeless
    assert (b"unload" in text) is not hopeless
