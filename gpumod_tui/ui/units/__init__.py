"""The unit table, its actions and a unit's details."""
