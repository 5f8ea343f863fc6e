"""Whose turn it is to be claimed."""
