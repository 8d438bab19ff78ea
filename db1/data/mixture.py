"""The training stream: sample number n of a run, whatever process or worker asks for it.

    n = step * global_batch_size + slot  --fair blend-->  (source, number inside the source)
    random draws of the sample come from Philox(key = seed, counter = n)

so the content of (seed, step, slot) depends on nothing else.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import fields, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from db1.data.sources import Source
from db1.errors import ConfigError
from db1.index.fair import FairBlend
from db1.index.index_cache import IndexCache
from db1.sequence.segment import TokenSegment
from db1.tokens.number_patch import NumberPatches
from db1.tokens.spec import PATCH_SIZE


def generator_of(seed: int, number: int) -> np.random.Generator:
    """The random generator of sample `number` of a stream with this seed."""
    return np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, 0, number]))


_LATER = {
    "numbers": None,
    "instruction_length": 0,
    "skipped_patches": 0,
    "patch_size": PATCH_SIZE,
}
"""Fields of a sample that came later, and their values where they play no part."""


def sample_hash(sample: TokenSegment) -> str:
    """SHA-256 of everything that a sample holds: equal hashes, equal samples."""
    digest = hashlib.sha256()
    for field in fields(sample):
        value = getattr(sample, field.name)
        if field.name == "num_cut" or (field.name in _LATER and value == _LATER[field.name]):
            continue  # samples without them keep the hash that they had
        _feed(digest, field.name, value)
    return digest.hexdigest()


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


class MixtureDataset:
    """Map-style dataset over all samples of a run.

    Args:
        sources: What to draw from.
        order: Source of each sample, and number inside it.
        seed: Seed of the run.
        loss_balance: b of the weight n ** -b that each of a sequence's n targets has in the loss:
            0 weighs all targets alike (Gato), 1 all sequences.

    Raises:
        ConfigError: The order is over another number of sources.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        order: SampleOrder,
        seed: int,
        loss_balance: float = 0.0,
    ) -> None:
        if len(sources) != order.num_datasets:
            raise ConfigError(f"mixture: shares of {order.num_datasets} for {len(sources)} sources")
        self.sources = tuple(sources)
        self.order = order
        self.seed = seed
        self.loss_balance = loss_balance

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, n: int) -> TokenSegment:
        """Returns sample number `n` of the run."""
        dataset, number = self.order[n]
        sample = self.sources[dataset].sample(number, generator_of(self.seed, n))
        num_targets = max(1, int(sample.target_mask[1:].sum()))
        return replace(sample, target_weight=num_targets**-self.loss_balance)

    def with_order(self, order: SampleOrder) -> MixtureDataset:
        """The same sources in another order."""
        return MixtureDataset(self.sources, order, self.seed, self.loss_balance)


class FixedSamples:
    """The first `num_samples` samples of one source under a seed of their own, for evaluation."""

    def __init__(self, source: Source, num_samples: int, seed: int) -> None:
        self.source = source
        self._num_samples = num_samples
        self._seed = seed

    def __len__(self) -> int:
        return self._num_samples

    def __getitem__(self, n: int) -> TokenSegment:
        """Returns evaluation sample `n`."""
        if not 0 <= n < self._num_samples:
            raise IndexError(n)
        return self.source.sample(n, generator_of(self._seed, n))


def _feed(digest: Any, name: str, value: object) -> None:
    if isinstance(value, np.ndarray):
        digest.update(f"{name} {value.dtype.str} {value.shape} ".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    elif isinstance(value, NumberPatches):
        _feed(digest, name, (value.values, value.codes, value.layouts))
    elif isinstance(value, tuple):
        digest.update(f"{name} {len(value)} ".encode())
        for item in value:
            _feed(digest, name, item)
    else:
        digest.update(f"{name} {value!r} ".encode())
