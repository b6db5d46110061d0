"""A model that ends keeps its memory for a moment longer than its name: it is nobody else's meanwhile."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from gpumod_tui.core.admission.decide import Granted, Refused
from gpumod_tui.core.models import Service
from tests.ledger_world import DEFAULT, ROUTER, Box, Process

OTHER = "c.service"
"""Needs 8 on the router's GPU of 22, the model 9."""


class Noting(Box):
    """Keeps what was measured by whom it is laid to."""

    def __init__(self, runtime: Path) -> None:
        super().__init__(runtime)
        self.noted: dict[str, dict[int, int]] = {}

    def unit_key(self, *known: object) -> None:
        service = known[0]
        assert isinstance(service, Service)
        self._key = service.unit

    def model_key(self, *known: object, args: object = ()) -> None:
        self._key = str(known[1])

    def note(self, *known: object) -> None:
        by_gpu = known[1]
        assert isinstance(by_gpu, Mapping)
        for gpu, amount in by_gpu.items():
            before = self.noted.setdefault(self._key, {})
            before[gpu] = max(amount, before.get(gpu, 0))


@pytest.fixture
def box(tmp_path: Path) -> Noting:
    """A router with its default model, which is as large as it gets."""
    box = Noting(tmp_path)
    box.start_router()
    box.load_default()
    box.grow(model(box), 9)
    box.admission(box.asker()).take_stock()
    return box


def model(box: Box) -> Process:
    found = box.serving(DEFAULT)
    assert found is not None
    return found


@pytest.mark.parametrize("state", ["D", "Z"])
def test_what_it_held_is_not_learned_as_its_routers_own(box: Noting, state: str) -> None:
    model(box).state = state
    box.admission(box.asker()).take_stock()
    assert box.noted == {DEFAULT: {1: 9}}


@pytest.mark.parametrize("call", range(1, 30))
def test_nor_where_it_is_gone_between_two_looks(box: Noting, call: int) -> None:
    ended = model(box)
    box.meddle[box.calls + call] = lambda: box.end(ended)
    box.admission(box.asker()).take_stock()
    assert box.noted == {DEFAULT: {1: 9}}


def test_what_it_still_holds_is_not_counted_beside_what_it_was_promised(box: Noting) -> None:
    model(box).state = "D"
    assert isinstance(box.admission(box.asker()).admit(OTHER, invocation="its own"), Granted)


def test_who_is_short_of_it_may_wait(box: Noting) -> None:
    box.grow(box.spawn(None, {1: 6}), 6)
    model(box).state = "D"
    verdict = box.admission(box.asker()).admit(OTHER, invocation="its own")
    assert isinstance(verdict, Refused)
    assert verdict.may_pass


def test_after_the_ledger_was_lost_it_is_no_model_of_its_own(box: Noting) -> None:
    box.damage("lost")
    model(box).state = "D"
    state, _, _ = box.admission(box.asker()).take_stock()
    assert [(entry.unit, entry.model) for entry in state.commitments] == [(ROUTER, "")]
