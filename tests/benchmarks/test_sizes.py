"""`db1 bench training`: batches that fit, the table, and a real measurement of a tiny model."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from db1.benchmarks import sizes
from db1.benchmarks.sizes import batches, bench_sizes, config_of
from db1.benchmarks.throughput import OUT_OF_MEMORY, SyntheticText, matmul_flops
from db1.errors import ConfigError
from db1.training.experiment import load_experiment
from db1.training.sizing.plan import plan

ROOT = Path(__file__).parents[2]
GIB = 2**30


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch):
    monkeypatch.chdir(ROOT)


def _experiment(size, *overrides):
    return load_experiment(config_of(size), ["training.precision=bf16", *overrides])


def test_sizes_are_configurations():
    assert config_of("79m") == Path("configs/db1_79m.yaml")
    assert config_of("some/other.yaml") == Path("some/other.yaml")
    with pytest.raises(ConfigError, match="size '36m'.*'364m', '79m'.*did you mean '364m'"):
        config_of("36m")


@pytest.mark.parametrize("size", ["79m", "1.2b"])
def test_the_largest_micro_batch_that_fits_comes_first(size, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    config, memory = _experiment(size), 80 * GIB
    ways = list(batches(config, memory))
    first = ways[0]
    assert 512 % first.micro_batch_size == 0 and not first.checkpointing

    def needed(way, factor=1):
        size = factor * way.micro_batch_size
        changed = replace(config.training, micro_batch_size=size)
        planned = plan(replace(config, training=changed))
        return planned.needed(planned.configured, way.checkpointing)

    assert needed(first) <= 0.85 * memory
    assert first.micro_batch_size == 64 or needed(first, 2) > 0.85 * memory
    assert ways[-1].micro_batch_size == 1 and ways[-1].checkpointing  # what is tried at last


def test_a_small_card_gets_checkpointing(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    ways = list(batches(_experiment("1.2b"), 28 * GIB))
    assert ways[0].checkpointing and ways[0].micro_batch_size > 1
    assert [(w.micro_batch_size, w.checkpointing) for w in batches(_experiment("1.2b"), GIB)] == [
        (1, True)
    ]


def test_synthetic_text():
    dataset = SyntheticText(100, 16, 5)
    assert len(dataset) == 5
    sample = dataset[3]
    assert sample.ids.shape == (17,) and sample.ids.min() >= 0 and sample.ids.max() < 100
    assert sample.target_mask.all() and np.array_equal(sample.ids, dataset[3].ids)
    assert not np.array_equal(sample.ids, dataset[4].ids)


def test_matrix_products():
    assert matmul_flops(torch.device("cpu"), "fp32", seconds=0.0) > 1e8


FOUND = {
    "name": "db1_79m", "parameters": 90574720, "micro_batch_size": 32, "device": "A card",
    "activation_checkpointing": True, "tokens_per_second": 123456.7, "flops_per_second": 2e14,
    "mfu": 0.4, "matmul_flops_per_second": 4e14, "step_seconds": 1.5, "data_wait_seconds": 0.01,
    "peak_memory_bytes": 30 * GIB,
}  # fmt: skip


def test_falls_back_when_memory_runs_out(tmp_path, monkeypatch):
    tried = []

    def measured(job):
        tried.append(job.overrides[-2:])
        assert job.seconds == 30 and "training.precision=bf16" in job.overrides
        return (OUT_OF_MEMORY, "no") if len(tried) < 3 else (0, dict(FOUND))

    monkeypatch.setattr(sizes, "_measured", measured)
    monkeypatch.setattr(sizes, "device_memory", lambda: 1 << 40)
    told = []
    content = bench_sizes(["79m"], minutes=0.5, precision="bf16", out=tmp_path, tell=told.append)
    assert [t[0] for t in tried] == [f"training.micro_batch_size={n}" for n in (32, 16, 8)]
    assert "79m: micro-batches of 32 does not fit" in told
    assert content["results"] == [FOUND] and not content["failures"]
    table = (tmp_path / "table.md").read_text()
    row = "| db1_79m | 90,574,720 | 32, activations twice | 123,457 | 200 | 40.0 % | 50.0 % |"
    assert row in table and "A card" in table
    assert json.loads((tmp_path / "results.json").read_text()) == content


def test_a_size_that_fails_does_not_hide_the_others(tmp_path, monkeypatch):
    answers = iter([(1, "exit status 1: broken"), (0, dict(FOUND))])
    monkeypatch.setattr(sizes, "_measured", lambda job: next(answers))
    content = bench_sizes(
        ["79m", "364m"], minutes=0.1, precision="fp32", out=tmp_path, tell=lambda text: None
    )
    assert content["failures"] == {"79m": "exit status 1: broken"} and content["results"] == [FOUND]
    assert "79m failed: exit status 1: broken" in (tmp_path / "table.md").read_text()


@pytest.mark.parametrize(
    ("words", "precision", "message"),
    [
        (["80m"], "bf16", "size '80m'"),
        (["tiny"], "bf32", "precision: got 'bf32'"),
    ],
)
def test_refuses(tmp_path, words, precision, message):
    with pytest.raises(ConfigError, match=message):
        bench_sizes(words, minutes=1, precision=precision, out=tmp_path / "x", tell=print)
    assert not (tmp_path / "x").exists()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_script_measures_a_tiny_model(tmp_path):
    """The real thing: DeepSpeed, bf16, reader processes; a stage that bf16 refuses is raised."""
    config = tmp_path / "small.yaml"
    config.write_text(
        """
name: small
data: {root: none, text: {t: {source: none}}}
vocabulary: {text_size: 400}
sequence: {length: 64}
model: {num_layers: 1, num_heads: 2, width: 32, memory_length: 64, vision_channels: 32}
training: {num_steps: 1000, global_batch_size: 4, micro_batch_size: 2, learning_rate: 1e-3,
           zero_stage: 0, num_workers: 1, num_threads: 1}
"""
    )
    done = subprocess.run(
        [
            shutil.which("dash") or "sh",
            ROOT / "scripts" / "benchmark_gpu.sh",
            "0.02",
            config,
            "training.watch.peak_flops=1e12",
        ],
        env=os.environ | {"OUT": str(tmp_path / "out"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "out" / "results.json").read_text())
    (result,) = content["results"]
    assert result["zero_stage"] == 1 and result["precision"] == "bf16" and result["steps"] >= 1
    assert result["tokens"] == result["steps"] * 4 * 64
    assert 0 < result["mfu"] == pytest.approx(result["flops_per_second"] / 1e12)
    assert result["tokens_per_second"] > 0 and result["matmul_flops_per_second"] > 0
    assert "| small |" in done.stdout
    assert done.stdout.strip() == (tmp_path / "out" / "table.md").read_text().strip()
