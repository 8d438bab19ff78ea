"""The fair blend of datasets: never a whole sample off any dataset's share, over any prefix.

Shares are whole numbers of parts, p_i of Q = sum p. After any n samples, dataset i has c_i of them
with |c_i - n p_i / Q| < 1. That holds if and only if its sample j (from 0) is drawn at a time t in

    floor(j Q / p_i) <= t < ceil((j + 1) Q / p_i)        its release and its deadline

and drawing, at each time, the released sample of the earliest deadline (of equals, the first
dataset) meets every deadline: fluid samples, drawn at rate p_i / Q each, would all be drawn inside
their windows, the rates sum to 1, so no stretch of time holds more windows than it has places.
The rule uses whole numbers only: nothing drifts however long the run. It repeats after Q samples.

Worked example: parts [5, 3, 2]. Deadlines of the first samples are 2, 4, 5; the blend is
0 1 0 2 0 1 0 1 0 2, and again.

Sources: R. Tijdeman, "The chairman assignment problem", Discrete Mathematics 32 (1980), who shows
that even 1 - 1 / (2k - 2) can be kept for k datasets; S. Baruah, N. Cohen, C. Plaxton, D. Varvel,
"Proportionate progress", Algorithmica 15 (1996), for windows and earliest deadlines.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from fractions import Fraction
from math import gcd, lcm
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from db1.errors import DataError
from db1.index.extension import call_extension, count_of, integer_array
from db1.index.index_cache import IndexCache

logger = logging.getLogger(__name__)

MAX_TOTAL = 1 << 53
"""Largest Q that `whole_parts` makes."""

BLOCK = 1 << 18
"""Samples that `FairBlend` computes at once."""

CACHE_FROM = 1 << 24
"""Samples from which `FairBlend` keeps its table on disk: below it takes less than a second."""


def whole_parts(shares: Sequence[Fraction]) -> np.ndarray:
    """Shares -> parts: exact where a common denominator of at most 2**53 does it.

    Else of Q = 2**53 parts, rounded by largest remainder: after n samples a dataset is at most
    n / 2**53 of a sample off what was asked for, beside the blend's own bound. A share above 0
    has at least one part.

    Args:
        shares: Numbers of at least 0, not all 0; only their ratios matter.

    Returns:
        int64 (num_shares,).

    Raises:
        DataError: Other shares.
    """
    total = sum(shares, Fraction(0))
    if any(share < 0 for share in shares) or total <= 0:
        raise DataError(
            f"shares {[float(share) for share in shares]}: expected numbers of at least 0, "
            "one above 0"
        )
    exact = [Fraction(share) / total for share in shares]
    denominator = 1
    for share in exact:
        denominator = lcm(denominator, share.denominator)
        if denominator > MAX_TOTAL:
            return np.array(_rounded(exact), dtype=np.int64)
    parts = [int(share * denominator) for share in exact]
    common = gcd(*parts)
    return np.array([part // common for part in parts], dtype=np.int64)


def _rounded(shares: list[Fraction]) -> list[int]:
    wanted = [share * MAX_TOTAL for share in shares]
    parts = [max(int(value), int(value > 0)) for value in wanted]
    missing = MAX_TOTAL - sum(parts)
    order = sorted(range(len(parts)), key=lambda i: parts[i] - wanted[i])
    for i in order[: max(missing, 0)]:
        parts[i] += 1
    if missing < 0:
        parts[parts.index(max(parts))] += missing
    return parts


def fair_index(
    parts: ArrayLike,
    stop: int,
    *,
    start: int = 0,
    counts: ArrayLike | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Computes the samples [start, stop) of the fair blend.

    Args:
        parts: Share of each dataset, integers of at least 0 that sum to at most 2**60.
        stop: One past the last sample, at most 2**62.
        start: First sample.
        counts: Samples of each dataset before `start`; None where `start` is 0.

    Returns:
        Dataset of each sample and number of the sample within its dataset, int64 (stop - start,)
        each.

    Raises:
        DataError: Bad parts, or counts that are not those of this blend.
    """
    parts = integer_array(parts, "parts")
    if counts is None:
        counts = np.zeros(parts.shape, dtype=np.int64)
    first, last = count_of(start, "start"), count_of(stop, "stop")
    return call_extension("fair_index", parts, first, last, integer_array(counts, "counts"))


def fair_table(parts: ArrayLike, num_samples: int, every: int) -> np.ndarray:
    """Counts from which `fair_index` can start.

    Args:
        parts: As for `fair_index`.
        num_samples: Samples that are to be reached.
        every: Samples from one row to the next.

    Returns:
        int64 (ceil(num_samples / every), num_datasets): row m holds each dataset's number of
        samples among the first m * every.

    Raises:
        DataError: Bad parts.
    """
    return call_extension(
        "fair_table",
        integer_array(parts, "parts"),
        count_of(num_samples, "num_samples"),
        count_of(every, "every", 1),
    )


class FairBlend:
    """Random access to a fair blend: blocks are computed when a sample of theirs is asked for.

    Holds one row of counts for each block of 2**18 samples (at most one period of them) and the
    last two blocks, never the whole run.

    Args:
        parts: As for `fair_index`.
        num_samples: Length of the blend.
        cache: Where the table of a long blend is kept; None: in memory.

    Raises:
        DataError: Bad parts.
    """

    def __init__(self, parts: ArrayLike, num_samples: int, cache: IndexCache | None = None) -> None:
        self._parts = integer_array(parts, "parts")
        self._num_samples = count_of(num_samples, "num_samples")
        fair_index(self._parts, 0)  # checks
        self._period = int(self._parts.sum())
        self._cache = cache
        self._table: np.ndarray | None = None
        self._blocks: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def __len__(self) -> int:
        return self._num_samples

    def __getitem__(self, n: int) -> tuple[int, int]:
        """Returns (dataset, number within it) of sample `n`.

        Raises:
            IndexError: No such sample.
        """
        if not 0 <= n < self._num_samples:
            raise IndexError(n)
        epoch, place = divmod(n, self._period)
        block, offset = divmod(place, BLOCK)
        datasets, numbers = self._block(block)
        dataset = int(datasets[offset])
        return dataset, int(numbers[offset]) + epoch * int(self._parts[dataset])

    def counts(self, n: int) -> np.ndarray:
        """Returns each dataset's number of samples among the first `n`, int64 (num_datasets,)."""
        if not 0 <= n <= self._num_samples:
            raise IndexError(n)
        epoch, place = divmod(n, self._period)
        counts = epoch * self._parts
        if place:
            block, offset = divmod(place - 1, BLOCK)
            datasets = self._block(block)[0][: offset + 1]
            drawn = np.bincount(datasets, minlength=len(self._parts))
            counts = counts + self.table()[block] + drawn
        return counts

    def table(self) -> np.ndarray:
        """Counts before each block, int64 (num_blocks, num_datasets); the first call computes."""
        if self._table is None:
            length = min(self._num_samples, self._period)
            if self._cache is None or length < CACHE_FROM:
                self._table = fair_table(self._parts, length, BLOCK)
            else:

                def build() -> np.ndarray:
                    logger.info("computing the order of %d samples, once", length)
                    return fair_table(self._parts, length, BLOCK)

                self._table = self._cache.array(
                    "fair",
                    build,
                    parameters={"num_samples": length, "every": BLOCK},
                    inputs={"parts": self._parts},
                )
        return self._table

    def _block(self, block: int) -> tuple[np.ndarray, np.ndarray]:
        if block not in self._blocks:
            if len(self._blocks) > 1:
                self._blocks = {}
            start = block * BLOCK
            stop = min(start + BLOCK, self._num_samples, self._period)
            row = self.table()[block]
            self._blocks[block] = fair_index(self._parts, stop, start=start, counts=row)
        return self._blocks[block]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_blocks": {}}


def reference_fair_index(parts: Sequence[int], num_samples: int) -> tuple[np.ndarray, np.ndarray]:
    """`fair_index` from sample 0 in plain Python, int64 (num_samples,) twice; windows as above."""
    total = sum(parts)
    drawn = [0] * len(parts)
    dataset, within = np.empty((2, num_samples), dtype=np.int64)
    for time in range(num_samples):
        _, best = min(
            (-(-(count + 1) * total // part), i)
            for i, (part, count) in enumerate(zip(parts, drawn, strict=True))
            if part and count * total // part <= time
        )
        dataset[time], within[time] = best, drawn[best]
        drawn[best] += 1
    return dataset, within
