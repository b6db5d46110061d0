"""Plans, running switches and their history on screen."""
