"""Times on screen must not depend on where the tests run; async tests run in a loop of their own."""

import asyncio
import inspect
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from syrupy.assertion import SnapshotAssertion
from textual.app import App

from tests.ui.pictures import LIMIT_S, PictureFile, take


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.delenv("NO_COLOR", raising=False)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def snap_compare(snapshot: SnapshotAssertion) -> Callable[..., bool]:
    """Takes an app as `pictures.take` does, and compares its picture with the stored one."""
    stored = snapshot.use_extension(PictureFile)

    def compare(app: App[Any], **how: Any) -> bool:
        taken = take(app, **how)
        assert taken == stored
        return True

    return compare


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    wanted = inspect.signature(pyfuncitem.obj).parameters
    given = {name: value for name, value in pyfuncitem.funcargs.items() if name in wanted}
    asyncio.run(asyncio.wait_for(pyfuncitem.obj(**given), LIMIT_S))
    return True
