"""What all processes agree on: records, states, names, encodings."""
