"""NVML: GPU readings, processes and events."""
