"""Measures: scores, significance, captions, answers, perplexity."""
