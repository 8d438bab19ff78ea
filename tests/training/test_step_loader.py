"""The micro-batches of a step, read in place or ahead of it, are the same."""

from __future__ import annotations

import threading

import pytest
import torch
from tiny_training import RandomSamples, settings

from db1.errors import DataError
from db1.training.processes import Processes
from db1.training.step_loader import StepLoader


@pytest.mark.parametrize("start", [0, 3])
def test_reading_ahead_changes_nothing(start: int) -> None:
    training, processes = settings(), Processes("torch")
    samples = RandomSamples(48, images=0.5)
    plain = StepLoader(samples, training, processes, start, ahead=False)
    ahead = StepLoader(samples, training, processes, start, ahead=True)
    for step in range(start, training.num_steps):
        (one, total), (other, same_total) = plain.read(step), ahead.read(step)
        assert total == same_total > 0
        assert plain.first_slots == ahead.first_slots == [0, 2, 4, 6]
        for left, right in zip(one, other, strict=True):
            assert torch.equal(left.ids, right.ids) and left.sources == right.sources
            assert torch.equal(left.target_places, right.target_places)


def test_the_next_step_is_read_while_this_one_is_taken() -> None:
    read, samples = threading.Event(), RandomSamples(48)

    class Watched(RandomSamples):
        def __getitem__(self, n: int):
            if n == 15:  # the last sample of the second step
                read.set()
            return samples[n]

    loader = StepLoader(Watched(48), settings(), Processes("torch"), 0, ahead=True)
    loader.read(0)
    assert read.wait(30)


def test_a_broken_sample_of_the_next_step_is_told_there() -> None:
    loader = StepLoader(
        RandomSamples(48, broken_at=9), settings(), Processes("torch"), 0, ahead=True
    )
    loader.read(0)
    with pytest.raises(DataError, match="sample 9: broken on purpose"):
        loader.read(1)
