"""What every background loop uses: time, services, batches, back-pressure, and the seams to the servers."""
