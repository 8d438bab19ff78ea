"""Extras of the training loop."""
