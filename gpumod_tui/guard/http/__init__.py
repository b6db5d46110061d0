"""Parsing and forwarding of HTTP requests and responses."""
