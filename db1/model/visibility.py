"""Visibility: the keys that each query sees.

Shapes: B batch, T query tokens, M memory tokens, S = M + T key tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

QUERY_BLOCK = 64
"""Queries of one block; shorter blocks score fewer hidden keys, longer ones cost fewer calls."""


def masked_score(dtype: torch.dtype) -> float:
    """Score of a hidden key: finite, so that sums of it with other scores stay numbers."""
    return torch.finfo(dtype).min / 2


@dataclass(frozen=True, kw_only=True)
class KeyBlock:
    """A run of queries and the run of keys that they can see.

    Args:
        queries: The queries' places.
        keys: The keys' places.
        hidden: Runs of these keys (counted from the block's first) that some query does not see,
            each with the scores to add, (queries, run): 0 or `masked_score`.
    """

    queries: slice
    keys: slice
    hidden: tuple[tuple[slice, Tensor], ...]

    @property
    def num_queries(self) -> int:
        """Length of the run of queries."""
        return self.queries.stop - self.queries.start

    @property
    def num_keys(self) -> int:
        """Length of the run of keys."""
        return self.keys.stop - self.keys.start


@dataclass(frozen=True, kw_only=True)
class Visibility:
    """The rule of one forward pass, shared by the layers.

    Query i sees key j when 0 <= M + i - j < span, and key j belongs to the row. The tensors that a
    kernel reads are made before the layers, by its `prepare`: nothing is computed at a look.

    Args:
        num_queries: T.
        num_keys: S.
        span: Keys a query sees at most, itself included; None without limit.
        valid_keys: int64 (B,): keys of each row, at the right; None when all S are.
        dtype: Type of the scores.
        device: Where they are.
        additive: 0 or `masked_score`, (T, S), or (B, 1, T, S) when rows hold different numbers of
            keys; None when every query sees every key. Filled in by `with_additive`.
        blind: bool (B, 1, T, 1), True for queries that see no key; None where there can be none.
            Filled in by `with_additive`.
    """

    num_queries: int
    num_keys: int
    span: int | None
    valid_keys: Tensor | None
    dtype: torch.dtype
    device: torch.device
    additive: Tensor | None = None
    blind: Tensor | None = None

    def with_additive(self) -> Visibility:
        """The rule with `additive` and `blind`; a blind query's scores are left as they are."""
        sees_all = self.num_queries == 1 and (self.span is None or self.num_keys <= self.span)
        if self.valid_keys is None:
            additive = None if sees_all else _as_scores(self.hidden(), self.dtype)
            return replace(self, additive=additive)
        hidden = self.hidden()
        blind = hidden.all(dim=-1, keepdim=True)
        return replace(self, additive=_as_scores(hidden & ~blind, self.dtype), blind=blind)

    def distances(self) -> Tensor:
        """Distance of each query from each key, int64 (T, S); below 0 for later keys."""
        places = torch.arange(self.num_keys - self.num_queries, self.num_keys, device=self.device)
        return places[:, None] - torch.arange(self.num_keys, device=self.device)

    def hidden(self) -> Tensor:
        """True for the keys that a query does not see, bool (T, S) or (B, 1, T, S)."""
        hidden = _beyond(self.distances(), self.span)
        if self.valid_keys is None:
            return hidden
        first = self.num_keys - self.valid_keys[:, None, None, None]
        return hidden | (torch.arange(self.num_keys, device=self.device) < first)

    def blocks(self) -> tuple[KeyBlock, ...]:
        """The queries in runs of `QUERY_BLOCK`, each with the keys that any of its queries sees.

        Leaves `valid_keys` out. Kept for the next call with the same sizes.
        """
        return key_blocks(self.num_queries, self.num_keys, self.span, self.dtype, QUERY_BLOCK)

    def num_block_pairs(self) -> int:
        """Pairs of a query and a key in all blocks; from sizes alone, as tracing asks for it."""
        slices = block_slices(self.num_queries, self.num_keys, self.span, QUERY_BLOCK)
        return sum((q.stop - q.start) * (k.stop - k.start) for q, k in slices)


@lru_cache(maxsize=16)
def key_blocks(
    num_queries: int, num_keys: int, span: int | None, dtype: torch.dtype, query_block: int
) -> tuple[KeyBlock, ...]:
    """Blocks on the CPU; see `Visibility.blocks`."""
    memory = num_keys - num_queries
    with torch.inference_mode(False):  # what is kept must serve learning, too
        return tuple(
            _key_block(queries, keys, memory, span, dtype)
            for queries, keys in block_slices(num_queries, num_keys, span, query_block)
        )


def block_slices(
    num_queries: int, num_keys: int, span: int | None, query_block: int
) -> list[tuple[slice, slice]]:
    """Places of each block's queries and keys; numbers alone, no tensors."""
    memory = num_keys - num_queries
    slices = []
    for start in range(0, num_queries, query_block):
        stop = min(start + query_block, num_queries)
        first = 0 if span is None else max(0, memory + start - span + 1)
        slices.append((slice(start, stop), slice(first, memory + stop)))
    return slices


def _key_block(
    queries: slice, keys: slice, memory: int, span: int | None, dtype: torch.dtype
) -> KeyBlock:
    places = torch.arange(queries.start, queries.stop) + memory
    hidden = _beyond(places[:, None] - torch.arange(keys.start, keys.stop), span)
    added = _as_scores(hidden, dtype)
    partly = hidden.any(dim=0).nonzero().squeeze(1).tolist()
    return KeyBlock(
        queries=queries,
        keys=keys,
        hidden=tuple((run, added[:, run].contiguous()) for run in _runs(partly)),
    )


def _beyond(distance: Tensor, span: int | None) -> Tensor:
    hidden = distance < 0
    return hidden if span is None else hidden | (distance >= span)


def _as_scores(hidden: Tensor, dtype: torch.dtype) -> Tensor:
    scores = torch.zeros(hidden.shape, dtype=dtype, device=hidden.device)
    return scores.masked_fill_(hidden, masked_score(dtype))


def _runs(places: list[int]) -> list[slice]:
    """Ascending places -> slices of neighbours: [0, 1, 5] -> [0:2, 5:6]."""
    runs: list[slice] = []
    for place in places:
        if runs and runs[-1].stop == place:
            runs[-1] = slice(runs[-1].start, place + 1)
        else:
            runs.append(slice(place, place + 1))
    return runs
