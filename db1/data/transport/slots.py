"""Shared memory in which reader processes hand over their batches, used again and again.

    reader 0    slot 0 | slot 1 | slot 2      fills a free slot, marks it full, sends its number
    reader 1    slot 3 | slot 4 | slot 5
    receiver                                  copies the batch out, marks the slot free

The system gives out fresh shared memory page by page, which takes several times as long as filling
it does (docs/benchmarks.md). A slot's memory is sent with its first batch and with one that needs
more room; from then on only its number crosses.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from db1.data.collate import BatchLayout, PackedBatch

_HEADROOM = 1.25
"""Room beyond what is needed when a slot is made: batches differ in their images."""


class SharedSlots:
    """The slots of all reader processes; each process holds a copy of this object.

    Args:
        num_readers: Reader processes.
        slots_per_reader: At least the batches that a reader works ahead, and one.
    """

    def __init__(self, num_readers: int, slots_per_reader: int) -> None:
        self._slots_per_reader = slots_per_reader
        self._is_full = torch.zeros(num_readers * slots_per_reader, dtype=torch.bool)
        self._is_full.share_memory_()
        self._blocks: dict[int, Tensor] = {}

    def send(
        self, reader: int, layout: BatchLayout, fill: Callable[[PackedBatch], None]
    ) -> PackedBatch:
        """Has a free slot filled, or where all are full a block of its own.

        Args:
            reader: Number of this reader process.
            layout: Of the batch.
            fill: Writes the batch's tensors.

        Returns:
            What crosses, without its block where the receiver knows it.
        """
        slot = self._free_slot(reader)
        block = None if slot is None else self._blocks.get(slot)
        is_known = block is not None and len(block) >= layout.num_bytes
        if block is None or not is_known:
            block = _shared(int(layout.num_bytes * _HEADROOM))
        fill(PackedBatch(block=block[: layout.num_bytes], layout=layout))
        if slot is not None:
            self._blocks[slot] = block
            self._is_full[slot] = True
        return PackedBatch(block=None if is_known else block, layout=layout, slot=slot)

    def receive(self, sent: PackedBatch, pin: bool = False) -> PackedBatch:
        """Copies a batch out of its slot and frees the slot, in the receiving process.

        Args:
            sent: What the reader sent.
            pin: Copy to page-locked memory, which a GPU reads without help.
        """
        block = self._blocks.get(sent.slot) if sent.block is None else sent.block
        if sent.slot is not None:
            self._blocks[sent.slot] = block
        own = torch.empty(sent.layout.num_bytes, dtype=torch.uint8, pin_memory=pin)
        own.copy_(block[: sent.layout.num_bytes])
        if sent.slot is not None:
            self._is_full[sent.slot] = False
        return PackedBatch(block=own, layout=sent.layout)

    def _free_slot(self, reader: int) -> int | None:
        first = reader * self._slots_per_reader
        is_full = self._is_full[first : first + self._slots_per_reader].tolist()
        return None if all(is_full) else first + is_full.index(False)


def _shared(num_bytes: int) -> Tensor:
    """Shared memory, uint8, made there as PyTorch's own collate does: `share_memory_` copies."""
    storage = torch.UntypedStorage._new_shared(num_bytes)
    return torch.empty(0, dtype=torch.uint8).set_(storage)
