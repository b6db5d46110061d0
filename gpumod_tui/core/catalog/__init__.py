"""Presets, modes and settings: their schema, parsing and validation."""
