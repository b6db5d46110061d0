"""Loads the marker `bed`, and how tests share a machine, for all tests."""

import os

import pytest

from tests import parallel, repetitions
from tests.bed.plugin import (
    in_bed,
    pytest_collection_finish,
    pytest_make_collect_report,
    pytest_runtest_makereport,
    pytest_runtest_protocol,
    pytest_sessionfinish,
)
from tests.parallel import pytest_xdist_auto_num_workers

__all__ = [
    "pytest_collection_finish",
    "pytest_make_collect_report",
    "pytest_runtest_makereport",
    "pytest_runtest_protocol",
    "pytest_sessionfinish",
    "pytest_xdist_auto_num_workers",
]

# Outside of beds, where tests have runtime folders of their own, no bus of a desktop is theirs.
if not in_bed():
    os.environ.pop("DBUS_SESSION_BUS_ADDRESS", None)


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    pluginmanager.register(repetitions, "gpumod-repetitions")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(parallel, "gpumod-parallel")
