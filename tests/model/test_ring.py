"""A ring gives what a memory gives, at one address, without letting the host wait."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from synchronisation import META, NoSynchronisation
from torch import Tensor

from db1.errors import ConfigError, DataError
from db1.model.ring import RingMemory
from db1.model.ring_graph import CapturedStep
from db1.model.transformer_xl import TransformerXL

OPTIONS: list[dict[str, object]] = [
    {},
    {"position_encoding": "alibi", "normalization": "pre"},
    {"position_encoding": "none", "share_biases": False},
    {"same_length": False, "clamp_length": 3},
    {"memory_start": "zeros"},
]


def _pieces(lengths: list[int], batch_size: int = 3) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    found = []
    for length in lengths:
        ids = torch.randint(0, 40, (batch_size, length), generator=generator)
        found.append((ids, torch.arange(length).expand(batch_size, -1) % 5 - 1))
    return found


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("lengths", [[1] * 20, [4, 1, 1, 3, 1, 4, 4, 2], [4] * 5])
def test_equals_a_memory(make_model: Callable, options: dict, lengths: list[int]) -> None:
    """Tokens one by one and several at once, far around the ring (it has 6 + 4 slots)."""
    model: TransformerXL = make_model(**options)
    ring, memory = RingMemory(model, 3, most_tokens=4), model.new_memory(3, 6)
    for ids, places in _pieces(lengths):
        expected, memory = model.decode(ids, places, (), memory)
        torch.testing.assert_close(ring.decode(ids, places), expected)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_rows_of_other_lengths_and_new_rows(make_model: Callable, options: dict) -> None:
    model: TransformerXL = make_model(**options)
    ring, memory = RingMemory(model, 3, most_tokens=4), model.new_memory(3, 6)
    generator = torch.Generator().manual_seed(1)
    for step, (ids, places) in enumerate(_pieces([4, 3, 1, 4, 2, 4, 4, 1, 3])):
        num_tokens = ids.shape[1]
        lengths = torch.randint(0, num_tokens + 1, (3,), generator=generator)
        if step == 5:
            rows = torch.tensor([False, True, False])
            ring.reset(rows)
            memory = memory.reset_rows(rows)
        expected, memory = model.decode(ids, places, (), memory, lengths)
        found = ring.decode(ids, places, (), lengths)
        is_token = torch.arange(num_tokens) >= num_tokens - lengths[:, None]
        torch.testing.assert_close(found[is_token], expected[is_token])
        assert found.isfinite().all()


def test_addresses_stay(make_model: Callable) -> None:
    model = make_model()
    ring = RingMemory(model, 2)

    def addresses() -> list[int]:
        return [tensor.data_ptr() for tensor in (ring.columns, ring.written, ring.held)]

    before = addresses()
    for ids, places in _pieces([1] * 15, batch_size=2):
        ring.decode(ids, places)
        assert addresses() == before
    ring.reset(torch.tensor([True, False]))
    assert addresses() == before
    assert ring.held.tolist() == [0, 6] and ring.written.tolist() == [0, 15]


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_step_never_waits(make_model: Callable, ragged: bool, dtype: torch.dtype) -> None:
    model = make_model().to(META, dtype)
    ring = RingMemory(model, 2, most_tokens=2)
    ids = torch.zeros(2, 2, dtype=torch.int64, device=META)
    lengths = torch.zeros(2, dtype=torch.int64, device=META) if ragged else None
    with NoSynchronisation():
        for _ in range(3):
            hidden = ring.decode(ids, ids, (), lengths)
            best = model.logits(hidden[:, -1]).argmax(dim=-1)
            ring.reset(best > 3)
    assert hidden.shape == (2, 2, 8) and best.shape == (2,)


def test_what_cannot_be(make_model: Callable) -> None:
    with pytest.raises(ConfigError, match="rotary rotates them"):
        RingMemory(make_model(position_encoding="rotary", width=8, num_heads=2), 1)
    with pytest.raises(ConfigError, match="expected at least 0 and 1"):
        RingMemory(make_model(), 1, most_tokens=0)
    ring = RingMemory(make_model(), 1)
    with pytest.raises(DataError, match="2 tokens at once, but this ring has room for 1"):
        ring.decode(torch.zeros(1, 2, dtype=torch.int64), torch.zeros(1, 2, dtype=torch.int64))


def test_a_graph_needs_a_gpu(make_model: Callable) -> None:
    with pytest.raises(ConfigError, match="needs a ring on a GPU, got one on cpu"):
        CapturedStep(RingMemory(make_model(), 1))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_captured_step_gives_what_the_ring_gives(make_model: Callable) -> None:
    model = make_model().to("cuda", torch.float32)
    plain, captured = RingMemory(model, 2), CapturedStep(RingMemory(model, 2))
    for ids, places in _pieces([1] * 12, batch_size=2):
        ids, places = ids.cuda(), places.cuda()
        torch.testing.assert_close(captured(ids, places), plain.decode(ids, places))
