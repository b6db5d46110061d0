"""Kinds of options that several commands share."""

import math
from collections.abc import Callable
from typing import Any, TypeVar

import click

_Command = TypeVar("_Command", bound=Callable[..., Any])
THEMES = ("dark", "light", "contrast", "ansi")


class FiniteRange(click.FloatRange):
    """A number in a range. NaN lies in every range for click, for it is less than nothing and more than nothing."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Raises: click.BadParameter."""
        found = super().convert(value, param, ctx)
        if not math.isfinite(found):
            self.fail(f"{value!r} is no finite number.", param, ctx)
        return found


timeout_option = click.option(
    "--timeout", "timeout_s", type=FiniteRange(min=1), metavar="SECONDS", help="Give up after so long in all."
)


def view_flags(command: _Command) -> _Command:
    """What a dashboard may be opened with; these go before config.yaml."""
    for add in (
        click.option("--read-only", is_flag=True, help="The dashboard only looks: no command leaves it."),
        click.option("--no-mouse", is_flag=True, help="Leave the mouse to the terminal."),
        click.option("--ascii", "ascii_only", is_flag=True, help="No box, block or braille characters."),
        click.option("--theme", type=click.Choice(THEMES), help="Colours; ansi: the terminal's own 16."),
    ):
        command = add(command)
    return command
