"""Starts worker processes, watches them, and replaces those that die. Never imports the worker's code."""
