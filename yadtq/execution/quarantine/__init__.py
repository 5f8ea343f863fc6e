"""Runs tasks that were running when a worker died: in child processes, whose death is evidence and affects no other
task.
"""
