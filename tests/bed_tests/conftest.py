"""What tests in beds share."""

import os
from collections.abc import Iterator

import pytest

from tests.bed.host import gpu


@pytest.fixture
def never_too_much() -> Iterator[None]:
    """Whatever a test does, the card never holds more than it has."""
    yield
    if os.environ.get("GPUMOD_BED") == "1":
        gpu().assert_never_overcommitted()
