"""The HTTP server of the guard: connections, limits, metrics."""
