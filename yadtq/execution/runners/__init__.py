"""Ways to call a function: in the loop, in a thread."""
