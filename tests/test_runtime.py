"""Rank, seeds, logging, metrics and safe writes."""

import io
import json
import logging
import math
import os
import random
import stat

import numpy as np
import pytest
import torch

from db1 import runtime
from db1.errors import ConfigError, DataError


def test_atomic_write_replaces_the_whole_file(tmp_path):
    path = tmp_path / "latest"
    runtime.atomic_write_text(path, "a long first text")
    runtime.atomic_write_text(path, "short")
    assert path.read_text() == "short"
    assert os.listdir(tmp_path) == ["latest"]


def test_atomic_write_that_fails_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "latest"
    runtime.atomic_write_text(path, "old")

    def fail(source, target):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        runtime.atomic_write_text(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["latest"]


@pytest.fixture
def no_rank(monkeypatch):
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_rank_without_a_launcher(no_rank):
    assert runtime.current_rank() == runtime.Rank(rank=0, local_rank=0, world_size=1)


def test_rank_of_a_launcher(no_rank):
    no_rank.setenv("RANK", "3")
    no_rank.setenv("LOCAL_RANK", "1")
    no_rank.setenv("WORLD_SIZE", "4")
    rank = runtime.current_rank()
    assert (rank.rank, rank.local_rank, rank.world_size, rank.is_main) == (3, 1, 4, False)


@pytest.mark.parametrize(("name", "value"), [("RANK", "two"), ("RANK", "1"), ("WORLD_SIZE", "0")])
def test_rank_that_cannot_be(no_rank, name, value):
    no_rank.setenv(name, value)
    with pytest.raises(ConfigError, match="environment variable RANK"):
        runtime.current_rank()


@pytest.fixture
def restored_logging():
    package = logging.getLogger("db1")
    before = package.handlers[:], package.level, package.propagate
    yield
    package.handlers[:], package.level, package.propagate = before


@pytest.mark.parametrize(("rank", "expected"), [(0, ["note", "care"]), (2, ["[rank 2] care"])])
def test_only_the_first_rank_logs_notes(rank, expected, restored_logging):
    stream = io.StringIO()
    runtime.setup_logging(rank, handler=logging.StreamHandler(stream))
    logger = logging.getLogger("db1.some.module")
    logger.info("note")
    logger.warning("care")
    lines = stream.getvalue().splitlines()
    assert [line.split(" ", 2)[2] for line in lines] == expected


def _draws():
    return random.random(), np.random.rand(), torch.rand(1).item()


def test_seeds_depend_on_seed_rank_and_step():
    seen = set()
    for arguments in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]:
        runtime.seed_everything(*arguments)
        first = _draws()
        runtime.seed_everything(*arguments)
        assert _draws() == first
        seen.add(first)
    assert len(seen) == 4


def test_random_states_survive_a_restricted_file(tmp_path):
    runtime.seed_everything(5)
    np.random.randn()  # leaves a cached second number
    torch.save(runtime.random_states(), tmp_path / "states.pt")
    expected = [_draws(), np.random.randn()]
    runtime.restore_random_states(torch.load(tmp_path / "states.pt", weights_only=True))
    assert [_draws(), np.random.randn()] == expected


def test_metrics_are_lines_and_go_to_trackers(tmp_path):
    class Tracker:
        records, closed = [], False

        def write(self, kind, step, values):
            self.records.append((kind, step, dict(values)))

        def close(self):
            self.closed = True

    tracker = Tracker()
    writer = runtime.MetricsWriter(tmp_path, trackers=[tracker])
    writer.write("train", 1, {"loss": 2.5, "loss_by_source": {"atari/pong": 2.0, "text": 3.0}})
    writer.write("evaluation", 1, {"loss": math.nan, "loss_by_task": {"a": math.inf, "b": 1.0}})
    writer.write("rollouts", 1, {"failures": {"a": "it broke"}, "episodes": 3})
    writer.close()
    train, evaluation, rollouts = runtime.read_metrics(tmp_path)
    assert train["step"] == 1 and train["loss_by_source"]["text"] == 3.0
    assert evaluation["loss"] is None and evaluation["loss_by_task"] == {"a": None, "b": 1.0}
    assert rollouts["failures"] == {"a": "it broke"} and rollouts["episodes"] == 3
    assert runtime.read_metrics(tmp_path, "evaluation") == [evaluation]
    assert [(kind, step) for kind, step, _ in tracker.records] == [
        ("train", 1),
        ("evaluation", 1),
        ("rollouts", 1),
    ]
    assert tracker.records[1][2]["loss"] is None and tracker.closed


def test_metrics_behind_the_resumed_step_are_cut(tmp_path):
    writer = runtime.MetricsWriter(tmp_path)
    for step in (1, 2, 3):
        writer.write("train", step, {"loss": float(step)})
    writer.close()
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"kind": "train", "st')  # torn by a crash
    writer = runtime.MetricsWriter(tmp_path, after_step=2)
    writer.write("train", 3, {"loss": 30.0})
    writer.close()
    assert [record["loss"] for record in runtime.read_metrics(tmp_path)] == [1.0, 2.0, 30.0]
    for line in (tmp_path / "metrics.jsonl").read_text().splitlines():
        json.loads(line)


@pytest.mark.parametrize(
    ("there", "set_before", "expected"),
    [
        ({"EGL", "OSMesa"}, {}, "egl"),
        ({"OSMesa"}, {}, "osmesa"),
        (set(), {}, None),
        ({"EGL"}, {"MUJOCO_GL": "osmesa"}, "osmesa"),
        ({"EGL"}, {"DISPLAY": ":0"}, None),
    ],
)
def test_the_renderer_follows_what_is_there(monkeypatch, there, set_before, expected):
    for name in ("MUJOCO_GL", "DISPLAY"):
        monkeypatch.setenv(name, set_before.get(name, ""))
    find = lambda name: name if name in there else None  # noqa: E731
    monkeypatch.setattr(runtime.ctypes.util, "find_library", find)
    assert runtime.choose_renderer() == expected


def test_what_is_no_file_is_written_to_and_stays(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        runtime.atomic_write_text(pipe, "text")
        assert os.read(reader, 100) == b"text"
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(os.stat(pipe).st_mode)
    for device in ("/dev/null", "/dev/full"):
        before = os.lstat(device)
        if device == "/dev/full":
            with pytest.raises(DataError, match="/dev/full: cannot be written"):
                runtime.atomic_write_text(device, "text")
        else:
            runtime.atomic_write_text(device, "text")
        assert os.lstat(device).st_ino == before.st_ino and stat.S_ISCHR(os.lstat(device).st_mode)


def test_a_link_stays(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/other").write_text("old")
    os.symlink(tmp_path / "folder/other", tmp_path / "link")
    runtime.atomic_write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "folder/other").read_text() == "new"
    assert sorted(os.listdir(tmp_path)) == ["folder", "link"]
