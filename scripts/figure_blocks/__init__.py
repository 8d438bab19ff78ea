"""Blocks that scripts/figures.py writes into pages, by what they tell of."""
