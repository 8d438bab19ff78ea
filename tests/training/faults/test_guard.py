"""Broken batches stay out of the weights, are told of, and end the run when there are too many."""

import json
import math

import pytest
import torch
from tiny_training import make_trainer, settings, train

from db1.checkpoint.run import load_weights
from db1.errors import DataError
from db1.metrics_log import read_metrics
from db1.training.faults.guard import ENOUGH, Slot, StepGuard, skip_record, worst_slot

POISON = {"poisoned": [19, 33]}  # of the steps 2 and 4; their weights are not numbers


def _guard(**changes):
    return StepGuard(settings(**changes))


def _fill(guard, count=ENOUGH):
    for number in range(count):
        guard.accept(2.0 + 0.01 * (number % 3), 1.0)


def test_judges_what_is_not_finite_at_once():
    guard = _guard()
    assert guard.loss_fault(2.0) is None and guard.norm_fault(1e30) is None
    assert guard.loss_fault(math.nan) == "loss is nan"
    assert guard.norm_fault(math.inf) == "gradient norm is inf"


def test_leaves_infinite_norms_of_fp16_to_the_loss_scaling():
    assert _guard(precision="fp16").norm_fault(math.inf) is None
    assert _guard(precision="fp16").loss_fault(math.nan) == "loss is nan"


def test_a_spike_is_measured_by_the_median():
    guard = _guard(loss_spike=1.5, norm_spike=4.0)
    _fill(guard, ENOUGH - 1)
    assert guard.loss_fault(100.0) is None
    _fill(guard, 1)
    assert guard.loss_fault(3.0) is None and guard.norm_fault(4.0) is None
    assert guard.loss_fault(3.1) == "loss 3.1 is above 1.5 times the median 2.01"
    assert guard.norm_fault(4.1) == "gradient norm 4.1 is above 4 times the median 1"
    off = _guard()
    _fill(off)
    assert off.loss_fault(1e9) is None


def test_state_survives_json():
    guard = _guard(loss_spike=1.5)
    _fill(guard)
    guard.skip()
    again = StepGuard(settings(loss_spike=1.5), json.loads(json.dumps(guard.state())))
    assert again.state() == guard.state()
    assert again.loss_fault(3.1) == guard.loss_fault(3.1)


def test_limits(tmp_path):
    slots = [Slot(slot=0, source="a", loss=1.0, targets=1)]
    guard = _guard(max_skips_in_a_row=2, max_skips=3)
    for _ in range(2):
        guard.skip()
        guard.check_limits(5, "loss is nan", slots, tmp_path)
    guard.accept(2.0, 1.0)
    guard.skip()
    guard.check_limits(9, "loss is nan", slots, tmp_path)
    guard.skip()
    with pytest.raises(DataError, match="skipped 4 in all, training.max_skips=3"):
        guard.check_limits(10, "loss is nan", slots, tmp_path)
    guard = _guard(max_skips_in_a_row=0)
    guard.skip()
    with pytest.raises(DataError, match="1 in a row, training.max_skips_in_a_row=0"):
        guard.check_limits(0, "loss is nan", slots, tmp_path)


def test_the_worst_slot_is_the_one_to_look_at():
    slots = [
        Slot(slot=0, source="a", loss=9.0, targets=9),
        Slot(slot=1, source="b", loss=4.0, targets=2),
        Slot(slot=2, source="a", loss=0.0, targets=0),
    ]
    assert worst_slot(slots) == 1
    slots.append(Slot(slot=3, source="c", loss=math.nan, targets=2))
    assert worst_slot(slots) == 3
    record = skip_record(7, "loss is nan", slots, _guard(), 4)
    assert record["faulty_slots"] == [3]
    assert (record["first_sample"], record["last_sample"]) == (28, 31)
    assert record["slots_by_source"] == {"a": [0, 2], "b": [1], "c": [3]}


def test_a_poisoned_batch_is_skipped_and_told_of(tmp_path):
    train(tmp_path, data=POISON)
    events = read_metrics(tmp_path, "skipped")
    assert [(event["step"], event["batch"]) for event in events] == [(3, 2), (5, 4)]
    assert events[1]["skipped_steps"] == 2 and events[0]["reason"] == "loss is nan"
    assert (events[0]["first_sample"], events[0]["last_sample"]) == (16, 23)
    assert set(events[0]["slots_by_source"]) == {"source-0", "source-1"}
    losses = [record["loss"] for record in read_metrics(tmp_path, "train")]
    assert [loss is None for loss in losses] == [False, False, True, False, True, False]
    weights = load_weights(tmp_path)
    assert all(torch.isfinite(tensor).all() for tensor in weights.values())


def test_a_skipped_batch_changes_no_weight(tmp_path):
    train(tmp_path, data=POISON, num_steps=3, checkpoint_every=1, keep_checkpoints=9)
    before = load_weights(tmp_path / "checkpoints" / "step-00000002")
    behind = load_weights(tmp_path / "checkpoints" / "step-00000003")
    assert all(torch.equal(before[name], behind[name]) for name in before)


def test_a_resumed_run_skips_alike(tmp_path):
    spikes = {"loss_spike": 1.0001, "num_steps": 30, "checkpoint_every": 25, "data": POISON}
    train(tmp_path / "whole", **spikes)
    train(tmp_path / "cut", **spikes)
    (tmp_path / "cut" / "checkpoints" / "step-00000030" / "torch.pt").unlink()
    train(tmp_path / "cut", **spikes)
    told = [
        [(event["batch"], event["reason"]) for event in read_metrics(tmp_path / name, "skipped")]
        for name in ("whole", "cut")
    ]
    assert told[0] == told[1] and {2, 4} <= {batch for batch, _ in told[0]}
    whole, cut = load_weights(tmp_path / "whole"), load_weights(tmp_path / "cut")
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def test_the_limit_names_the_batch_and_the_command(tmp_path):
    with pytest.raises(DataError) as caught:
        train(tmp_path, data=POISON, max_skips=1)
    message = str(caught.value)
    assert "step 4: loss is nan (sources source-0, source-1; samples 32 to 39)" in message
    assert f"db1 inspect {tmp_path}/config.yaml --step 4 --slot " in message
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == [
        "latest",
        "step-00000002",
        "step-00000004",
    ]


def test_a_gradient_that_is_not_finite_is_skipped(tmp_path):
    trainer = make_trainer(tmp_path, num_steps=2, max_skips_in_a_row=0)
    build = trainer._make_model

    def poisoned():
        model = build()
        model.content_bias.register_hook(lambda gradient: gradient * float("inf"))
        return model

    trainer._make_model = poisoned
    with pytest.raises(DataError, match="step 0: gradient norm is"):
        trainer.run()
    assert not (tmp_path / "checkpoints").exists()
