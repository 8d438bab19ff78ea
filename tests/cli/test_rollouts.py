"""Checkpoints of a real training act while it goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from db1.metrics_log import read_metrics

TASK = "classic_control/CartPole-v1"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_checkpoints_act_while_the_training_goes_on(db1, experiment: Path) -> None:
    settings = {"every": 6, "episodes": 2, "max_share": 0.5, "tasks": f"[{TASK}]"}
    overrides = [f"training.rollouts.{key}={value}" for key, value in settings.items()]
    status, _, error = db1("train", experiment, "name=acting", *overrides)
    assert status == 0 and "mean score" in error, error
    run = experiment.parent / "runs" / "acting"
    records = read_metrics(run, "rollouts")
    assert records[-1]["step"] == 12
    for record in records:
        assert 8 <= record["return"][TASK] <= 500 and -1 < record["score"][TASK] < 2
        assert record["mean_score"] == record["score"][TASK] and record["seconds"] > 0
    results = json.loads((run / "rollouts" / "step-00000012" / "results.json").read_text())
    assert results["tasks"][TASK]["seeds"] == [2_900_000, 2_900_001]
    train = read_metrics(run, "train")
    plain = read_metrics(experiment.parent / "runs" / "tiny", "train")
    assert [r["loss"] for r in train] == [r["loss"] for r in plain]
