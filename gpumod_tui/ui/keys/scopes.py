"""Where keys are bound: each scope is what listens at the same time."""

from typing import Final

from textual.dom import DOMNode

from gpumod_tui.ui.common.confirm import CancelScreen, LeaveScreen
from gpumod_tui.ui.common.input import Prompt
from gpumod_tui.ui.common.question import QuestionScreen
from gpumod_tui.ui.dashboard.screen import Dashboard
from gpumod_tui.ui.gpus.pane import GpuPanel
from gpumod_tui.ui.journal.dialogs import UnitsScreen
from gpumod_tui.ui.journal.pane import JournalView
from gpumod_tui.ui.keys.help import HelpScreen
from gpumod_tui.ui.modes.editor import ModeEditor
from gpumod_tui.ui.modes.picker import ModeList, ModePicker
from gpumod_tui.ui.modes.service_list import ServiceChoice
from gpumod_tui.ui.modes.simulate import WhatIfScreen
from gpumod_tui.ui.palette.screen import CommandScreen
from gpumod_tui.ui.switch.history import SwitchesScreen
from gpumod_tui.ui.switch.plan_dialog import PlanScreen
from gpumod_tui.ui.units.details import DetailsScreen
from gpumod_tui.ui.units.end_process import EndScreen
from gpumod_tui.ui.units.model_picker import PickerScreen
from gpumod_tui.ui.units.pane import UnitTable

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
