"""Files of the user: presets, settings, state, ledger, locks."""
