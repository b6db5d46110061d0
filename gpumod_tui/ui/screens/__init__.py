"""Screens: the dashboard, and what is asked over it."""
