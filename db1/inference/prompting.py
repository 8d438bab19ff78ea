"""Names of the ways in which a demonstration primes an agent's memory (`db1.inference.agent`)."""

from __future__ import annotations

PROMPT_PARTS = ("start", "end")
PROMPT_STRATEGIES = ("moving", "fixed")
