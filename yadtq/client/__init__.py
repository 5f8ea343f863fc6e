"""Submitting tasks, and reading their status and results."""
