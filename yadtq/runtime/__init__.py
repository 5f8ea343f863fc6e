"""How a loop lives: time, services, batches, back-pressure, and the seams to the servers."""
