"""How fast all of it is."""
