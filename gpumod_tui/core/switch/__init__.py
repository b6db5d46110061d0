"""Switches: planning, execution, records."""
