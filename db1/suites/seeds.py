"""Seeds that an episode may be reset with: demonstrations, references and evaluation never share.

    [0, 1,000,000)           collection    demonstrations a model learns from
    [1,000,000, 2,000,000)   reference     random and expert returns that scores are normalised by
    [2,000,000, 3,000,000)   evaluation    episodes a trained model is judged on

A model therefore never meets an evaluation episode while learning, whatever the task.
"""

from __future__ import annotations

from db1.errors import DataError, nearest

COLLECTION = range(0, 1_000_000)
REFERENCE = range(1_000_000, 2_000_000)
EVALUATION = range(2_000_000, 3_000_000)

_RANGES = {"collection": COLLECTION, "reference": REFERENCE, "evaluation": EVALUATION}


def seed_range(purpose: str) -> range:
    """Returns the seeds of `purpose`: `collection`, `reference` or `evaluation`."""
    if purpose not in _RANGES:
        raise DataError(
            f"seed purpose {purpose!r}, expected one of {sorted(_RANGES)}"
            f"{nearest(purpose, _RANGES)}"
        )
    return _RANGES[purpose]


def seed_for(purpose: str, index: int) -> int:
    """Returns the seed of episode `index` (from 0) of `purpose`; DataError past the last one."""
    seeds = seed_range(purpose)
    if not 0 <= index < len(seeds):
        raise DataError(f"{purpose} episode {index}, expected 0..{len(seeds) - 1}")
    return seeds[index]


def check_seed(purpose: str, seed: int) -> None:
    """Raises DataError unless `seed` is one of the seeds of `purpose`."""
    seeds = seed_range(purpose)
    if seed not in seeds:
        raise DataError(
            f"seed {seed} is no {purpose} seed, expected {seeds.start}..{seeds.stop - 1}; "
            f"use seed_for({purpose!r}, index)"
        )
