"""The systemd journal, read with journalctl."""
