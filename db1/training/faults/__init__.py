"""Broken batches, hung processes, SIGTERM, and the end of a process."""
