"""An attempt, from its claim to its outcome. Does not know about records."""
