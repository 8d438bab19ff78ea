"""The order of samples, and that reader processes change nothing."""

from __future__ import annotations

import os
import signal
import time

import numpy as np
import pytest
import torch
from pictures import Pictures

from db1.data.collate import collate
from db1.data.loader import load_batches, make_loader, sample_numbers
from db1.errors import DataError
from db1.model.batch import Batch
from db1.sequence.segment import NO_LOCAL_POSITION, TokenSegment


class Counting:
    """Sample n holds the token n; number 13 is broken when `broken`."""

    def __init__(self, length, broken=False):
        self.length, self.broken = length, broken

    def __len__(self):
        return self.length

    def __getitem__(self, n):
        if self.broken and n == 13:
            raise DataError("episode 4: action 19, expected 0..17")
        return TokenSegment(
            ids=np.full(5, n, dtype=np.int32),
            target_mask=np.ones(5, dtype=bool),
            local_positions=np.full(5, NO_LOCAL_POSITION, dtype=np.int32),
            source="counting",
        )


def _numbers(rank=0, world_size=1, first_step=0, num_workers=0, micro_batch_size=2):
    batches = make_loader(
        Counting(32),
        first_step=first_step,
        num_steps=4,
        global_batch_size=8,
        micro_batch_size=micro_batch_size,
        rank=rank,
        world_size=world_size,
        num_workers=num_workers,
    )
    return [batch.ids[:, 0].tolist() for batch in batches]


def test_drawn_example():
    slots = {"global_batch_size": 8, "micro_batch_size": 2, "world_size": 2}
    assert sample_numbers(0, 0, rank=1, **slots) == [2, 3]
    assert sample_numbers(0, 1, rank=0, **slots) == [4, 5]
    assert sample_numbers(3, 1, rank=1, **slots) == [30, 31]


@pytest.mark.parametrize("world_size", [2, 4])
def test_many_processes_take_the_micro_batches_of_one(world_size):
    one = _numbers()
    ranks = [_numbers(rank, world_size) for rank in range(world_size)]
    in_turn = [batch for turn in zip(*ranks, strict=True) for batch in turn]
    assert in_turn == one
    assert [number for batch in one for number in batch] == list(range(32))


def test_going_on_at_a_step_gives_the_rest():
    assert _numbers(first_step=3) == _numbers()[12:]
    assert _numbers(first_step=4) == []


def test_reader_processes_keep_the_order_and_the_generators():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    assert _numbers(num_workers=2) == _numbers()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_error_keeps_its_one_line(num_workers):
    batches = load_batches(Counting(32, broken=True), [[0, 1], [12, 13]], num_workers=num_workers)
    assert next(batches).ids[:, 0].tolist() == [0, 1]
    with pytest.raises(DataError) as caught:
        next(batches)
    assert str(caught.value) == "sample 13: episode 4: action 19, expected 0..17"


def assert_same(batch: Batch, expected: Batch) -> None:
    assert batch.sources == expected.sources
    for name in ("ids", "local_positions", "labels", "loss_mask", "target_weights"):
        ours, theirs = getattr(batch, name).cpu(), getattr(expected, name)
        assert ours.dtype == theirs.dtype and torch.equal(ours, theirs), name
    for ours, theirs in zip(batch.images, expected.images, strict=True):
        assert ours.pixels.dtype == torch.uint8
        assert torch.equal(ours.pixels.cpu(), theirs.pixels)
        assert torch.equal(ours.positions.cpu(), theirs.positions)


def _naive_batch(samples: list[TokenSegment]) -> Batch:
    """Ids, labels, ... stacked and shifted without any packing."""
    return Batch(
        ids=torch.tensor(np.stack([s.ids for s in samples])[:, :-1]).long(),
        local_positions=torch.tensor(np.stack([s.local_positions for s in samples])[:, :-1]).long(),
        labels=torch.tensor(np.stack([s.label_ids for s in samples])[:, 1:]).long(),
        loss_mask=torch.tensor(np.stack([s.target_mask for s in samples])[:, 1:]),
        sources=tuple(s.source for s in samples),
        target_weights=torch.tensor([s.target_weight for s in samples]),
        images=collate(samples).images,
    )


@pytest.mark.parametrize(
    "readers",
    [
        {"num_workers": 0},
        {"num_workers": 1, "prefetch": 1},
        {"num_workers": 2, "prefetch": 4},
        {"num_workers": 1, "start_method": "spawn"},
    ],
    ids=["none", "one", "two", "spawned"],
)
def test_readers_and_their_shared_memory_change_nothing(readers: dict[str, object]) -> None:
    """Many more batches than slots, of sizes that grow; each is kept until the end."""
    generator = np.random.default_rng(0)
    numbers = [generator.integers(0, 1_000, 1 + i // 4).tolist() for i in range(24)]
    batches = list(load_batches(Pictures(), numbers, **readers))
    assert len(batches) == 24
    for batch, wanted in zip(batches, numbers, strict=True):
        assert_same(batch, _naive_batch([Pictures()[n] for n in wanted]))


def test_a_batch_that_is_kept_stays_as_it_is_when_slots_are_used_again() -> None:
    batches = load_batches(Pictures(), [[n] for n in range(40)], num_workers=1, prefetch=1)
    first = next(batches)
    copy = [first.ids.clone(), first.labels.clone()]
    for batch in batches:
        batch.ids.fill_(-7)  # batches may be changed, too
    assert torch.equal(first.ids, copy[0]) and torch.equal(first.labels, copy[1])


class Dying(Counting):
    """The process that reads sample 6 is killed, as when memory runs out."""

    def __getitem__(self, n):
        if n == 6:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(n)


def test_a_killed_reader_is_one_error_and_no_hang():
    before = signal.getsignal(signal.SIGCHLD)
    batches = load_batches(Dying(32), [[n] for n in range(32)], num_workers=2)
    start = time.monotonic()
    with pytest.raises(DataError, match=r"a reader process died.*memory.*num_workers"):
        for _ in batches:
            pass
    assert time.monotonic() - start < 30
    assert signal.getsignal(signal.SIGCHLD) == before


class Faulty(Counting):
    """Sample 3 meets a bug."""

    def __getitem__(self, n):
        if n == 3:
            raise IndexError("list index out of range")
        return super().__getitem__(n)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_bug_is_no_data_error_and_names_the_sample(num_workers):
    batches = load_batches(Faulty(8), [[2, 3]], num_workers=num_workers)
    with pytest.raises(RuntimeError, match="sample 3: IndexError") as caught:
        next(batches)
    assert not isinstance(caught.value, DataError)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_are_copied_ahead_to_a_gpu(num_workers: int) -> None:
    numbers = [[n, n + 1] for n in range(50)]
    device = torch.device("cuda")
    batches = load_batches(Pictures(), numbers, num_workers=num_workers, device=device)
    for batch, wanted in zip(batches, numbers, strict=True):
        assert batch.ids.device.type == "cuda"
        assert_same(batch, _naive_batch([Pictures()[n] for n in wanted]))
