"""Admission control: whether an allocation may begin."""
