"""Dataset of each sample of a run, while the shares change at some samples."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike

from db1.errors import ConfigError
from db1.index.fair import FairBlend
from db1.index.index_cache import IndexCache


class SampleOrder:
    """Sample n of a run -> (dataset, number within it), for any n at any time.

    Each phase of constant shares is a fair blend of its own: over any of its prefixes no
    dataset is a whole sample off its share. The numbers within a dataset count on from phase
    to phase, so none is left out or comes twice.

    Args:
        phases: (first sample, parts of each dataset), the first at 0, ascending; parts are
            integers of at least 0, see `db1.index.fair`.
        num_samples: Length of the run.
        cache: Where tables of long runs are kept; None: in memory.

    Raises:
        ConfigError: Phases out of order or over different numbers of datasets.
        DataError: Parts that cannot be used.
    """

    def __init__(
        self,
        phases: Sequence[tuple[int, ArrayLike]],
        num_samples: int,
        cache: IndexCache | None = None,
    ) -> None:
        self._firsts = [first for first, _ in phases]
        if not phases or self._firsts[0] != 0 or sorted(set(self._firsts)) != self._firsts:
            raise ConfigError(f"mixture: phases start at {self._firsts}, expected 0 and on")
        if len({np.shape(parts) for _, parts in phases}) > 1:
            raise ConfigError("mixture: the phases have different numbers of datasets")
        self._num_samples = num_samples
        self.cache = cache
        stops = [*self._firsts[1:], max(num_samples, self._firsts[-1])]
        lengths = [stop - first for first, stop in zip(self._firsts, stops, strict=True)]
        self._blends = [
            FairBlend(parts, length, cache)
            for (_, parts), length in zip(phases, lengths, strict=True)
        ]
        self.num_datasets = len(np.asarray(phases[0][1]))
        self._before = [np.zeros(self.num_datasets, dtype=np.int64)]
        for (first, stop), blend in zip(pairwise(self._firsts), self._blends, strict=False):
            self._before.append(self._before[-1] + blend.counts(stop - first))

    def __len__(self) -> int:
        return self._num_samples

    def __getitem__(self, n: int) -> tuple[int, int]:
        """Returns (dataset, number within it) of sample `n`.

        Raises:
            IndexError: No such sample.
        """
        if not 0 <= n < self._num_samples:
            raise IndexError(n)
        phase = bisect_right(self._firsts, n) - 1
        dataset, number = self._blends[phase][n - self._firsts[phase]]
        return dataset, number + int(self._before[phase][dataset])

    def counts(self, n: int) -> np.ndarray:
        """Returns each dataset's number of samples among the first `n`, int64 (num_datasets,)."""
        phase = bisect_right(self._firsts, n) - 1
        return self._before[phase] + self._blends[phase].counts(n - self._firsts[phase])

    def prepare(self) -> None:
        """Computes what all samples need, so that reader processes started later share it."""
        for blend in self._blends:
            blend.table()
