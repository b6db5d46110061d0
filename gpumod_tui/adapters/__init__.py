"""One system each; they raise `core.errors` only and do not know each other."""
