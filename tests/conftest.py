"""Loads the marker `bed` for all tests; its mechanics are in tests/bed/plugin.py."""

import os

from tests.bed.plugin import (
    in_bed,
    pytest_configure,
    pytest_make_collect_report,
    pytest_runtest_makereport,
    pytest_runtest_protocol,
)

__all__ = [
    "pytest_configure",
    "pytest_make_collect_report",
    "pytest_runtest_makereport",
    "pytest_runtest_protocol",
]

# Outside of beds, where tests have runtime folders of their own, no bus of a desktop is theirs.
if not in_bed():
    os.environ.pop("DBUS_SESSION_BUS_ADDRESS", None)
