"""One worker process: `python -m yadtq.worker module:app`."""
