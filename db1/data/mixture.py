"""The training stream: sample number n of a run, whatever process or worker asks for it.

    n = step * global_batch_size + slot  --blending index-->  (source, number inside the source)
    random draws of the sample come from Philox(key = seed, counter = n)

so the content of (seed, step, slot) depends on nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from db1.data.sources import Source
from db1.errors import ConfigError
from db1.sequence.sample import Sample
from db1.store.index import blending_index


def generator_of(seed: int, number: int) -> np.random.Generator:
    """The random generator of sample `number` of a stream with this seed."""
    return np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, 0, number]))


class MixtureDataset:
    """Map-style dataset over all samples of a run.

    Args:
        sources: What to draw from.
        weights: Share of each source, not negative, not all zero; any scale.
        num_samples: Samples in the run: steps times global batch size.
        seed: Seed of the run.
        loss_balance: b of the weight n ** -b that each of a sequence's n targets has in the loss:
            0 weighs all targets alike (Gato), 1 all sequences.

    Raises:
        ConfigError: For weights that cannot be used.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        weights: Sequence[float],
        num_samples: int,
        seed: int,
        loss_balance: float = 0.0,
    ) -> None:
        shares = np.asarray(weights, dtype=np.float64)
        if len(shares) != len(sources) or not len(shares):
            raise ConfigError(f"{len(shares)} weights for {len(sources)} sources")
        if not np.isfinite(shares).all() or (shares < 0).any() or shares.sum() <= 0:
            raise ConfigError(
                f"mixture weights {shares.tolist()}: expected numbers >= 0, at least one above 0"
            )
        self.sources = tuple(sources)
        self.seed = seed
        self.loss_balance = loss_balance
        self._source, self._number = blending_index(shares / shares.sum(), num_samples)

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, n: int) -> Sample:
        """Returns sample number `n` of the run."""
        source = self.sources[int(self._source[n])]
        sample = source.sample(int(self._number[n]), generator_of(self.seed, n))
        num_targets = max(1, int(sample.target_mask[1:].sum()))
        return replace(sample, target_weight=num_targets**-self.loss_balance)


class FixedSamples:
    """The first `num_samples` samples of one source under a seed of their own, for evaluation."""

    def __init__(self, source: Source, num_samples: int, seed: int) -> None:
        self._source = source
        self._num_samples = num_samples
        self._seed = seed

    def __len__(self) -> int:
        return self._num_samples

    def __getitem__(self, n: int) -> Sample:
        """Returns evaluation sample `n`."""
        if not 0 <= n < self._num_samples:
            raise IndexError(n)
        return self._source.sample(n, generator_of(self._seed, n))
