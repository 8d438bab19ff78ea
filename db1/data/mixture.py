"""The training stream: sample number n of a run, whatever process or worker asks for it.

    n = step * global_batch_size + slot  --fair blend-->  (source, number inside the source)
    random draws of the sample come from Philox(key = seed, counter = n)

so the content of (seed, step, slot) depends on nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np

from db1.data.order import SampleOrder
from db1.data.sources import Source
from db1.errors import ConfigError
from db1.sequence.sample import Sample
from db1.tokens.number_patch import NumberPatches


def generator_of(seed: int, number: int) -> np.random.Generator:
    """The random generator of sample `number` of a stream with this seed."""
    return np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, 0, number]))


_LATER = ("numbers", "instruction_length")
"""Fields of a sample that came later; None or 0 where they play no part."""


def sample_hash(sample: Sample) -> str:
    """SHA-256 of everything that a sample holds: equal hashes, equal samples."""
    digest = hashlib.sha256()
    for field in fields(sample):
        value = getattr(sample, field.name)
        if field.name in _LATER and not value:
            continue  # samples without them keep the hash that they had
        _feed(digest, field.name, value)
    return digest.hexdigest()


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

    def __getitem__(self, n: int) -> Sample:
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

    def __getitem__(self, n: int) -> Sample:
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
