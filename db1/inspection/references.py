"""Reference returns of a store, those beside it or the suite's, and its score by them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from db1.store.episodes import EpisodeStore, StoreHeader


@dataclass(frozen=True, kw_only=True)
class StoreReferences:
    """Mean returns of the uniform random policy and of the expert."""

    random: float
    expert: float

    def normalised(self, mean_return: float) -> float | None:
        """0 is random, 1 the expert; None where both are equal."""
        span = self.expert - self.random
        return (mean_return - self.random) / span if np.isfinite(span) and span else None


def references_of(store: EpisodeStore) -> StoreReferences | None:
    """Those of `references.json` beside a store, else what the suite measured.

    Only scores of the store's own environment version count. None where there are none.

    Raises:
        DataError: A file of references is broken.
    """
    from db1.suites.scores.stored import read_stored  # loads gymnasium

    found = read_stored(store.path)
    if found is None:
        return _measured(store.header)
    return StoreReferences(random=found.random, expert=found.expert)


def _measured(header: StoreHeader) -> StoreReferences | None:
    if not header.environment:
        return None
    from db1.suites.scores.measured import measured_of  # loads gymnasium

    found = measured_of(header.task, header.environment)
    if found is None or found.random is None or found.expert is None:
        return None
    return StoreReferences(random=float(found.random["mean"]), expert=float(found.expert["mean"]))
