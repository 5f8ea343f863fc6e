"""Submitting tasks, and asking for them."""
