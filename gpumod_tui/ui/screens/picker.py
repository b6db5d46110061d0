"""Which model: a router's models with what they need and what they do."""

from collections.abc import Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.geometry import Size

from gpumod_tui.core.closer_look import ModelChoice
from gpumod_tui.core.models import ModelStatus
from gpumod_tui.ui.messages import Found
from gpumod_tui.ui.screens.dialog import Dialog
from gpumod_tui.ui.widgets.choices import Choice, ChoiceList

_LOADABLE = (ModelStatus.UNLOADED, ModelStatus.DOWNLOADED)
_GONE = (*_LOADABLE, ModelStatus.DOWNLOADING, ModelStatus.UNKNOWN)


class PickerScreen(Dialog[str]):
    """Ends with the id of a model, or with an empty string."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", "previous", id="picker.up"),
        Binding("down", "move(1)", "next", id="picker.down"),
        Binding("pageup", "move(-10)", "page up", id="picker.page_up"),
        Binding("pagedown", "move(10)", "page down", id="picker.page_down"),
        Binding("enter", "take", "take it", id="picker.take"),
        Binding("escape,q", "leave", "leave it", id="picker.leave"),
    ]
    KEYS = (("picker.take", "take it"), ("picker.leave", "leave it"))

    def __init__(self, verb: str, service: str, free: str) -> None:
        """`free`: a sentence on the memory that is free now."""
        into = "into" if verb == "load" else "from"
        self._list = ChoiceList(f"{verb.capitalize()} a model {into} {service}", free)
        super().__init__(self._list)
        self._verb = verb

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002
        """Nothing may stand against what is taken."""
        chosen = self._list.chosen
        return action != "take" or (chosen is not None and not chosen.why_not)

    def on_found(self, message: Found) -> None:
        """The router has answered, or has not."""
        models = message.value if isinstance(message.value, Sequence) else ()
        self._list.show([self._choice(one) for one in models if isinstance(one, ModelChoice)], message.reason)
        self.offer()
        self.fit()

    def action_move(self, by: int) -> None:
        """Another one."""
        self._list.move(by)

    def action_take(self) -> None:
        """This one."""
        if self._list.chosen is not None:
            self.dismiss(self._list.chosen.id)

    def action_leave(self) -> None:
        """None."""
        self.dismiss("")

    def _choice(self, model: ModelChoice) -> Choice:
        if self._verb == "load":
            why_not = "" if model.status in _LOADABLE else f"it is {model.status} already"
            if model.status is ModelStatus.SLEEPING:
                why_not = "it is asleep: a request wakes it"
        else:
            why_not = "it is not in memory" if model.status in _GONE else ""
        return Choice(model.id, model.status, model.need_bytes, model.basis, why_not, failed=bool(model.exit_code))

    def wanted(self, screen: Size) -> Size:
        """All models, as far as there is room."""
        return Size(min(100, max(38, screen.width - 4)), self._list.wanted_height)
