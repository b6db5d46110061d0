"""The GPU pane: bars, the memory graph and its time axis."""
