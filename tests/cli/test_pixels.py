"""A task seen through a camera: collected, learned and acted in (image patches all the way)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from db1.metrics_log import read_metrics
from db1.suites import parse_task_id

TASK = "dmc/cartpole-balance-pixels"
YAML = """
name: pixels
runs: {root}/runs
vocabulary: {{text_size: 300, num_continuous_bins: 64, num_discrete: 32}}
sequence: {{length: 96}}
data:
  root: {root}/data
  heldout_share: 0.5
  evaluation_samples: 2
  tasks:
    dmc/cartpole-balance-pixels: {{episodes: 4, max_steps: 30}}
model:
  {{num_layers: 1, num_heads: 2, width: 32, memory_length: 96, vision_channels: 32}}
training:
  num_steps: 8
  global_batch_size: 2
  micro_batch_size: 2
  learning_rate: 3.0e-3
  engine: torch
  log_every: 1
"""


@pytest.mark.slow
@pytest.mark.suite("dmc")
def test_pixels_all_the_way(db1, tmp_path: Path) -> None:
    suite, name = parse_task_id(TASK)
    if reason := suite.task_missing(name):
        pytest.skip(reason)
    path = tmp_path / "pixels.yaml"
    path.write_text(YAML.format(root=tmp_path))
    for arguments in (["collect", "--config", path, "--reference-episodes", 1], ["train", path]):
        status, _, err = db1(*arguments)
        assert status == 0, err
    run = tmp_path / "runs/pixels"
    losses = [record["loss"] for record in read_metrics(run, "train")]
    assert losses[-1] < losses[0]
    status, _, err = db1("eval", run, "--episodes", 1, "--out", tmp_path / "e")
    assert status == 0, err
    entry = json.loads((tmp_path / "e/results.json").read_text())["tasks"][TASK]
    assert entry["lengths"] == [1000]
