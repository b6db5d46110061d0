"""Tests that end in every possible way; test_bed.py runs them to see what the marker makes of them."""

import os
import time

import pytest

pytestmark = pytest.mark.bed


def test_passes() -> None:
    pass


def test_fails() -> None:
    raise AssertionError("a reason of its own")


def test_skips() -> None:
    pytest.skip("a reason to skip")


def test_crashes() -> None:
    os._exit(0)


@pytest.mark.bed(timeout_s=10)
def test_hangs() -> None:
    time.sleep(60)


@pytest.fixture
def broken_at_the_end() -> object:
    pytest.fail("a broken fixture")


def test_errors(broken_at_the_end: object) -> None:
    pass
