"""Memory for acting: the projected keys and values of the last tokens of each row.

All rows end at the same column, the newest token at the right; a row with fewer tokens has unused
columns at its left. New tokens are written behind the end, and what is visible slides along:

    capacity        |<--------- filled --------->|
    . . . . . . . . | - - a b c d e f g h i j k l | . . . . . . .     row 0: 12 tokens
    . . . . . . . . | m n o p q r s t u v w x y z | . . . . . . .     row 1: 14 tokens
                                                 stop

A `Memory` is never changed: a step returns another one, which shares the storage while its columns
are free. So a memory can be kept and continued in several ways.

Shapes: L layers, B batch rows, H heads, K head width, T new tokens, S = filled + T keys, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from db1.errors import ConfigError, DataError
from db1.model.config import ModelConfig
from db1.model.positions import PositionTerms

TermsOfSpan = Callable[[int], list[PositionTerms]]
"""Number of keys -> each layer's position terms."""


class _Storage:
    """Keys and values (L, 2, B, H, C, K), and the column up to which they are written."""

    def __init__(self, columns: Tensor, written: int) -> None:
        self.columns = columns
        self.written = written

    def can_append(self, stop: int, num_tokens: int) -> bool:
        """True when columns [stop, stop + num_tokens) are free for a memory that ends at `stop`."""
        frozen = self.columns.is_inference() and not torch.is_inference_mode_enabled()
        fits = stop + num_tokens <= self.columns.shape[4]
        return fits and self.written == stop and not frozen


class PositionCache:
    """Each layer's position terms, which depend on distances alone.

    Args:
        terms_of: Computes them.
    """

    def __init__(self, terms_of: TermsOfSpan) -> None:
        self._terms_of = terms_of
        self._span = 0
        self._terms: list[PositionTerms] = []

    def terms(self, span: int) -> list[PositionTerms]:
        """The terms of each layer for this number of keys."""
        if span > self._span:
            self._span = max(span, self._span + self._span // 2)
            self._terms = self._terms_of(self._span)
        return [terms.last(span + 1) for terms in self._terms]


@dataclass(frozen=True)
class Memory:
    """Keys and values of the last tokens of each row; made by `TransformerXL.new_memory`.

    Args:
        length: Tokens held at most.
        filled: Columns in use, at least any row's number of tokens.
        counts: int64 (B,) tokens of each row; None when all rows have `filled`.
        start: Keys and values (L, 2, H, K) that a new row is filled with; None: it is empty.
    """

    length: int
    filled: int
    counts: Tensor | None
    start: Tensor | None
    positions: PositionCache
    _storage: _Storage
    _stop: int

    @classmethod
    def empty(
        cls,
        config: ModelConfig,
        batch_size: int,
        memory_length: int,
        *,
        like: Tensor,
        start: Tensor | None,
        terms_of: TermsOfSpan,
    ) -> Memory:
        """A memory before the first token: keys and values (B, H, 0, K) in each layer.

        Args:
            config: Sizes of the decoder that will use it.
            batch_size: B.
            memory_length: Tokens held at most.
            like: Gives type and device.
            start: As in the class.
            terms_of: The decoder's position terms.

        Raises:
            ConfigError: For a negative length.
        """
        if memory_length < 0:
            raise ConfigError(f"memory_length: got {memory_length}, expected at least 0")
        shape = (config.num_layers, 2, batch_size, config.num_heads, 0, config.head_dim)
        columns = torch.empty(shape, dtype=like.dtype, device=like.device)
        memory = cls(
            length=memory_length,
            filled=0,
            counts=None,
            start=start,
            positions=PositionCache(terms_of),
            _storage=_Storage(columns, 0),
            _stop=0,
        )
        return memory if memory.start is None else memory.reset_rows(torch.ones(batch_size).bool())

    @classmethod
    def joined(cls, memories: Sequence[Memory]) -> Memory:
        """The rows of several memories of one model as one memory, in their order; a copy.

        Args:
            memories: At least one, all of one length.
        """
        first, filled = memories[0], max(memory.filled for memory in memories)
        columns = torch.cat([memory._padded(filled) for memory in memories], dim=2)
        counts = torch.cat([memory.num_tokens for memory in memories])
        is_even = bool((counts == filled).all())
        return replace(first, filled=filled)._with_columns(columns, None if is_even else counts)

    @property
    def batch_size(self) -> int:
        """B."""
        return self._storage.columns.shape[2]

    @property
    def num_tokens(self) -> Tensor:
        """Tokens held by each row, int64 (B,)."""
        if self.counts is not None:
            return self.counts
        return torch.full((self.batch_size,), self.filled, device=self._storage.columns.device)

    def layer(self, index: int) -> tuple[Tensor, Tensor]:
        """Keys and values of one layer, each (B, H, filled, K); older columns to the left."""
        keys, values = self._columns[index]
        return keys, values

    def reset_rows(self, mask: Tensor) -> Memory:
        """The memory with the rows where `mask`, bool (B,), is True back at their start."""
        mask = mask.to(self._storage.columns.device)
        if self.start is None:
            return replace(self, counts=self.num_tokens.masked_fill(mask, 0))
        full = replace(self, filled=self.length, counts=self.num_tokens)
        columns = torch.where(
            mask[:, None, None, None], self.start[:, :, None, :, None], self._padded(self.length)
        )
        counts = full.num_tokens.masked_fill(mask, self.length)
        return full._with_columns(columns, counts)

    def select_rows(self, index: Tensor) -> Memory:
        """The memory with row `index[i]` as row i; -1 stands for a new row.

        Args:
            index: int64 (N,).
        """
        index = index.to(self._storage.columns.device)
        kept = index.clamp(min=0)
        selected = self._with_columns(self._columns[:, :, kept], self.num_tokens[kept])
        return selected.reset_rows(index < 0) if bool((index < 0).any()) else selected

    def truncated(self, length: int) -> Memory:
        """The memory with the last `length` tokens of each row; it may grow again."""
        if length >= self.filled:
            return self
        counts = None if self.counts is None else self.counts.clamp(max=length)
        return replace(self, filled=length, counts=counts)

    def limited(self, most: Tensor) -> Memory:
        """The memory with at most the last `most[b]` tokens of row b, int64 (B,)."""
        most = most.to(self._storage.columns.device)
        counts = torch.minimum(self.num_tokens, most)
        filled = int(counts.max()) if len(counts) else 0
        return replace(self, filled=filled, counts=counts)

    def without_middle(self, length: int | Tensor, front: Tensor) -> Memory:
        """The memory with some tokens of each row at most: its first ones and its last ones.

            length 5, front 2      a b c d e f g h i   ->   a b g h i

        Args:
            length: Tokens kept of each row; int64 (B,) where rows differ.
            front: int64 (B,), how many of them are the row's first ones; at most `length`.
        """
        device = self._storage.columns.device
        lengths = torch.as_tensor(length, device=device).expand(self.batch_size)
        if not len(lengths) or int(lengths.min()) >= self.filled:
            return self
        width = min(int(lengths.max()), self.filled)
        lengths = lengths.clamp(max=width)
        counts, front = self.num_tokens, front.to(device)
        columns = torch.arange(width, device=device)
        places = columns - (width - lengths)[:, None]  # of a row's kept tokens, from 0
        recent = self.filled - width + columns
        first = (self.filled - counts)[:, None] + places
        is_front = (places >= 0) & (places < front[:, None])
        keeps_first = (counts > lengths)[:, None] & is_front
        index = torch.where(keeps_first, first, recent)[None, None, :, None, :, None]
        shape = list(self._columns.shape)
        shape[4] = width
        kept = self._columns.gather(4, index.expand(shape))
        return self._with_columns(kept, torch.minimum(counts, lengths))

    def extended(
        self, num_tokens: int, lengths: Tensor | None, span: int | None = None
    ) -> Extension:
        """Makes room for `num_tokens` new columns.

        Args:
            num_tokens: T.
            lengths: int64 (B,), how many of them are tokens, at the right; None: all.
            span: Keys that a token sees at most, itself included; None without limit.

        Raises:
            DataError: For lengths outside [0, T].
        """
        if lengths is None:
            return Extension(self, num_tokens, None, span)
        lengths = lengths.to(self._storage.columns.device)
        if lengths.shape != (self.batch_size,) or lengths.min() < 0 or lengths.max() > num_tokens:
            raise DataError(
                f"lengths {lengths.tolist()}: expected {self.batch_size} numbers in 0..{num_tokens}"
            )
        ragged = None if lengths.min() == num_tokens else lengths
        return Extension(self, num_tokens, ragged, span)

    @property
    def _columns(self) -> Tensor:
        return self._storage.columns[:, :, :, :, self._stop - self.filled : self._stop]

    def _padded(self, width: int) -> Tensor:
        """The columns in use after unused ones, (L, 2, B, H, width, K)."""
        missing = width - self.filled
        return torch.nn.functional.pad(self._columns, (0, 0, missing, 0))

    def _with_columns(self, columns: Tensor, counts: Tensor | None) -> Memory:
        stop = columns.shape[4]
        return replace(
            self, filled=stop, counts=counts, _storage=_Storage(columns, stop), _stop=stop
        )


class Extension:
    """One forward pass's view of a memory: takes each layer's new keys and values.

    Args:
        memory: The memory before.
        num_tokens: T.
        lengths: int64 (B,) or None, as in `Memory.extended`.
        span: As there. What no new token sees is kept, and not handed out: a token after a full
            memory then sees all that it gets, and needs no mask.
    """

    def __init__(
        self, memory: Memory, num_tokens: int, lengths: Tensor | None, span: int | None = None
    ) -> None:
        self._memory = memory
        self._lengths = lengths
        self.num_tokens = num_tokens
        self.num_keys = memory.filled + num_tokens
        self.num_seen = num_tokens + min(memory.filled, memory.filled if span is None else span - 1)
        if lengths is None and memory._storage.can_append(memory._stop, num_tokens):
            self._storage, stop = memory._storage, memory._stop
        else:
            self._storage, stop = self._moved(), memory.filled
        self._stop = stop + num_tokens
        self._storage.written = self._stop

    @property
    def valid_keys(self) -> Tensor | None:
        """Keys of each row, int64 (B,); None when all rows have all."""
        if self._lengths is None:
            counts = self._memory.counts
            return None if counts is None else counts + self.num_tokens
        return self._memory.num_tokens + self._lengths

    @property
    def valid_seen(self) -> Tensor | None:
        """`valid_keys` among the `num_seen` last ones, int64 (B,)."""
        valid = self.valid_keys
        return None if valid is None else valid.clamp(max=self.num_seen)

    def appender(self, layer: int) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """`append` for one layer: keys and values (B, H, T, K) -> (B, H, num_seen, K)."""
        return partial(self.append, layer)

    def append(self, layer: int, k_BHTK: Tensor, v_BHTK: Tensor) -> tuple[Tensor, Tensor]:
        """Writes one layer's new keys and values (B, H, T, K).

        Returns:
            The `num_seen` last keys and values of all, (B, H, num_seen, K).
        """
        columns = self._storage.columns[layer]
        new = columns[..., self._stop - self.num_tokens : self._stop, :]
        fresh = torch.stack([k_BHTK, v_BHTK])
        if self._lengths is not None:
            places = torch.arange(self.num_tokens, device=fresh.device)
            is_token = places >= self.num_tokens - self._lengths[:, None]
            fresh = torch.where(is_token[None, :, None, :, None], fresh, new)
        new.copy_(fresh)
        keys, values = columns[..., self._stop - self.num_seen : self._stop, :]
        return keys, values

    def finish(self) -> Memory:
        """The memory after the forward pass, cut to its length."""
        memory = self._memory
        grown = replace(
            memory,
            filled=self.num_keys,
            counts=self.valid_keys,
            _storage=self._storage,
            _stop=self._stop,
        )
        return grown.truncated(memory.length)

    def _moved(self) -> _Storage:
        """Copies the memory to a storage with room, each row shifted over its padding."""
        old = self._memory._columns
        shape = list(old.shape)
        shape[4] = self.num_keys + max(16, self._memory.length // 4)
        columns = old.new_zeros(shape)
        if self._lengths is None:
            columns[..., : self._memory.filled, :] = old
        elif self._memory.filled:
            padding = self.num_tokens - self._lengths
            source = torch.arange(self.num_keys, device=old.device) - padding[:, None]
            index = source.clamp(0, self._memory.filled - 1)[None, None, :, None, :, None]
            shape[4] = self.num_keys
            columns[..., : self.num_keys, :] = old.gather(4, index.expand(shape))
        return _Storage(columns, self.num_keys)
