"""Generated systemd units and actions on units."""
