"""Loads the marker `bed` for all tests; its mechanics are in tests/bed/plugin.py."""

from tests.bed.plugin import pytest_configure, pytest_runtest_makereport, pytest_runtest_protocol

__all__ = ["pytest_configure", "pytest_runtest_makereport", "pytest_runtest_protocol"]
