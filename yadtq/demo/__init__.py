"""`yadtq demo`: a real job on real input, with a worker killed in the middle of it."""
