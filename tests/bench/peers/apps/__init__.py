"""Worker side of each system; these files run in the peers' environments, from this folder."""
