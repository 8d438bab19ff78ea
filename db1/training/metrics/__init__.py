"""Records of a run: sums of losses, metrics.jsonl, trackers, curves, the progress bar."""
