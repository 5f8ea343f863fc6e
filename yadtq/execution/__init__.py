"""An attempt, from its claim to its outcome. Knows no records."""
