"""Many agents that share one forward pass.

    agent 1 (a thread)   decode(ids, memory) --+
    agent 2 (a thread)   decode(ids, memory) --+--> one decode of three rows --> hidden, memory
    agent 3 (a thread)   decode(ids, memory) --+

Every session has an agent of its own, the same as a local one, over a `BatchedModel` in place of
the model. Its `decode` waits until all agents that are at work have come to theirs, or a short
window is over (half the time of the last pass), and runs them together.

The rows of a pass stay together in one memory. While the same rows come again, nothing is copied;
a row that comes alone is copied out, and what nobody holds any more is freed.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad as pad_left

from db1.errors import DataError
from db1.model.batch import ImageGroup, NumberGroup
from db1.model.memory import Memory
from db1.sequence.segment import NO_LOCAL_POSITION

LONGEST_WAIT = 0.1
"""Seconds that a pass waits at most, however long passes take."""
PAD_ID = 0
"""Any id will do: nothing attends to padding."""
WINDOW = 0.002
"""Seconds that a pass waits for further rows."""


class RowMemory:
    """One row of a memory that several agents share; anything but cutting copies it out.

    Args:
        group: The shared memory.
        row: Number of the row in it.
        limit: Tokens that are still remembered; None: all.
    """

    def __init__(self, group: _Group, row: int, limit: int | None = None) -> None:
        self._group: _Group | None = group
        self._row = row
        self._limit = limit
        self._alone: Memory | None = None
        group.rows.add(self)

    def truncated(self, length: int) -> RowMemory:
        """See `Memory.truncated`."""
        if self._group is None:
            return _alone(self.memory.truncated(length))
        limit = length if self._limit is None else min(length, self._limit)
        return RowMemory(self._group, self._row, limit)

    @property
    def memory(self) -> Memory:
        """The row as a memory of its own."""
        if self._alone is None:
            assert self._group is not None
            shared = self._group.memory
            index = torch.tensor([self._row], device=shared.num_tokens.device)
            alone = shared.select_rows(index)
            self._alone = alone if self._limit is None else alone.truncated(self._limit)
        return self._alone

    def leave(self) -> None:
        """Copies the row out, so that the shared memory can be freed."""
        if self._group is not None:
            _ = self.memory
            self._group = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.memory, name)


class _Group:
    """A memory whose rows belong to different agents."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self.rows: weakref.WeakSet[RowMemory] = weakref.WeakSet()


def _alone(memory: Memory) -> RowMemory:
    return RowMemory(_Group(memory), 0)


@dataclass(eq=False)
class _Call:
    """Request of one agent."""

    ids: Tensor
    local_positions: Tensor
    images: tuple[ImageGroup, ...]
    memory: Any
    numbers: NumberGroup | None = None
    since: float = field(default_factory=time.monotonic)
    done: threading.Event = field(default_factory=threading.Event)
    result: tuple[Tensor, Any] | None = None
    error: BaseException | None = None

    @property
    def num_tokens(self) -> int:
        """T."""
        return self.ids.shape[1]


class Batcher:
    """Runs the passes of all agents, in a thread of its own.

    Args:
        model: The decoder, in evaluation mode.
        window: Seconds that a pass waits at least for further rows while agents are at work.
        max_rows: The most rows of a pass.
        on_batch: Called with the number of rows of every pass.
    """

    def __init__(
        self,
        model: Any,
        *,
        window: float = WINDOW,
        max_rows: int = 64,
        on_batch: Callable[[int], None] | None = None,
    ) -> None:
        self.model = model
        self._window = window
        self._max_rows = max_rows
        self._on_batch = on_batch or (lambda rows: None)
        self._changed = threading.Condition()
        self._waiting: list[_Call] = []
        self._at_work = 0
        self._last_pass, self._last_rows = 0.0, 0
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="db1-batcher", daemon=True)
        self._thread.start()

    def __enter__(self) -> Batcher:
        """Counts an agent as being at work; passes wait for it."""
        with self._changed:
            self._at_work += 1
        return self

    def __exit__(self, *exception: object) -> None:
        with self._changed:
            self._at_work -= 1
            self._changed.notify()

    def decode(self, call: _Call) -> tuple[Tensor, Any]:
        """Runs a call together with those of other agents; hidden states (1, T, D) and a memory."""
        with self._changed:
            if self._stopped:
                raise RuntimeError("the batcher was stopped")
            self._waiting.append(call)
            self._changed.notify()
        call.done.wait()
        if call.error is not None:
            raise call.error
        assert call.result is not None
        return call.result

    def stop(self) -> None:
        """Ends the thread; calls that wait fail."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while (calls := self._next()) is not None:
            started = time.monotonic()
            try:
                with torch.inference_mode():
                    results = run_together(self.model, calls)
                for call, result in zip(calls, results, strict=True):
                    call.result = result
            except BaseException as error:  # each caller raises it in its own thread
                for call in calls:
                    call.error = error
            self._last_pass, self._last_rows = time.monotonic() - started, len(calls)
            for call in calls:
                call.done.set()
            self._on_batch(len(calls))
        for call in self._waiting:
            call.error = RuntimeError("the batcher was stopped")
            call.done.set()

    def _next(self) -> list[_Call] | None:
        """Waits for the rows of the next pass; None when stopped.

        Rows of about as many tokens go together: a pass is as wide as its longest row.
        """
        with self._changed:
            while not self._is_due():
                if self._stopped:
                    return None
                oldest = self._waiting[0].since if self._waiting else None
                rest = None if oldest is None else oldest + self._patience - time.monotonic()
                self._changed.wait(rest)
            if self._stopped:
                return None
            width = self._waiting[0].num_tokens.bit_length()
            alike = [c for c in self._waiting if c.num_tokens.bit_length() == width]
            calls = alike[: self._max_rows]
            self._waiting = [c for c in self._waiting if c not in calls]
            return sorted(calls, key=_place)

    def _is_due(self) -> bool:
        """Tells whether a pass is due: all agents at work or in the last pass have asked.

        Those of the last pass are expected, for their environments have just made a step; and as
        long as the same rows come again, their memory is not copied.
        """
        if not self._waiting:
            return False
        expected = min(max(self._at_work, self._last_rows), self._max_rows)
        is_over = time.monotonic() >= self._waiting[0].since + self._patience
        return len(self._waiting) >= expected or is_over

    @property
    def _patience(self) -> float:
        """Seconds to wait for agents at work: half a pass, for a fuller one saves a whole one."""
        return max(self._window, min(self._last_pass / 2, LONGEST_WAIT))


class BatchedModel:
    """A model whose `decode` is shared with other agents; everything else is the model's own.

    Args:
        batcher: Runs the passes.
    """

    def __init__(self, batcher: Batcher) -> None:
        self._batcher = batcher

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batcher.model, name)

    def decode(
        self,
        ids_BT: Tensor,
        local_positions_BT: Tensor,
        images: tuple[ImageGroup, ...] = (),
        memory: Any = None,
        lengths: Tensor | None = None,
        numbers: NumberGroup | None = None,
    ) -> tuple[Tensor, Any]:
        """See `TransformerXL.decode`; of one row (1, T), whose tokens are never padded."""
        if len(ids_BT) != 1:
            raise DataError(f"decode: got {len(ids_BT)} rows, expected an agent of one")
        call = _Call(ids_BT, local_positions_BT, images, memory, numbers)
        return self._batcher.decode(call)


def _place(call: _Call) -> tuple[int, int]:
    """Orders rows as they lie in the memory that they share, so that it can be used as it is."""
    row = call.memory
    return (id(row._group), row._row) if isinstance(row, RowMemory) else (0, 0)


def run_together(model: Any, calls: Sequence[_Call]) -> list[tuple[Tensor, RowMemory]]:
    """One pass for several rows.

    Returns:
        For each call the hidden states (1, T, D) of its tokens, and its memory after them.
    """
    memory = _joined(calls)
    width = max(call.num_tokens for call in calls)
    lengths = torch.tensor([call.num_tokens for call in calls], device=calls[0].ids.device)
    hidden_BTD, after = model.decode(
        _padded([call.ids for call in calls], width, PAD_ID),
        _padded([call.local_positions for call in calls], width, NO_LOCAL_POSITION),
        _images(calls, width),
        memory,
        None if int(lengths.min()) == width else lengths,
        _numbers(calls, width),
    )
    group = _Group(after)
    return [
        (hidden_BTD[row : row + 1, width - call.num_tokens :], RowMemory(group, row))
        for row, call in enumerate(calls)
    ]


def _joined(calls: Sequence[_Call]) -> Memory:
    """The memory of all rows: the shared one where these are its rows, else a copy."""
    rows = [call.memory for call in calls]
    groups = {id(row._group) for row in rows if isinstance(row, RowMemory)}
    first = rows[0]
    if len(groups) == 1 and isinstance(first, RowMemory) and first._group is not None:
        shared = first._group.memory
        limits = {row._limit for row in rows if isinstance(row, RowMemory)}
        in_order = [getattr(row, "_row", None) for row in rows] == list(range(shared.batch_size))
        if in_order and len(limits) == 1:
            limit = limits.pop()
            return shared if limit is None else shared.truncated(limit)
    memories = [row.memory if isinstance(row, RowMemory) else row for row in rows]
    left = {row._group for row in rows if isinstance(row, RowMemory) and row._group is not None}
    for row in rows:
        if isinstance(row, RowMemory):
            row.leave()
    for group in left:
        _thin_out(group)
    return memories[0] if len(memories) == 1 else Memory.joined(memories)


def _thin_out(group: _Group) -> None:
    """Frees a shared memory that is mostly nobody's: its last rows are copied out."""
    kept = [row for row in group.rows if row._group is group]
    if len({row._row for row in kept}) * 2 <= group.memory.batch_size:
        for row in kept:
            row.leave()


def _padded(parts: Sequence[Tensor], width: int, pad: int) -> Tensor:
    """Rows (1, T) -> (B, width), tokens at the right."""
    return torch.cat([pad_left(part, (width - part.shape[1], 0), value=pad) for part in parts])


def _images(calls: Sequence[_Call], width: int) -> tuple[ImageGroup, ...]:
    """The images of all rows by size, at their places in the flattened tokens."""
    by_size: dict[tuple[int, ...], list[ImageGroup]] = {}
    for row, call in enumerate(calls):
        shift = row * width + width - call.num_tokens
        for group in call.images:
            is_outside = group.positions >= call.num_tokens
            moved = (group.positions + shift).masked_fill(is_outside, len(calls) * width)
            size = tuple(group.pixels.shape[1:])
            by_size.setdefault(size, []).append(ImageGroup(pixels=group.pixels, positions=moved))
    return tuple(
        ImageGroup(
            pixels=torch.cat([group.pixels for group in groups]),
            positions=torch.cat([group.positions for group in groups]),
        )
        for groups in by_size.values()
    )


def _numbers(calls: Sequence[_Call], width: int) -> NumberGroup | None:
    """The number patches of all rows, at their places in the flattened tokens."""
    groups, positions = [], []
    for row, call in enumerate(calls):
        if call.numbers is not None:
            groups.append(call.numbers)
            positions.append(call.numbers.positions + row * width + width - call.num_tokens)
    if not groups:
        return None
    return NumberGroup(
        values=torch.cat([group.values for group in groups]),
        codes=torch.cat([group.codes for group in groups]),
        layouts=torch.cat([group.layouts for group in groups]),
        positions=torch.cat(positions),
    )
