"""Checkpoints are whole or unused, whatever happens to their files."""

import json
import logging
import os

import pytest
import torch

from db1.checkpoint import manifest, run
from db1.checkpoint.weights import read_weights, write_weights
from db1.errors import CheckpointError


def _save(folder, step, value=1.0, keep=3, **changes):
    def write(partial):
        write_weights(partial / run.WEIGHTS_FILE, {"w": torch.full((4, 4), value)})
        (partial / "deepspeed").mkdir()
        (partial / "deepspeed" / "optimizer.pt").write_bytes(b"state" * 1000)

    arguments = {"trainer": {"world_size": 1}, "keep": keep} | changes
    return run.save_checkpoint(folder, step, changes.pop("write", write), **arguments)


@pytest.fixture
def saved(tmp_path):
    """A run with checkpoints of the steps 10, 20 and 30; its logger reaches pytest."""
    for step in (10, 20, 30):
        _save(tmp_path, step, value=float(step))
    return tmp_path


def _tags(folder):
    return sorted(os.listdir(folder / "checkpoints"))


def test_layout(saved):
    assert _tags(saved) == ["latest", "step-00000010", "step-00000020", "step-00000030"]
    assert (saved / "checkpoints" / "latest").read_text() == "step-00000030\n"
    folder = saved / "checkpoints" / "step-00000030"
    content = json.loads((folder / "manifest.json").read_text())
    assert sorted(content["files"]) == [
        "deepspeed/optimizer.pt",
        "model.safetensors",
        "trainer.json",
    ]
    assert content["files"]["deepspeed/optimizer.pt"]["size"] == 5000
    assert json.loads((folder / "trainer.json").read_text()) == {"step": 30, "world_size": 1}


def test_finds_the_newest(saved):
    found = run.find_checkpoint(saved)
    assert (found.step, found.trainer["world_size"]) == (30, 1)
    assert run.load_weights(saved)["w"][0, 0] == 30
    assert run.load_weights(saved / "checkpoints" / "step-00000010")["w"][0, 0] == 10


def test_nothing_there(tmp_path):
    assert run.find_checkpoint(tmp_path) is None
    with pytest.raises(CheckpointError, match="no checkpoint, expected a run folder"):
        run.load_weights(tmp_path)


def _flip_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _cut(path):
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("name", ["model.safetensors", "deepspeed/optimizer.pt", "trainer.json"])
@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (_flip_bit, "SHA-256 differs"),
        (_cut, "bytes, expected"),
        (lambda path: path.unlink(), "no such file"),
    ],
)
def test_a_harmed_checkpoint_falls_back(saved, caplog, name, harm, message):
    harm(saved / "checkpoints" / "step-00000030" / name)
    with caplog.at_level(logging.WARNING, logger="db1.checkpoint.run"):
        logging.getLogger("db1").propagate = True
        assert run.find_checkpoint(saved).step == 20
    assert message in caplog.text and "falling back" in caplog.text
    with pytest.raises(CheckpointError, match=message):
        run.verify_checkpoint(saved / "checkpoints" / "step-00000030")


@pytest.mark.parametrize("harm", [_cut, lambda path: path.unlink(), lambda p: p.write_text("[]")])
def test_a_harmed_manifest_falls_back(saved, harm):
    harm(saved / "checkpoints" / "step-00000030" / "manifest.json")
    assert run.find_checkpoint(saved).step == 20


def test_all_harmed_is_an_error(saved):
    for folder in (saved / "checkpoints").glob("step-*"):
        _flip_bit(folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="all 3 checkpoints are broken"):
        run.find_checkpoint(saved)


def test_acting_reads_past_harmed_optimizer_states(saved):
    _flip_bit(saved / "checkpoints" / "step-00000030" / "deepspeed" / "optimizer.pt")
    assert run.load_weights(saved)["w"][0, 0] == 30


def _rewrite_manifest(folder, **changes):
    path = folder / "manifest.json"
    content = json.loads(path.read_text()) | changes
    del content["checksum"]
    if content["version"] > 1:
        content["checksum"] = manifest._checksum(content)
    path.write_text(json.dumps(content))


def test_a_newer_checkpoint_is_refused_and_left_alone(saved):
    """Falling back to an older one would throw the newer one's work away."""
    folder = saved / "checkpoints" / "step-00000030"
    _rewrite_manifest(folder, version=3, written_by="db1 9.0")
    message = "of version 3, written by db1 9.0; this is db1 .*install a newer db1"
    for find in (run.find_checkpoint, run.load_weights):
        with pytest.raises(manifest.NewerCheckpoint, match=message):
            find(saved)
    assert folder.is_dir()


def test_version_1_is_read(saved):
    folder = saved / "checkpoints" / "step-00000030"
    _rewrite_manifest(folder, version=1)
    assert run.find_checkpoint(saved).step == 30


def test_a_flipped_bit_anywhere_in_a_manifest_is_found(saved):
    folder = saved / "checkpoints" / "step-00000030"
    content = (folder / "manifest.json").read_bytes()
    for place in range(len(content)):
        broken = bytearray(content)
        broken[place] ^= 1 << place % 8
        (folder / "manifest.json").write_bytes(broken)
        with pytest.raises(CheckpointError) as caught:
            run.verify_checkpoint(folder, only=())
        assert not isinstance(caught.value, manifest.NewerCheckpoint), place
    (folder / "manifest.json").write_bytes(content)
    run.verify_checkpoint(folder)


def test_a_manifest_of_another_step_is_refused(saved):
    checkpoints = saved / "checkpoints"
    os.rename(checkpoints / "step-00000030", checkpoints / "step-00000040")
    with pytest.raises(CheckpointError, match="its manifest is of step 30"):
        run.verify_checkpoint(checkpoints / "step-00000040")


def test_keeps_every_mth(tmp_path):
    for step in range(10, 80, 10):
        partial = run.start_checkpoint(tmp_path, step)
        (partial / "model.safetensors").write_bytes(b"weights")
        run.publish_checkpoint(partial, step, trainer={}, keep=2, keep_every=30)
    assert [int(name[5:]) for name in _tags(tmp_path)[1:]] == [30, 60, 70]


def test_a_crash_while_writing_leaves_the_old_ones(saved):
    def crash(partial):
        (partial / "half").write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.save_checkpoint(saved, 40, crash, trainer={}, keep=1)
    assert run.find_checkpoint(saved).step == 30
    assert "step-00000040.partial" in _tags(saved)
    run.tidy_checkpoints(saved, 30)
    assert "step-00000040.partial" not in _tags(saved)
    _save(saved, 40)
    assert run.find_checkpoint(saved).step == 40


@pytest.mark.parametrize("function", ["write_manifest", "_rename"])
def test_a_crash_before_the_rename_leaves_the_old_ones(saved, monkeypatch, function):
    def crash(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(run, function, crash)
    with pytest.raises(KeyboardInterrupt):
        _save(saved, 40, keep=1)
    assert run.find_checkpoint(saved).step == 30
    assert (saved / "checkpoints" / "latest").read_text() == "step-00000030\n"


def test_keeps_the_newest(saved):
    _save(saved, 100, keep=2)
    assert _tags(saved) == ["latest", "step-00000030", "step-00000100"]


def test_broken_ones_do_not_push_out_newer_work(saved):
    _flip_bit(saved / "checkpoints" / "step-00000030" / "model.safetensors")
    found = run.find_checkpoint(saved)
    run.tidy_checkpoints(saved, found.step)
    _save(saved, 25, keep=1)
    assert run.find_checkpoint(saved).step == 25
    assert _tags(saved) == ["latest", "step-00000025", "step-00000030.broken"]


def test_the_same_step_again_replaces(saved):
    _save(saved, 30, value=7.0)
    assert run.load_weights(saved)["w"][0, 0] == 7


def test_tied_weights_are_stored_once(tmp_path):
    table = torch.randn(50, 8)
    write_weights(tmp_path / "w", {"input": table, "output": table, "half": table.bfloat16()})
    assert (tmp_path / "w").stat().st_size < 2 * table.nbytes
    weights = read_weights(tmp_path / "w")
    assert sorted(weights) == ["half", "input", "output"]
    assert torch.equal(weights["output"], table)
    assert weights["half"].dtype == torch.bfloat16


def test_weights_may_be_views_and_empty(tmp_path):
    flat = torch.arange(12.0)
    weights = {"a": flat[:6].view(2, 3).T, "b": flat[6:], "none": flat[:0], "void": flat[6:6]}
    write_weights(tmp_path / "w", weights)
    read = read_weights(tmp_path / "w")
    assert all(torch.equal(read[name], tensor) for name, tensor in weights.items())


def test_no_safetensors_file(tmp_path):
    (tmp_path / "w").write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match="cannot be read as safetensors"):
        read_weights(tmp_path / "w")
