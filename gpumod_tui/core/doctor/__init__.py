"""Diagnosis of the host: facts, checks and findings."""
