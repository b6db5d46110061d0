"""Installing units: what would be written, the writing, and the guard's own units."""
