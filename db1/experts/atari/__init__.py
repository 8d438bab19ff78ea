"""Experts of the Atari games: a planner for most, scripts where they are enough."""

from __future__ import annotations

from db1.experts.atari import scripts, search  # noqa: F401  (both register their experts)
