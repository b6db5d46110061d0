"""Widgets: reactive in, message out; no I/O, and no knowledge of where data comes from."""
