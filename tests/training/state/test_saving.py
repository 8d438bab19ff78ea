"""Checkpoints written in the background, on full disks, and of files that come to harm."""

import errno
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import tiny_training
import torch
from launching import rank_environment
from ports import free_port
from tiny_training import train

from db1.checkpoint.run import find_checkpoint, load_weights, verify_checkpoint
from db1.errors import CheckpointError, DataError
from db1.metrics_log import read_metrics
from db1.training.state import saving

SCRIPT = Path(tiny_training.__file__)


def _start(folder, **settings):
    command = [sys.executable, str(SCRIPT), str(folder), json.dumps(settings)]
    return subprocess.Popen(
        command, env=rank_environment(0, 1, free_port()), stderr=subprocess.PIPE, text=True
    )


def test_in_the_background_or_not_the_same_files(tmp_path):
    train(tmp_path / "behind", dropout=0.1)
    train(tmp_path / "before", dropout=0.1, save_in_background=False)
    manifests = [
        json.loads((tmp_path / name / "checkpoints/step-00000006/manifest.json").read_text())
        for name in ("behind", "before")
    ]
    hashes = [{n: f["sha256"] for n, f in manifest["files"].items()} for manifest in manifests]
    del hashes[0]["trainer.json"], hashes[1]["trainer.json"]  # holds the hash of the configuration
    assert hashes[0] == hashes[1]


def test_training_goes_on_while_a_checkpoint_is_published(tmp_path, monkeypatch):
    """The third step is recorded before the checkpoint of the second counts."""
    release, real = threading.Event(), saving.publish_checkpoint
    seen = []

    def publish(partial, step, **settings):
        if step == 2:
            release.wait(60)
            seen.extend(record["step"] for record in read_metrics(tmp_path, "train"))
        return real(partial, step, **settings)

    monkeypatch.setattr(saving, "publish_checkpoint", publish)
    trainer = tiny_training.make_trainer(tmp_path, checkpoint_every=2)
    take_step = trainer._take_step

    def release_behind(run, step, loader):
        if step == 3:
            release.set()
        return take_step(run, step, loader)

    trainer._take_step = release_behind
    trainer.run()
    assert 3 in seen
    assert find_checkpoint(tmp_path).step == 6


def test_a_failure_in_the_background_ends_the_run(tmp_path, monkeypatch):
    real = saving.publish_checkpoint

    def publish(partial, step, **settings):
        if step == 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(partial, step, **settings)

    monkeypatch.setattr(saving, "publish_checkpoint", publish)
    with pytest.raises(CheckpointError, match="checkpoint of step 4 cannot be written: .*No space"):
        train(tmp_path)
    assert find_checkpoint(tmp_path).step == 2
    assert not list((tmp_path / "checkpoints").glob("*.partial"))


def test_every_mth_checkpoint_stays(tmp_path):
    train(tmp_path, checkpoint_every=1, keep_checkpoints=1, keep_checkpoints_every=2)
    names = sorted(path.name for path in (tmp_path / "checkpoints").glob("step-*"))
    assert names == ["step-00000002", "step-00000004", "step-00000006"]


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path):
    train(tmp_path, num_steps=2)
    weights = load_weights(tmp_path)
    size = (tmp_path / "checkpoints" / "step-00000002" / "torch.pt").stat().st_size
    process = _start(tmp_path, num_steps=6, file_size=size // 2)
    _, log = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "CheckpointError: " in log and "the checkpoint of step 4 cannot be written" in log
    assert "the one before it is unharmed; make room there" in log
    assert sorted(os.listdir(tmp_path / "checkpoints")) == ["latest", "step-00000002"]
    assert all(torch.equal(load_weights(tmp_path)[name], weights[name]) for name in weights)
    train(tmp_path, num_steps=6)
    assert find_checkpoint(tmp_path).step == 6


def test_a_folder_that_disappears_is_one_error(tmp_path):
    trainer = tiny_training.make_trainer(tmp_path, save_in_background=False)
    take_step = trainer._take_step

    def lose(run, step, loader):
        if step == 3:
            shutil.rmtree(tmp_path / "checkpoints")
            (tmp_path / "checkpoints").write_text("no folder any more")
        return take_step(run, step, loader)

    trainer._take_step = lose
    with pytest.raises(CheckpointError, match="the checkpoint of step 4 cannot be written"):
        trainer.run()


def test_records_that_cannot_be_written_are_one_error(tmp_path, monkeypatch):
    def write(self, kind, step, values):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("db1.metrics_log.MetricsWriter.write", write)
    with pytest.raises(DataError, match="records cannot be written: .*No space left"):
        train(tmp_path)


def test_data_that_disappears_is_one_error(tmp_path):
    file = tmp_path / "data"
    file.write_bytes(b"sample")
    trainer = tiny_training.make_trainer(tmp_path / "run", data={"file": str(file)})
    take_step = trainer._take_step

    def lose(run, step, loader):
        if step == 3:
            file.unlink()
        return take_step(run, step, loader)

    trainer._take_step = lose
    with pytest.raises(DataError, match="sample 24: cannot be read: .*No such file.*put the data"):
        trainer.run()
    assert find_checkpoint(tmp_path / "run").step == 2


def _flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 4
    path.write_bytes(content)


def _cut(path):
    path.write_bytes(path.read_bytes()[:-1])


@pytest.fixture(scope="module")
def torch_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("torch")
    train(folder, checkpoint_every=3)
    return folder


TORCH_FILES = ("manifest.json", "trainer.json", "model.safetensors", "torch.pt", "random-rank0.pt")


def test_these_are_all_files(torch_run):
    folder = torch_run / "checkpoints" / "step-00000006"
    assert sorted(os.listdir(folder)) == sorted(TORCH_FILES)


@pytest.mark.parametrize("harm", [_flip, _cut])
@pytest.mark.parametrize("name", TORCH_FILES)
def test_harm_to_any_file_falls_back(torch_run, tmp_path, name, harm):
    shutil.copytree(torch_run, tmp_path / "run")
    harm(tmp_path / "run" / "checkpoints" / "step-00000006" / name)
    assert find_checkpoint(tmp_path / "run").step == 3
    with pytest.raises(CheckpointError):
        verify_checkpoint(tmp_path / "run" / "checkpoints" / "step-00000006")


@pytest.mark.slow
@pytest.mark.deepspeed
@pytest.mark.skipif(importlib.util.find_spec("deepspeed") is None, reason="pip install deepspeed")
def test_a_full_disk_of_one_of_two_processes_is_an_error_of_both(tmp_path):
    """DeepSpeed's own files, which it writes between messages of the processes."""
    job = {"engine": "deepspeed", "zero_stage": 2, "num_steps": 4}
    done = _run_two(tmp_path, job, job)
    assert [status for status, _ in done] == [0, 0], done
    largest = max(
        path.stat().st_size
        for path in (tmp_path / "checkpoints" / "step-00000004" / "deepspeed").iterdir()
    )
    more = job | {"num_steps": 8}
    done = _run_two(tmp_path, more, more | {"file_size": largest // 2})
    for status, log in done:
        assert status == 1 and "the checkpoint of step 6 cannot be written" in log, log
    assert find_checkpoint(tmp_path).step == 4
    assert not list((tmp_path / "checkpoints").glob("*.partial"))
    for harm in (_flip, _cut):
        for path in sorted((tmp_path / "checkpoints" / "step-00000004").rglob("*")):
            if path.is_file():
                content = path.read_bytes()
                harm(path)
                with pytest.raises(CheckpointError):
                    verify_checkpoint(tmp_path / "checkpoints" / "step-00000004")
                path.write_bytes(content)
    done = _run_two(tmp_path, more, more)
    assert [status for status, _ in done] == [0, 0]
    assert find_checkpoint(tmp_path).step == 8


def _run_two(folder, *jobs):
    """Runs a job in each of two processes; returns their statuses and logs."""
    port = free_port()
    processes = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(folder), json.dumps(job)],
            env=rank_environment(rank, 2, port),
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, job in enumerate(jobs)
    ]
    logs = [process.communicate(timeout=400)[1] for process in processes]
    return [(process.returncode, log) for process, log in zip(processes, logs, strict=True)]
