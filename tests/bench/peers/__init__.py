"""Other task queues, measured by the same scenarios."""
