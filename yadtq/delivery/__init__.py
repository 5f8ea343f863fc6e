"""A record on its way, from the poll to the watermark."""
