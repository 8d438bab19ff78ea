"""Rollouts, normalised scores, held-out text, and the report over them."""
