"""Checkpoints of a run: writing, resuming, other layouts, weights to start from."""
