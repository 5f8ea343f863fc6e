"""What may not be claimed yet, and what it waits for."""
