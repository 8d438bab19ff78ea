"""A source of the mixture as it lies on the disk: its stores, their fingerprints and checksums."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from db1.data.mixture import FixedSamples
from db1.data.pairs import PairSource
from db1.data.sources import EpisodeSource, Source, TextSource
from db1.store.documents import DocumentStore
from db1.store.episodes import EpisodeStore
from db1.store.pairs import PairStore

logger = logging.getLogger(__name__)

Store = EpisodeStore | DocumentStore | PairStore


class StoredSource:
    """The stores of one source.

    Args:
        stores: Each once; what is learned from first.
        num_heldout: Episodes that are held out; None where parts have stores of their own.
    """

    def __init__(self, stores: Iterable[Store], num_heldout: int | None = None) -> None:
        self.stores = tuple(stores)
        self._num_heldout = num_heldout

    def state(self) -> dict[str, Any]:
        """Kind, counts and fingerprint, for JSON."""
        kind, counts = "", {}
        digest = hashlib.sha256()
        for store in self.stores:
            if isinstance(store, EpisodeStore):
                kind, found = "episodes", {"episodes": store.num_episodes, "steps": store.num_steps}
            elif isinstance(store, DocumentStore):
                kind, found = "text", {"documents": store.num_documents, "tokens": store.num_tokens}
            else:
                kind, found = "pairs", {"pairs": store.num_pairs, "images": store.num_images}
            counts = {key: counts.get(key, 0) + count for key, count in found.items()}
            digest.update(store.digest().encode())
        if self._num_heldout is not None:
            counts["held out"] = self._num_heldout
        return {"kind": kind, "counts": counts, "digest": digest.hexdigest()}

    @property
    def is_checkable(self) -> bool:
        """Tells whether there are checksums that are not compared at every read anyway."""
        return any(not isinstance(store, PairStore) for store in self.stores)

    def check_one(self, rng: np.random.Generator) -> None:
        """Compares one episode or block of a corpus, drawn at random, with its checksum.

        Raises:
            DataError: It is damaged.
        """
        for store in self.stores:
            if isinstance(store, EpisodeStore) and store.num_episodes:
                store.verify_episode(int(rng.integers(store.num_episodes)))
            elif isinstance(store, DocumentStore) and store.num_blocks:
                store.verify_block(int(rng.integers(store.num_blocks)))

    def warn_of_lost_records(self) -> None:
        """Logs stores whose records are fewer than their steps, as of a file that lost its end."""
        for store in self.stores:
            if isinstance(store, EpisodeStore) and store.num_episodes:
                behind = store.num_steps_behind
                if behind > int(store.lengths.max()):
                    logger.warning(
                        "%s: %d steps lie behind the last of %d episodes and are left out; `db1 "
                        "inspect` says more",
                        store.path,
                        behind,
                        store.num_episodes,
                    )

    def check(self, progress: Callable[[int, int], None]) -> None:
        """Compares everything with its checksums.

        Raises:
            DataError: Something is damaged.
        """
        for store in self.stores:
            if not isinstance(store, PairStore):
                store.verify(progress)


def stored_sources(
    sources: Iterable[Source], heldout: Mapping[str, FixedSamples]
) -> dict[str, StoredSource]:
    """The stores of a run by source.

    Args:
        sources: What is learned from.
        heldout: What is evaluated on, by source.
    """
    found = {}
    for source in sources:
        other = heldout[source.name].source if source.name in heldout else None
        stores = {str(_place(store)): store for store in _stores(source)}
        stores |= {str(_place(store)): store for store in ([] if other is None else _stores(other))}
        kept = len(other.windows.numbers) if isinstance(other, EpisodeSource) else None
        found[source.name] = StoredSource(stores.values(), kept)
    return found


def _stores(source: Source) -> list[Store]:
    if isinstance(source, EpisodeSource | TextSource):
        return [source.store]
    return list(source.stores) if isinstance(source, PairSource) else []


def _place(store: Store) -> Any:
    return store.prefix if isinstance(store, DocumentStore) else store.path
