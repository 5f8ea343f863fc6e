"""Where tasks run that were running when a worker died: in child processes, whose death is evidence and harms nobody."""
