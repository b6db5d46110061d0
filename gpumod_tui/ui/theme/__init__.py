"""Colours, signs and themes."""
