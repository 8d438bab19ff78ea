"""Slots are filled, emptied and used again; a batch without one crosses by itself."""

from __future__ import annotations

import numpy as np
import torch

from db1.data.collate import PackedBatch, Packing
from db1.data.transport.slots import SharedSlots
from db1.sequence.segment import TokenSegment


def _packing(value: int, num_samples: int = 1) -> Packing:
    sample = TokenSegment(
        ids=np.full(33, value, dtype=np.int32),
        target_mask=np.ones(33, dtype=bool),
        local_positions=np.zeros(33, dtype=np.int32),
        source="toy",
    )
    return Packing([sample] * num_samples)


def _send(slots: SharedSlots, packing: Packing, reader: int = 0) -> PackedBatch:
    return slots.send(reader, packing.layout, packing.fill)


def test_slots_are_sent_once_and_used_again() -> None:
    slots = SharedSlots(num_readers=2, slots_per_reader=2)
    sent = [_send(slots, _packing(1)), _send(slots, _packing(2))]
    assert [s.slot for s in sent] == [0, 1]
    assert _send(slots, _packing(3), reader=1).slot == 2
    assert all(s.block is not None and s.block.is_shared() for s in sent)
    received = [slots.receive(s) for s in sent]
    again = _send(slots, _packing(4))
    assert again.slot == 0 and again.block is None
    assert (slots.receive(again).batch().ids == 4).all()
    for value, packed in zip((1, 2), received, strict=True):  # copies: not overwritten
        assert (packed.batch().ids == value).all()


def test_a_larger_batch_gets_a_larger_slot() -> None:
    slots = SharedSlots(num_readers=1, slots_per_reader=1)
    slots.receive(_send(slots, _packing(1)))
    sent = _send(slots, _packing(2, num_samples=50))
    assert sent.slot == 0 and sent.block is not None
    assert slots.receive(sent).batch().ids.shape == (50, 32)
    small = _send(slots, _packing(3))
    assert small.block is None and (slots.receive(small).batch().ids == 3).all()


def test_a_batch_crosses_alone_when_all_slots_are_full() -> None:
    slots = SharedSlots(num_readers=1, slots_per_reader=1)
    first = _send(slots, _packing(1))
    second = _send(slots, _packing(2))
    assert second.slot is None and second.block is not None
    assert (slots.receive(second).batch().ids == 2).all()
    assert (slots.receive(first).batch().ids == 1).all()


def test_tensors_of_a_batch_are_aligned() -> None:
    packing = _packing(1, num_samples=3)
    slots = SharedSlots(num_readers=1, slots_per_reader=1)
    batch = slots.receive(_send(slots, packing)).batch()
    tensors = (batch.ids, batch.local_positions, batch.labels, batch.loss_mask)
    assert all(tensor.storage_offset() * tensor.itemsize % 64 == 0 for tensor in tensors)
    assert batch.loss_mask.dtype == torch.bool and batch.target_weights.tolist() == [1.0] * 3
