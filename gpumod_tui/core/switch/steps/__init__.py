"""The steps of a switch; each returns what it did, in words."""
