"""What gpumod decides: no I/O but clocks and threads."""
