"""A mode in the making: its id, its words, its services, and what they add up to."""

from collections.abc import Callable
from typing import ClassVar, Final

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Input

from gpumod_tui.core.catalog.modes import ModeSaved
from gpumod_tui.core.errors import GpumodError, ModeRefused, ModeTaken, PresetInvalid
from gpumod_tui.core.models import Mode
from gpumod_tui.core.switch.simulate import WhatIf
from gpumod_tui.ui.background import errand
from gpumod_tui.ui.common.input import Field
from gpumod_tui.ui.common.question import QuestionScreen
from gpumod_tui.ui.messages import CatalogChanged
from gpumod_tui.ui.modes.live_fit import LookingScreen
from gpumod_tui.ui.theme.styles import UnitColours

_FIELDS: Final = (("id", "a to z, 0 to 9, . _ -"), ("name", "for people"), ("description", "what it is for"))


class ModeEditor(LookingScreen):
    """A new mode of the services that run or were chosen, or a mode that is there already."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "save", "save", id="mode_editor.save", priority=True),
        Binding("escape", "leave", "leave it", id="mode_editor.leave"),
        Binding("q", "leave", "leave it", id="mode_editor.leave_too", show=False),
        Binding("tab", "app.focus_next", "next field", id="mode_editor.next"),
        Binding("shift+tab", "app.focus_previous", "previous field", id="mode_editor.previous", show=False),
    ]

    def __init__(
        self,
        colours: UnitColours,
        mode: Mode | None = None,
        services: tuple[str, ...] | None = None,
        *,
        own: bool = True,
    ) -> None:
        """`mode` None: a new one; `services` None: those of the mode, or what runs now; `own`: whether the mode is."""
        title = f"Services of {mode.id}" if mode else "Services of the new mode"
        super().__init__(title, colours, "" if own else "will be your own, before the given one")
        self._mode = mode
        self._services = mode.services if services is None and mode is not None else services
        values = (mode.id, mode.name if mode.name != mode.id else "", mode.description) if mode else ("", "", "")
        self.fields = {word: Field(word, about, value) for (word, about), value in zip(_FIELDS, values, strict=True)}
        self._saving = False
        self._begun: tuple[object, ...] = ()
        self.choice.chosen = self._services or ()

    def compose_above(self) -> ComposeResult:
        """The words."""
        yield from self.fields.values()

    def on_mount(self) -> None:
        """Where there is an id already, the services are what is to be changed."""
        super().on_mount()
        self._begun = self._stand()
        (self.choice if self._mode else self.fields["id"].line).focus()

    def looked(self, what_if: WhatIf) -> None:
        """A new mode begins with what runs now."""
        if self._services is None:
            self.choose(what_if.running)
            self._begun = self._stand()

    def other_rows(self) -> int:
        """The fields."""
        return len(self.fields)

    def written(self) -> Mode:
        """The mode as it stands on screen."""
        words = {word: field.line.value.strip() for word, field in self.fields.items()}
        return Mode(words["id"], words["name"] or words["id"], self.choice.chosen, words["description"])

    def on_input_submitted(self, message: Input.Submitted) -> None:
        """Enter leads to the next field."""
        message.stop()
        self.app.action_focus_next()

    def action_save(self) -> None:
        """Save it as it stands after all keys that were typed before; another mode of that id is asked about."""
        (self.focused or self).call_later(self._save_written)

    def _save_written(self) -> None:
        mode = self.written()
        self._save(mode, replaces=self._mode is not None and self._mode.id == mode.id)

    def action_leave(self) -> None:
        """Back."""
        self.leave_for(self.dismiss)

    def leave_for(self, do: Callable[[], object]) -> None:
        """What was changed is lost only after a yes."""
        if self._stand() == self._begun:
            do()
            return
        self._ask("Leave", "What you changed is not saved.", "leave it unsaved", do)

    def _save(self, mode: Mode, *, replaces: bool) -> None:
        if not self._saving:
            self._saving = True
            work = errand("save", lambda commands: commands.save_mode(mode, replaces=replaces), self._saved)
            self.post_message(work)

    def _saved(self, found: ModeSaved | GpumodError) -> None:
        self._saving = False
        if isinstance(found, ModeSaved):
            over = f"; it goes before {found.shadows.source or 'the one of gpumod itself'}" if found.shadows else ""
            self.post_message(CatalogChanged(found.registry))
            self.app.notify(f"{found.path}{over}", title=f"mode {found.mode.id} saved", markup=False)
            self._mode, self._begun = found.mode, self._stand()
            # What was opened over it in the meantime is not to be closed in its place.
            if self.is_attached and self.app.screen is self:
                self.dismiss()
        elif isinstance(found, ModeTaken):
            mode = self.written()
            self._ask("Replace", f"{found}.", "replace it", lambda: self._save(mode, replaces=True))
        else:
            reason = f"{found} ({found.hint})" if found.hint else str(found)
            self.app.notify(reason, title="not saved", severity="error", markup=False)
            self._lead_to(found)

    def _lead_to(self, fault: GpumodError) -> None:
        """Where one types what would help."""
        if isinstance(fault, PresetInvalid) and fault.key in self.fields:
            self.fields[fault.key].line.focus()
        elif isinstance(fault, ModeRefused):
            (self.fields["id"].line if self.choice.chosen else self.choice).focus()

    def _ask(self, title: str, sentence: str, yes: str, do: Callable[[], object]) -> None:
        def answered(agreed: bool | None) -> None:
            if agreed:
                do()

        self.app.push_screen(QuestionScreen(title, sentence, yes), answered)

    def _stand(self) -> tuple[object, ...]:
        mode = self.written()
        return mode.id, mode.name, mode.description, frozenset(mode.services)
