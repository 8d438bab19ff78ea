"""DeepSpeed against plain torch, many processes against one, and resuming between them.

Starting DeepSpeed takes seconds, so three launches do all the work: two processes; one process
that is killed; one process that repeats the work of the two, goes on with theirs, and goes on with
the killed one's.
"""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_training
import torch
from attacks import torch_file
from ports import free_port

from db1.checkpoint.manifest import write_manifest
from db1.checkpoint.run import load_weights
from db1.errors import ConfigError
from db1.metrics_log import read_metrics
from db1.training.__main__ import main

pytestmark = [
    pytest.mark.deepspeed,
    pytest.mark.xdist_group("deepspeed"),  # one process makes the runs that all look at
    pytest.mark.skipif(
        importlib.util.find_spec("deepspeed") is None, reason="pip install deepspeed"
    ),
]

SCRIPT = Path(tiny_training.__file__)
STAGES = (0, 1, 2, 3)
CROSSINGS = ((0, 2), (1, 3), (2, 0), (3, 1))
"""From one stage with two processes to another stage with one."""
IMAGES = {"images": 0.15}  # some steps, micro-batches and processes have images, some have none


def _job(folder, stage, **changes):
    values = {"folder": folder, "engine": "deepspeed", "zero_stage": stage, "num_steps": 8}
    return values | {"data": IMAGES} | changes


def _environment(folder):
    """One thread a process, and a folder of its own for compiled extensions."""
    return os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(SCRIPT.parents[2]),
        "TORCH_EXTENSIONS_DIR": str(folder / "extensions"),
    }


def _launch(folder, jobs, processes=1, expected=0):
    """Runs the jobs in new processes; returns what they wrote to stderr."""
    command = [sys.executable, str(SCRIPT), str(folder), json.dumps(jobs)]
    if processes > 1:
        launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node"]
        command = [*launcher, str(processes), "--master_port", str(free_port()), *command[1:]]
    done = subprocess.run(
        command, env=_environment(folder), capture_output=True, text=True, timeout=400
    )
    assert done.returncode == expected, done.stdout + done.stderr
    return done.stderr


def _without_last_checkpoint(source, destination):
    """A copy of a run as if it had been cut off after step 6."""
    shutil.copytree(source, destination)
    shutil.rmtree(destination / "checkpoints" / "step-00000008")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folder of runs: one/N, two/N, cut/N by ZeRO stage N, crossed/N-M, killed, whole, long."""
    root = tmp_path_factory.mktemp("deepspeed")
    two = [_job(f"/two/{stage}", stage) for stage in STAGES]
    _launch(root, two, processes=2)
    for stage in STAGES:
        _without_last_checkpoint(root / "two" / str(stage), root / "cut" / str(stage))
    for old, new in CROSSINGS:
        _without_last_checkpoint(root / "two" / str(old), root / "crossed" / f"{old}-{new}")
    _without_last_checkpoint(root / "two" / "1", root / "crossed" / "1-torch")
    _launch(root, _job("/killed", 1, dropout=0.2, data={"kill_at": 45}), expected=-signal.SIGKILL)
    one = [_job(f"/one/{stage}", stage) for stage in STAGES]
    cut = [_job(f"/cut/{stage}", stage) for stage in STAGES]
    crossed = [_job(f"/crossed/{old}-{new}", new) for old, new in CROSSINGS]
    crossed.append(_job("/crossed/1-torch", 1, engine="torch"))
    dropout = {"dropout": 0.2, "data": {}}
    others = [
        _job("/killed", 1, **dropout),
        _job("/whole", 1, **dropout),
        _job("/long", 1, num_steps=20, data={}),
        _job("/bf16", 2, precision="bf16"),
    ]
    _launch(root, one + cut + crossed + others)
    return root


def _losses(folder):
    return [record["loss"] for record in read_metrics(folder)]


def _largest_difference(left, right):
    left, right = load_weights(left), load_weights(right)
    assert left.keys() == right.keys()
    return max((left[name] - right[name]).abs().max().item() for name in left)


def test_one_process_equals_plain_torch(runs, tmp_path):
    tiny_training.train(tmp_path, num_steps=20)
    assert _losses(runs / "long") == pytest.approx(_losses(tmp_path), abs=1e-6)
    assert len(read_metrics(tmp_path, "train")) == 20
    assert _largest_difference(runs / "long", tmp_path) < 1e-5


@pytest.mark.parametrize("stage", STAGES)
def test_stages_equal_plain_torch_with_images(runs, tmp_path, stage):
    tiny_training.train(tmp_path, num_steps=8, data=IMAGES)
    assert _losses(runs / "one" / str(stage)) == pytest.approx(_losses(tmp_path), abs=1e-6)
    norms = [
        [record["gradient_norm"] for record in read_metrics(folder, "train")]
        for folder in (tmp_path, runs / "one" / str(stage))
    ]
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)


@pytest.mark.parametrize("stage", STAGES)
def test_two_processes_equal_one(runs, stage):
    one, two = runs / "one" / str(stage), runs / "two" / str(stage)
    assert _losses(two) == pytest.approx(_losses(one), abs=1e-6)
    assert _largest_difference(one, two) < 1e-5


@pytest.mark.parametrize("stage", STAGES)
def test_one_process_goes_on_with_the_run_of_two(runs, stage):
    cut, two = runs / "cut" / str(stage), runs / "two" / str(stage)
    trainer = json.loads((cut / "checkpoints" / "step-00000008" / "trainer.json").read_text())
    assert trainer["world_size"] == 1
    assert _losses(cut) == pytest.approx(_losses(two), abs=1e-6)
    assert _largest_difference(cut, two) < 1e-5
    assert not list((cut / "checkpoints").glob("*.partial"))


@pytest.mark.parametrize("crossing", [*(f"{old}-{new}" for old, new in CROSSINGS), "1-torch"])
def test_another_stage_or_engine_goes_on(runs, crossing):
    crossed, two = runs / "crossed" / crossing, runs / "two" / crossing[0]
    assert _losses(crossed) == pytest.approx(_losses(two), abs=1e-6)
    assert _largest_difference(crossed, two) < 1e-5
    left = {path.name for path in (crossed / "checkpoints").iterdir()}
    assert left == {"latest", "step-00000006", "step-00000008"}


def test_killed_run_goes_on_to_the_same_weights(runs):
    assert _largest_difference(runs / "killed", runs / "whole") == 0
    assert _losses(runs / "killed") == _losses(runs / "whole")


def test_bf16(runs):
    weights = load_weights(runs / "bf16")
    assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16}
    assert _losses(runs / "bf16") == pytest.approx(_losses(runs / "one" / "2"), abs=0.02)


def test_every_process_has_its_random_states(runs):
    folder = runs / "two" / "1" / "checkpoints" / "step-00000008"
    assert {path.name for path in folder.glob("random-*")} == {"random-rank0.pt", "random-rank1.pt"}
    states = [torch.load(path, weights_only=True) for path in sorted(folder.glob("random-*"))]
    assert not torch.equal(states[0]["torch"], states[1]["torch"])


def test_nothing_was_compiled(runs):
    """Compiling an extension of DeepSpeed takes minutes; on a CPU none is needed."""
    assert not [path for path in (runs / "extensions").rglob("*") if path.is_file()]


def test_two_processes_need_a_batch_for_both(tmp_path):
    with pytest.raises(ConfigError, match="set global_batch_size=8 or 12"):
        tiny_training.settings(global_batch_size=10, engine="deepspeed").check_processes(2, "cpu")


def test_bad_input_is_one_line_and_status_2(tmp_path, capsys, monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("db1.training.__main__.setup_logging", lambda *arguments: None)
    assert main(["--local_rank=0", str(tmp_path / "missing.yaml"), "training.seed=1"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and "missing.yaml" in error


@pytest.mark.parametrize("stage", [1, 0])
def test_states_of_strangers_are_not_executed(runs, tmp_path, stage):
    """At the same stage DeepSpeed would read them, at another one its converter would."""
    run, target = tmp_path / "run", tmp_path / "ran"
    shutil.copytree(runs / "one" / "1", run)
    folder = run / "checkpoints" / "step-00000008"
    for path in (folder / "deepspeed").glob("*_states.pt"):
        path.write_bytes(torch_file(target, **torch.load(path, weights_only=False)))
    (folder / "manifest.json").unlink()
    write_manifest(folder, 8)
    shutil.rmtree(run / "checkpoints" / "step-00000006")
    job = _job("/run", stage, num_steps=10)
    log = _launch(tmp_path, job, expected=1)
    assert "mkdir, which a checkpoint has no use for; refused, nothing was run" in log
    assert not target.exists()


@pytest.mark.slow
def test_two_processes_go_on_with_the_run_of_one(runs, tmp_path):
    for stage in STAGES:
        _without_last_checkpoint(runs / "one" / str(stage), tmp_path / str(stage))
    _launch(tmp_path, [_job(f"/{stage}", stage) for stage in STAGES], processes=2)
    for stage in STAGES:
        expected = _losses(runs / "one" / str(stage))
        assert _losses(tmp_path / str(stage)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.slow
def test_an_error_of_one_process_is_raised_by_both(tmp_path):
    """Sample 11 goes to the second process; the first must neither wait nor train on."""
    job = _job("/run", 1, data={"broken_at": 11}, checkpoint_every=1)
    log = _launch(tmp_path, job, processes=2, expected=1)
    message = "db1.errors.DataError: sample 11: broken on purpose"
    for rank in (0, 1):
        assert f"[rank{rank}]: {message}" in log
    assert read_metrics(tmp_path / "run")[-1]["step"] == 1


@pytest.mark.slow
def test_the_launcher_hands_the_status_through(tmp_path):
    command = [sys.executable, "-m", "deepspeed.launcher.runner", "--num_gpus", "2"]
    command += ["--master_port", str(free_port()), "--module", "db1.training"]
    command += [str(tmp_path / "missing.yaml"), "training.seed=1"]
    done = subprocess.run(
        command, env=_environment(tmp_path), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2
    assert done.stderr.count("error: ") == 1


@pytest.mark.slow
def test_all_stages_skip_the_batches_that_plain_torch_skips(tmp_path):
    """By a loss that is not a number, and by spikes of the gradient norm, seen inside the step."""
    changes = {"num_steps": 36, "data": {"poisoned": [19]}, "norm_spike": 1.1}
    changes |= {"learning_rate": 2e-2}
    tiny_training.train(tmp_path / "torch", **changes)
    _launch(tmp_path, [_job(f"/{stage}", stage, **changes) for stage in STAGES], processes=2)
    expected = [event["batch"] for event in read_metrics(tmp_path / "torch", "skipped")]
    assert len(expected) > 1 and expected[0] == 2
    for stage in STAGES:
        folder = tmp_path / str(stage)
        assert [event["batch"] for event in read_metrics(folder, "skipped")] == expected
        losses, plain = (
            [record["loss"] for record in read_metrics(run, "train")]
            for run in (folder, tmp_path / "torch")
        )
        assert [loss is None for loss in losses] == [loss is None for loss in plain]
        both = [pair for pair in zip(losses, plain, strict=True) if None not in pair]
        assert max(abs(ours - theirs) for ours, theirs in both) < 1e-4
