"""Where keys are bound: each scope is what listens at the same time."""

from typing import Final

from textual.dom import DOMNode

from gpumod_tui.ui.screens.ask import PlanScreen
from gpumod_tui.ui.screens.commands import CommandScreen
from gpumod_tui.ui.screens.dashboard import Dashboard
from gpumod_tui.ui.screens.details import DetailsScreen
from gpumod_tui.ui.screens.end_process import EndScreen
from gpumod_tui.ui.screens.help import HelpScreen
from gpumod_tui.ui.screens.logs import UnitsScreen
from gpumod_tui.ui.screens.mode_editor import ModeEditor
from gpumod_tui.ui.screens.mode_picker import ModeList, ModePicker
from gpumod_tui.ui.screens.picker import PickerScreen
from gpumod_tui.ui.screens.question import QuestionScreen
from gpumod_tui.ui.screens.switches import SwitchesScreen
from gpumod_tui.ui.screens.what_if import WhatIfScreen
from gpumod_tui.ui.screens.words import CancelScreen, LeaveScreen
from gpumod_tui.ui.widgets.choice import ServiceChoice
from gpumod_tui.ui.widgets.gpus import GpuPanel
from gpumod_tui.ui.widgets.journal import JournalView
from gpumod_tui.ui.widgets.prompt import Prompt
from gpumod_tui.ui.widgets.units import UnitTable

PANES: Final[tuple[type[DOMNode], ...]] = (UnitTable, JournalView, GpuPanel)
SCREENS: Final[tuple[type[DOMNode], ...]] = (
    PlanScreen,
    QuestionScreen,
    CommandScreen,
    HelpScreen,
    SwitchesScreen,
    LeaveScreen,
    CancelScreen,
    DetailsScreen,
    PickerScreen,
    EndScreen,
    UnitsScreen,
    Prompt,
)
"""What covers the dashboard, or a line of it, and takes all keys."""


def scopes(app: type[DOMNode]) -> list[tuple[type[DOMNode], ...]]:
    """The dashboard with each of its panes, and each other screen."""
    whole = ((WhatIfScreen, ServiceChoice), (ModeEditor, ServiceChoice), (ModePicker, ModeList))
    return [
        *((app, Dashboard, pane) for pane in PANES),
        *((app, *screen) for screen in whole),
        *((screen,) for screen in SCREENS),
    ]
