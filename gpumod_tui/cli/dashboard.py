"""The commands that open the dashboard: `gpumod` and `gpumod demo`."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from gpumod_tui.cli._options import FiniteRange, view_flags
from gpumod_tui.cli._output import json_option, print_json, print_table
from gpumod_tui.core.catalog.config import Theme
from gpumod_tui.core.errors import ConfigInvalid, StateUnavailable
from gpumod_tui.ui import can_show
from gpumod_tui.ui.options import ViewOptions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gpumod_tui.adapters.files.view import ViewFile
    from gpumod_tui.core.engine import Engine
    from gpumod_tui.core.status.history import History
    from gpumod_tui.core.switch.results import ModeResult


def chosen(
    options: ViewOptions, theme: str | None, *, ascii_only: bool, no_mouse: bool, read_only: bool
) -> ViewOptions:
    """The options with the flags over them."""
    return replace(
        options,
        theme=Theme(theme) if theme else options.theme,
        ascii_only=ascii_only or options.ascii_only,
        mouse=options.mouse and not no_mouse,
        read_only=read_only or options.read_only,
    )


def open_or_print(**flags: Any) -> int:
    """The dashboard on a terminal, else the status; the exit code."""
    from gpumod_tui.opening import view_options
    from gpumod_tui.wiring import real_host

    host = real_host()
    if can_show():
        return _open(host, chosen(view_options(host), **flags), host.views)
    from gpumod_tui.cli.status import print_status

    print_status(host)
    return 0


def _open(
    host: Engine,
    options: ViewOptions | None = None,
    views: ViewFile | None = None,
    history: History | None = None,
) -> int:
    from gpumod_tui.opening import dashboard

    def tell(result: ModeResult) -> None:
        from gpumod_tui.cli._switching import tell_result

        # The terminal may be gone: the exit code still tells.
        with contextlib.suppress(OSError, ValueError):
            tell_result(result, as_json=False)

    return dashboard(host, tell, options, views, history)


@click.command()
@click.option("--speed", default=1.0, show_default=True, type=FiniteRange(0.1, 100), help="Of the played time.")
@view_flags
def demo(speed: float, **flags: Any) -> None:
    """Open the dashboard on a played machine; nothing real is touched."""
    if not can_show():
        raise ConfigInvalid("the demo needs a terminal", hint="run it in one, with TERM set")
    from gpumod_tui.wiring import demo_host

    host, history = demo_host(speed)
    try:
        code = _open(host, chosen(ViewOptions(), **flags), history=history)
    finally:
        host.close()
    sys.exit(code)


@click.command()
@json_option
def keys(*, as_json: bool) -> None:
    """List what the keys of the dashboard do, by the ids that `keys` in config.yaml may give other keys."""
    from gpumod_tui.ui import key_table
    from gpumod_tui.wiring import real_host

    given: Mapping[str, str] = {}
    # Without a systemd user session nothing is known of the user's settings, and the keys are those of the program.
    with contextlib.suppress(StateUnavailable):
        given = real_host().config.keys
    rows = [
        (id_, tuple(given[id_].split(",")) if id_ in given else keys, what) for id_, keys, what in sorted(key_table())
    ]
    if as_json:
        print_json([{"id": id_, "keys": keys, "what": what} for id_, keys, what in rows])
    else:
        print_table(("ID", "KEYS", "WHAT"), [(id_, " ".join(keys), what) for id_, keys, what in rows])
