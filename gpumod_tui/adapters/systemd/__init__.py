"""The systemd user manager, unit files and their templates."""
