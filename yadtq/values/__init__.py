"""Values on their way: what is written of one, what is read of it, and whether the two are equal."""
