"""A checkpoint that acts and writes."""
