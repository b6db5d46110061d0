"""Key bindings: the keymap, hints, the footer and the help screen."""
