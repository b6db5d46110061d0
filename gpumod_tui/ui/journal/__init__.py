"""The journal pane: reading, buffering, searching and showing log lines."""
