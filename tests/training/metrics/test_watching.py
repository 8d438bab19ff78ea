"""What is logged of a training, and where it is shown."""

import importlib.util
import json
import math
import time

import pytest
import torch
from tiny_training import settings, train

from db1.config import build
from db1.errors import ConfigError, MissingExtra
from db1.metrics_log import read_metrics
from db1.training.metrics import trackers as tracking
from db1.training.metrics.context import FlopsPerToken, SourceGroup, WatchConfig, group_by_name
from db1.training.metrics.records import Window, evaluation_record, grouped_losses, train_record
from db1.training.metrics.tally import Tally
from db1.training.metrics.trackers import TensorBoardTracker, check_trackers, make_trackers, scalars
from db1.training.sizing.hardware import peak_flops, peak_memory, peak_of_gpu

TALLY = Tally(
    losses={"a/x": 6.0, "a/y": 2.0, "b/z": 3.0, "kjv": 8.0, "b/none": 0.0},
    targets={"a/x": 3, "a/y": 1, "b/z": 6, "kjv": 2, "b/none": 0},
    tokens=100,
)


def test_losses_of_groups_weigh_all_targets_alike():
    assert grouped_losses(TALLY, lambda name: group_by_name(name).suite) == {
        "a": 2.0,
        "b": 0.5,
        "text": 4.0,
    }
    assert grouped_losses(TALLY, lambda name: group_by_name(name).modality) == {
        "control": 1.1,
        "text": 4.0,
    }


def _window(seconds, waited, norms, tally=TALLY):
    window = Window()
    for norm in norms:
        window.add(tally, norm, seconds, waited)
    return window


def test_train_record():
    windows = [_window(2.0, 0.5, [1.0, 4.0, 2.0]), _window(2.1, 0.8, [1.0, 4.0, 2.0])]
    flops = FlopsPerToken(token=10.0, target=100.0)
    record = train_record(
        windows,
        group_of=group_by_name,
        learning_rate=1e-3,
        peak_memory=5,
        flops=flops,
        peak_flops=1000.0,
    )
    assert record["loss"] == pytest.approx(19 / 12)
    assert record["loss_by_suite"]["a"] == 2.0 and record["loss_by_source"]["a/y"] == 2.0
    assert (record["gradient_norm"], record["gradient_norm_max"]) == (2.0, 4.0)
    assert record["tokens"] == 600 and record["tokens_per_second"] == 100.0
    assert record["step_seconds"] == 2.0
    assert record["data_wait_seconds"] == pytest.approx(0.8)  # the slowest process
    work = 10.0 * 600 + 100.0 * 72  # tokens and targets of 3 steps in 2 processes
    assert record["flops_per_second"] == pytest.approx(work / 6.0)
    assert record["mfu"] == pytest.approx(work / 6.0 / 2000.0)


def test_no_mfu_without_a_peak():
    values = {"group_of": group_by_name, "learning_rate": 0.1, "peak_memory": 1}
    window = _window(1.0, 0.0, [math.nan])
    assert "mfu" not in train_record([window], **values)
    record = train_record([window], **values, flops=FlopsPerToken(token=1.0, target=0.0))
    assert record["flops_per_second"] == 100.0 and "mfu" not in record
    assert math.isnan(record["gradient_norm_max"])


def test_evaluation_record():
    record = evaluation_record(
        {"a/x": TALLY, "b/z": Tally({"b/z": 1.0}, {"b/z": 2}, 10)}, group_by_name
    )
    assert record["loss_by_task"] == {"a/x": pytest.approx(19 / 12), "b/z": 0.5}
    assert record["loss"] == pytest.approx(20 / 14)
    assert record["loss_by_suite"] == record["loss_by_task"] | {} or set(
        record["loss_by_suite"]
    ) == {"a", "b"}


@pytest.mark.parametrize(
    ("name", "precision", "expected"),
    [
        ("NVIDIA H100 80GB HBM3", "bf16", 989e12),
        ("NVIDIA H100 80GB HBM3", "fp32", 67e12),
        ("NVIDIA H100 PCIe", "bf16", 756e12),
        ("NVIDIA H200", "bf16", 989e12),
        ("NVIDIA GH200 480GB", "fp16", 989e12),
        ("NVIDIA A100-SXM4-80GB", "bf16", 312e12),
        ("NVIDIA A100-SXM4-80GB", "fp32", 19.5e12),
        ("NVIDIA L4", "bf16", 121e12),
        ("NVIDIA L40S", "bf16", 362e12),
        ("NVIDIA A10G", "bf16", 70e12),
        ("NVIDIA A10", "bf16", 125e12),
        ("Tesla V100-SXM2-16GB", "fp16", 125e12),
        ("Tesla T4", "fp16", 65e12),
        ("NVIDIA GeForce RTX 4090", "bf16", 165.2e12),
        ("NVIDIA B200", "bf16", 2250e12),
        ("A card of tomorrow", "bf16", None),
    ],
)
def test_peaks_of_gpus(name, precision, expected):
    assert peak_of_gpu(name, precision) == expected


def test_a_cpu_has_no_known_peak():
    assert peak_flops(torch.device("cpu"), "fp32") is None
    assert peak_memory(torch.device("cpu")) > 1 << 20


def test_tags_are_grouped():
    record = {"loss": 1.0, "mfu": 0.4, "loss_by_suite": {"a": 2.0, "b": None}, "why": "text"}
    assert scalars("train", record) == {
        "train/loss": 1.0,
        "speed/mfu": 0.4,
        "train_loss_by_suite/a": 2.0,
    }


def test_tensorboard(tmp_path, monkeypatch):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.summary.writer import event_file_writer

    # Names of event files end in a count of the process: "9" and "10" sort as text.
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(9))
    for after, steps in ((0, (1, 2, 3)), (2, (3, 4))):
        tracker = TensorBoardTracker(tmp_path, after)
        for step in steps:
            tracker.write("train", step, {"loss": step + after, "loss_by_source": {"a/x": 2.0}})
        tracker.close()
    board = EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    assert set(board.Tags()["scalars"]) == {"train/loss", "train_loss_by_source/a/x"}
    assert [(e.step, e.value) for e in board.Scalars("train/loss")] == [
        (1, 1.0),
        (2, 2.0),
        (3, 5.0),
        (4, 6.0),
    ]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"trackers": ["tensorbord"]}, "trackers: got 'tensorbord'.*did you mean 'tensorboard'"),
        ({"peak_flops": 0}, "peak_flops: got 0"),
        ({"wandb_mode": "on"}, "wandb_mode: got 'on'"),
    ],
)
def test_refuses(values, message):
    with pytest.raises(ConfigError, match=message):
        build(WatchConfig, values)


def test_missing_wandb_is_said_before_anything_starts(monkeypatch):
    monkeypatch.setattr(tracking.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r'pip install "db1\[wandb\]"'):
        check_trackers(WatchConfig(trackers=("wandb",)))
    check_trackers(WatchConfig())


def test_a_run_has_groups_and_mfu(tmp_path):
    train(tmp_path, watch=WatchConfig(trackers=()), num_steps=2)
    record = read_metrics(tmp_path, "train")[-1]
    assert (
        record["loss_by_suite"]
        == record["loss_by_modality"]
        == {"text": pytest.approx(record["loss"])}
    )
    assert not (tmp_path / "tensorboard").exists()
    assert settings(watch=WatchConfig()).watch.trackers == ("tensorboard",)


@pytest.mark.slow
def test_wandb_offline(tmp_path):
    """Real: the offline run's file holds what was logged, and a resumed run keeps its id."""
    if importlib.util.find_spec("wandb") is None:
        pytest.skip('needs pip install "db1[wandb]"')
    watch = WatchConfig(trackers=("wandb",), wandb_mode="offline")
    ids = set()
    for after in (0, 2):
        (tracker,) = make_trackers(watch, tmp_path, {"model": {"width": 32}}, after)
        tracker.write("train", after + 1, {"loss": 1.5, "loss_by_suite": {"a": 2.0}})
        tracker.write("rollouts", after, {"return": {"a/x": 7.0}, "failures": {"b": "no"}})
        tracker.close()
        ids.add((tmp_path / "wandb" / "run-id").read_text())
    assert len(ids) == 1
    files = sorted(tmp_path.glob("wandb/offline-run-*/*.wandb"))
    assert len(files) == 2 and all(ids.copy().pop() in path.name for path in files)
    end = time.monotonic() + 60  # wandb's own process writes the last lines behind us
    while sum(len(_logged(path)) for path in files) < 4 and time.monotonic() < end:
        time.sleep(0.2)
    logged = [_logged(path) for path in files]
    assert logged[0][0] == {
        "train/loss": 1.5,
        "train_loss_by_suite/a": 2.0,
        "train/step": 1,
        "train_loss_by_suite/step": 1,
    }
    assert logged[1][1] == {"rollouts_return/a/x": 7.0, "rollouts_return/step": 2}


def _logged(path):
    """The logged rows of an offline run."""
    from wandb.proto.wandb_internal_pb2 import Record

    rows = []
    for data in _chunks(path.read_bytes()):
        record = Record()
        record.ParseFromString(data)
        if record.HasField("history"):
            items = {i.key or "/".join(i.nested_key): i.value_json for i in record.history.item}
            rows.append({k: json.loads(v) for k, v in items.items() if not k.startswith("_")})
    return rows


def _chunks(content):
    """The records of a file in LevelDB's log format, behind a header of 7 bytes."""
    at, data = 7, b""
    while at + 7 <= len(content):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        length = int.from_bytes(content[at + 4 : at + 6], "little")
        kind = content[at + 6]  # 1 full, 2 first, 3 middle, 4 last
        data += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            yield data
            data = b""


def test_groups():
    assert group_by_name("atari/Pong") == SourceGroup(suite="atari", modality="control")
    assert group_by_name("kjv") == SourceGroup(suite="text", modality="text")
