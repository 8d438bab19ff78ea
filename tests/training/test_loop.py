"""The loop on one process with plain torch: results, reports, and going on after interruptions."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_training
import torch
from tiny_training import RandomSamples, make_model, make_trainer, settings, train

from db1.checkpoint.run import load_weights
from db1.data.collate import collate
from db1.errors import CheckpointError, ConfigError, DataError
from db1.metrics_log import read_metrics
from db1.seeding import seed_everything
from db1.training.engines.engine import make_optimizer
from db1.training.state.run_lock import RunLock

SCRIPT = Path(tiny_training.__file__)


def _assert_same_weights(left, right):
    left, right = load_weights(left), load_weights(right)
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        assert torch.equal(tensor, right[name]), name


def _start(folder, **settings):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(SCRIPT.parents[2])}
    command = [sys.executable, str(SCRIPT), str(folder), json.dumps(settings)]
    return subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of 6 steps with dropout and images, never interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    result = train(folder, dropout=0.2, data={"images": 0.3})
    assert (result.step, result.stopped) == (6, False)
    return folder


def test_learns(tmp_path):
    train(tmp_path, num_steps=40, learning_rate=2e-2, checkpoint_every=0, log_every=10)
    losses = [record["loss"] for record in read_metrics(tmp_path, "train")]
    assert losses[-1] < 0.7 * losses[0]


def test_gradient_is_that_of_the_whole_batch(tmp_path):
    """One plain step on all 8 sequences at once gives the weights of four micro-batches of 2."""
    train(tmp_path, num_steps=1, warmup_steps=0)
    seed_everything(settings().seed)
    model = make_model()
    samples = RandomSamples(8)
    out = model(collate([samples[n] for n in range(8)]))
    (out.loss_sum / out.num_targets).backward()
    parameters = list(model.parameters())
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
    norm = torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    make_optimizer(model.named_parameters(), settings()).step()
    record = read_metrics(tmp_path, "train")[0]
    assert record["loss"] == pytest.approx(out.loss.item(), abs=1e-6)
    assert record["gradient_norm"] == pytest.approx(norm.item(), rel=1e-5)
    trained = load_weights(tmp_path)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(trained[name], tensor, atol=2e-5, rtol=0)


def test_weight_decay_is_for_matrices():
    model = make_model()
    optimizer = make_optimizer(model.named_parameters(), settings())
    decayed, plain = optimizer.param_groups
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.1, 0.0)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    plain_names = {names[id(parameter)] for parameter in plain["params"]}
    assert {"content_bias", "position_bias", "layers.0.attention_norm.weight"} <= plain_names
    assert all("bias" in name or "norm" in name or ".residual." in name for name in plain_names)
    assert len(decayed["params"]) + len(plain["params"]) == len(names)


def test_reports(whole):
    records = read_metrics(whole, "train")
    assert [record["step"] for record in records] == [1, 2, 3, 4, 5, 6]
    last = records[-1]
    assert set(last["loss_by_source"]) == {"source-0", "source-1"}
    low, high = sorted(last["loss_by_source"].values())
    assert low <= last["loss"] <= high
    for name in ("gradient_norm", "learning_rate", "tokens_per_second", "peak_memory_bytes"):
        assert last[name] > 0
    assert last["data_wait_seconds"] >= 0
    evaluation = read_metrics(whole, "evaluation")
    assert [record["step"] for record in evaluation] == [6]
    assert set(evaluation[0]["loss_by_task"]) == {"task-a", "task-b"}
    assert list((whole / "tensorboard").iterdir())
    assert (whole / "config.yaml").is_file() and (whole / "specs.json").read_text() == "{}"


def test_a_record_covers_the_steps_since_the_last(whole, tmp_path):
    train(tmp_path, dropout=0.2, data={"images": 0.3}, log_every=4)
    records = read_metrics(tmp_path, "train")
    assert [record["step"] for record in records] == [4, 6]
    single = [record["loss"] for record in read_metrics(whole, "train")]
    assert min(single[:4]) < records[0]["loss"] < max(single[:4])


def test_more_reports_readers_and_checkpoints_change_nothing(whole, tmp_path):
    train(
        tmp_path,
        dropout=0.2,
        data={"images": 0.3},
        num_workers=2,
        eval_every=1,
        checkpoint_every=1,
        log_every=5,
    )
    _assert_same_weights(whole, tmp_path)
    assert len(read_metrics(tmp_path, "evaluation")) == 6


def test_killed_run_goes_on_to_the_same_weights(whole, tmp_path):
    process = _start(tmp_path, dropout=0.2, data={"images": 0.3, "kill_at": 45})
    assert process.wait(120) == -signal.SIGKILL
    newest = sorted(os.listdir(tmp_path / "checkpoints"))[-1]
    assert newest.removesuffix(".partial") == "step-00000004"  # saved, or just being saved
    result = train(tmp_path, dropout=0.2, data={"images": 0.3})
    assert result.step == 6
    _assert_same_weights(whole, tmp_path)
    ours, theirs = read_metrics(tmp_path, "train"), read_metrics(whole, "train")
    assert [(r["step"], r["loss"]) for r in ours] == [(r["step"], r["loss"]) for r in theirs]


def test_torn_checkpoint_is_passed_over(whole, tmp_path):
    train(tmp_path, dropout=0.2, data={"images": 0.3})
    newest = tmp_path / "checkpoints" / "step-00000006" / "torch.pt"
    newest.write_bytes(newest.read_bytes()[:-100])
    train(tmp_path, dropout=0.2, data={"images": 0.3})
    _assert_same_weights(whole, tmp_path)
    assert "step-00000006.broken" in os.listdir(tmp_path / "checkpoints")
    assert [record["step"] for record in read_metrics(tmp_path, "train")] == [1, 2, 3, 4, 5, 6]


def test_all_checkpoints_broken_stops(tmp_path):
    train(tmp_path, num_steps=2)
    (tmp_path / "checkpoints" / "step-00000002" / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="all 1 checkpoints are broken"):
        train(tmp_path, num_steps=2)


def test_sigterm_saves_and_the_run_goes_on(tmp_path):
    """To the training and its readers alike, as a cluster sends it."""
    settings = {"dropout": 0.2, "data": {"seconds": 0.05}, "checkpoint_every": 0}
    process = _start(tmp_path, **settings, num_workers=1)
    while not (tmp_path / "metrics.jsonl").exists() or not read_metrics(tmp_path):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGTERM)
    _, log = process.communicate(timeout=120)
    assert process.returncode == 0, log
    assert "SIGTERM: saved at step" in log
    saved = [n for n in os.listdir(tmp_path / "checkpoints") if n != "latest"]
    assert len(saved) == 1 and saved[0] < "step-00000006"
    train(tmp_path, dropout=0.2, checkpoint_every=0)
    train(tmp_path / "whole", dropout=0.2, checkpoint_every=0)
    _assert_same_weights(tmp_path / "whole", tmp_path)


def test_a_finished_run_stays_as_it_is(whole):
    before = (whole / "metrics.jsonl").read_bytes()
    result = train(whole, dropout=0.2, data={"images": 0.3})
    assert (result.step, result.stopped) == (6, False)
    assert (whole / "metrics.jsonl").read_bytes() == before


def test_more_steps_go_on(tmp_path):
    train(tmp_path, num_steps=2)
    assert train(tmp_path, num_steps=3).step == 3
    assert [record["step"] for record in read_metrics(tmp_path, "train")] == [1, 2, 3]


def test_another_configuration_is_refused(tmp_path):
    train(tmp_path, num_steps=1, warmup_steps=0)
    with pytest.raises(ConfigError) as caught:
        train(tmp_path, num_steps=1, warmup_steps=0, learning_rate=1e-4, weight_decay=0.0)
    message = str(caught.value)
    assert "training.learning_rate: 0.003 -> 0.0001" in message
    assert "training.weight_decay: 0.1 -> 0.0" in message
    assert "num_steps" not in message


def test_other_data_files_are_refused(tmp_path):
    train(tmp_path, num_steps=1, warmup_steps=0)
    (tmp_path / "specs.json").write_text('{"task": {}}')
    with pytest.raises(ConfigError, match=r"specs.json differs"):
        train(tmp_path, num_steps=1, warmup_steps=0)


def test_too_small_a_dataset_is_refused(tmp_path):
    trainer = make_trainer(tmp_path)
    arguments = {name[1:]: value for name, value in vars(trainer).items()}
    names = ("make_model", "training", "run_folder", "config", "run_files")
    given = {name: arguments[name] for name in names} | {"evaluation_sets": {}}
    with pytest.raises(DataError, match=r"dataset of 47 samples, expected .* = 6 \* 8 = 48"):
        type(trainer)(dataset=RandomSamples(47), **given)


def test_a_batch_without_targets_stops(tmp_path):
    trainer = make_trainer(tmp_path, num_steps=1, warmup_steps=0)
    sample = trainer._dataset[0]
    blank = replace(sample, target_mask=sample.target_mask & False)
    trainer._dataset = [blank] * 8
    with pytest.raises(DataError, match="step 0: no token of the whole batch"):
        trainer.run()


@pytest.mark.parametrize("precision", ["bf16"])
def test_low_precision_goes_on_to_the_same_weights(tmp_path, precision):
    train(tmp_path / "whole", precision=precision)
    weights = load_weights(tmp_path / "whole")
    assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16}
    train(tmp_path / "cut", precision=precision)
    newest = tmp_path / "cut" / "checkpoints" / "step-00000006" / "torch.pt"
    newest.unlink()
    train(tmp_path / "cut", precision=precision)
    _assert_same_weights(tmp_path / "whole", tmp_path / "cut")


def test_a_second_training_is_refused_and_touches_nothing(tmp_path):
    with RunLock(tmp_path):
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(ConfigError, match="trained already, by process"):
            train(tmp_path, num_steps=2)
        assert sorted(tmp_path.rglob("*")) == before
    assert train(tmp_path, num_steps=2).step == 2
    assert (tmp_path / "lock.json").read_text() == ""
