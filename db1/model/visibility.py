"""Which keys each query sees.

Shapes: B batch, T query tokens, M memory tokens, S = M + T key tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

QUERY_BLOCK = 64
"""Queries of one block; shorter blocks score fewer hidden keys, longer ones cost fewer calls."""


def masked_score(dtype: torch.dtype) -> float:
    """Score of a hidden key: finite, so that a padding query that sees no key yields no NaN."""
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
    """Built once a forward pass and shared by the layers.

    Query i sees key j when 0 <= M + i - j < span, and key j belongs to the row.

    Args:
        num_queries: T.
        num_keys: S.
        span: Keys a query sees at most, itself included; None without limit.
        valid_keys: int64 (B,): keys of each row, at the right; None when all S are.
        dtype: Type of the scores.
        device: Where they are.
    """

    num_queries: int
    num_keys: int
    span: int | None
    valid_keys: Tensor | None
    dtype: torch.dtype
    device: torch.device

    @cached_property
    def additive(self) -> Tensor | None:
        """0 or `masked_score`, (T, S), or (B, 1, T, S) when rows hold different numbers of keys.

        None when every query sees every key.
        """
        sees_all = self.num_queries == 1 and (self.span is None or self.num_keys <= self.span)
        if self.valid_keys is None and sees_all:
            return None
        hidden = self._hidden(slice(0, self.num_queries), slice(0, self.num_keys))
        if self.valid_keys is not None:
            first = self.num_keys - self.valid_keys[:, None, None, None]
            hidden = hidden | (torch.arange(self.num_keys, device=self.device) < first)
        return self._as_scores(hidden)

    @cached_property
    def blocks(self) -> tuple[KeyBlock, ...]:
        """The queries in runs of `QUERY_BLOCK`, each with the keys that any of its queries sees.

        Leaves `valid_keys` out.
        """
        starts = range(0, self.num_queries, QUERY_BLOCK)
        return tuple(self._block(a, min(a + QUERY_BLOCK, self.num_queries)) for a in starts)

    def _block(self, start: int, stop: int) -> KeyBlock:
        memory = self.num_keys - self.num_queries
        first = 0 if self.span is None else max(0, memory + start - self.span + 1)
        queries, keys = slice(start, stop), slice(first, memory + stop)
        added = self._as_scores(self._hidden(queries, keys))
        partly = (added != 0).any(dim=0).nonzero().squeeze(1).tolist()
        return KeyBlock(
            queries=queries,
            keys=keys,
            hidden=tuple((run, added[:, run].contiguous()) for run in _runs(partly)),
        )

    def _hidden(self, queries: slice, keys: slice) -> Tensor:
        memory = self.num_keys - self.num_queries
        places = torch.arange(queries.start, queries.stop, device=self.device) + memory
        distance = places[:, None] - torch.arange(keys.start, keys.stop, device=self.device)
        hidden = distance < 0
        return hidden if self.span is None else hidden | (distance >= self.span)

    def _as_scores(self, hidden: Tensor) -> Tensor:
        scores = torch.zeros(hidden.shape, dtype=self.dtype, device=self.device)
        return scores.masked_fill_(hidden, masked_score(self.dtype))


def _runs(places: list[int]) -> list[slice]:
    """Ascending places -> slices of neighbours: [0, 1, 5] -> [0:2, 5:6]."""
    runs: list[slice] = []
    for place in places:
        if runs and runs[-1].stop == place:
            runs[-1] = slice(runs[-1].start, place + 1)
        else:
            runs.append(slice(place, place + 1))
    return runs
