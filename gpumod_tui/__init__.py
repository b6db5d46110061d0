"""gpumod: the cockpit of a GPU box."""
