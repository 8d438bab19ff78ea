"""The order of samples, and that reader processes change nothing."""

import numpy as np
import pytest
import torch

from db1.data.loader import load_batches, make_loader, sample_numbers
from db1.errors import DataError
from db1.sequence.sample import NO_LOCAL_POSITION, Sample


class Counting:
    """Sample n holds the token n; number 13 is broken when `broken`."""

    def __init__(self, length, broken=False):
        self.length, self.broken = length, broken

    def __len__(self):
        return self.length

    def __getitem__(self, n):
        if self.broken and n == 13:
            raise DataError("episode 4: action 19, expected 0..17")
        return Sample(
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
