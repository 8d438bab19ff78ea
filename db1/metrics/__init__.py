"""What is measured: scores, significance, captions, answers, perplexity."""
