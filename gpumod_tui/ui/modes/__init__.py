"""The mode bar, the mode editor and the simulation screen."""
