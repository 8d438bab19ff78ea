"""Selection of the pairs of a set that a run is scored on: never one that it learned from.

1. the split asked for
2. else `test`, where it is stored with texts
3. else the split of the evaluation loss
4. else the held-out images of the training splits
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from db1.data.pair_config import PairData
from db1.data.pairs import PairSelection, select_pairs
from db1.errors import ConfigError, DataError
from db1.store.pairs import Pair, PairStore, pair_splits

TEST = "test"


@dataclass(frozen=True, kw_only=True)
class ScoredPairs:
    """Pairs to score.

    Args:
        split: Name of the split, or `held-out images of train`.
        selection: All pairs of it that have texts.
        indices: Those of them that are scored, ascending, int64.
    """

    split: str
    selection: PairSelection
    indices: np.ndarray

    def __len__(self) -> int:
        return len(self.indices)

    def place(self, i: int) -> tuple[PairStore, int]:
        """Store and number inside it of scored pair `i`."""
        return self.selection.place(int(self.indices[i]))


def scored_pairs(
    folder: Path,
    data: PairData,
    *,
    heldout_share: float,
    split: str | None = None,
    limit: int | None = None,
) -> ScoredPairs:
    """Chooses the pairs of a set.

    Args:
        folder: Of the set's stores.
        data: How the run learned it.
        heldout_share: The run's `data.heldout_share`.
        split: Name of a split; None: see the top.
        limit: At most so many, evenly spread; None: all.

    Raises:
        ConfigError: A split that the run learned from.
        DataError: No such store, a broken one, or no pair with texts.
    """
    if split in data.train_splits:
        raise ConfigError(
            f"{folder}: the run learned from the split {split!r}, choose another of "
            f"{sorted(set(pair_splits(folder)) - set(data.train_splits)) or 'none'}"
        )
    named = split or _test_split(folder, data) or data.heldout_split
    if named is None:
        name = f"held-out images of {', '.join(data.train_splits)}"
        selection = select_pairs(folder, data, heldout=True, heldout_share=heldout_share)
    else:
        name, selection = named, store_pairs(folder / named)
    return ScoredPairs(split=name, selection=selection, indices=spread(len(selection), limit))


def whole_store(path: Path, limit: int | None = None) -> ScoredPairs:
    """All pairs of one store, those without answers too.

    Raises:
        DataError: A broken store, or an empty one.
    """
    store = PairStore(path)
    if not len(store):
        raise DataError(f"{path}: no pair in it; import again")
    selection = PairSelection([store], [range(len(store))])
    return ScoredPairs(
        split=store.header.split, selection=selection, indices=spread(len(store), limit)
    )


def store_pairs(path: Path) -> PairSelection:
    """All pairs of one store that have texts.

    Raises:
        DataError: A broken store, or one without texts.
    """
    store = PairStore(path)
    numbers = np.flatnonzero(store.num_texts() > 0)
    if not len(numbers):
        raise DataError(f"{path}: no pair with a text to compare with; choose another split")
    return PairSelection([store], [numbers])


def training_pairs(folder: Path, data: PairData, heldout_share: float) -> PairSelection:
    """The pairs that the run learned from."""
    return select_pairs(folder, data, heldout=False, heldout_share=heldout_share)


def spread(count: int, limit: int | None) -> np.ndarray:
    """At most `limit` of the numbers below `count`, evenly spread, ascending, int64 (N,)."""
    if limit is None or limit >= count:
        return np.arange(count)
    return np.arange(limit) * count // limit


def pair_id(pair: Pair, number: int, key: str) -> int:
    """The id of a pair in result files: the set's own, or the pair's number in its store.

    Args:
        pair: The pair.
        number: In its store.
        key: `image_id` or `question_id`.
    """
    found = pair.metadata.get(key)
    return found if isinstance(found, int) and not isinstance(found, bool) else number


def pairs_of(selection: PairSelection, indices: Sequence[int] | np.ndarray) -> list[Pair]:
    """The texts of the pairs at the places `indices` (N,)."""
    places = (selection.place(int(index)) for index in indices)
    return [store.pair(number) for store, number in places]


def _test_split(folder: Path, data: PairData) -> str | None:
    if TEST in data.train_splits or TEST not in pair_splits(folder):
        return None
    return TEST if (PairStore(folder / TEST).num_texts() > 0).any() else None
