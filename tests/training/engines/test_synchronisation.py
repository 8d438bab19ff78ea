"""A training step of the torch engine never waits for its device before the step's end."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from synchronisation import META, NoSynchronisation, on_meta
from tiny_training import RandomSamples, make_model, settings

from db1.data.collate import collate
from db1.model.batch import Batch
from db1.training.engines.engine import TorchEngine, read_losses


@pytest.fixture
def batch() -> Batch:
    samples = RandomSamples(8, images=0.5)
    found = collate([samples[n] for n in range(4)])
    assert found.images and found.target_places is not None
    return found


def _engine(precision: str) -> TorchEngine:
    processes = SimpleNamespace(device=META, world_size=1, rank=0)
    return TorchEngine(make_model(dropout=0.1), settings(precision=precision), processes)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_micro_batches_and_optimizer(batch: Batch, precision: str) -> None:
    engine = _engine(precision)
    with NoSynchronisation():
        for _ in range(engine.accumulation):
            losses = engine.train_micro_batch(on_meta(batch), 1.0 / batch.weight_of_targets)
    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
        read_losses([losses])  # the one read, at the end of a step, and the next is the norm
    with pytest.raises(AssertionError, match="_local_scalar_dense"), NoSynchronisation():
        engine.step(1e-3)


@pytest.mark.parametrize(
    "work",
    [
        lambda x: x.sum().item(),
        lambda x: x.nonzero(),
        lambda x: bool(x[0, 0] > 0),
        lambda x: x.cpu(),
        lambda x: x[x > 0],
        lambda x: x.unique(),
    ],
)
def test_the_mode_sees_what_waits(work) -> None:
    with pytest.raises((AssertionError, NotImplementedError)), NoSynchronisation():
        work(torch.ones(2, 3, device=META))


def test_places_and_weight_are_those_of_the_mask(batch: Batch) -> None:
    assert torch.equal(batch.target_places, batch.loss_mask.flatten().nonzero().squeeze(1))
    counts = batch.loss_mask.sum(dim=1).double()
    assert batch.weight_of_targets == float((counts * batch.target_weights.double()).sum())
