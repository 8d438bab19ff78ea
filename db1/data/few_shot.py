"""Episodes that a few-shot training learns from: some of a store's, fixed by a seed.

The first k elements of a shuffle of the store's training episodes, so that with one seed the
episodes of a smaller number are among those of a larger one: points of a learning curve differ by
the added episodes alone. Worked example, 8 training episodes and one seed:

    shuffle 5 2 7 0 3 6 1 4      2 episodes: 5 2      4 episodes: 5 2 7 0
"""

from __future__ import annotations

from db1.errors import DataError
from db1.index.permutation import Permutation

_EPOCH = 1 << 40
"""Keeps this shuffle apart from those of the epochs of a corpus."""


def chosen_episodes(available: int, count: int, seed: int) -> tuple[int, ...]:
    """Draws `count` of the episodes 0..available-1, in ascending order.

    Args:
        available: Episodes that may be learned from.
        count: Episodes wanted.
        seed: Of the run.

    Raises:
        DataError: Fewer are available.
    """
    if count > available:
        raise DataError(f"{count} episodes wanted, {available} can be learned from")
    return tuple(sorted(Permutation(seed, _EPOCH, available).take(range(count)).tolist()))
