"""The summary of results.json, computed again by other code from its returns alone."""

from __future__ import annotations

import statistics
from pathlib import Path

import numpy as np
import pytest

from db1.evaluation.evaluate import evaluate
from db1.evaluation.results import read_results
from db1.evaluation.settings import EvaluationConfig


def recompute(results: dict) -> dict:
    """Normalised scores and intervals of one results.json, in a few lines of plain NumPy."""
    scores = {}
    for task, entry in results["tasks"].items():
        span = entry["expert"] - entry["random"]
        scores[task] = [(value - entry["random"]) / span for value in entry["returns"]]
    means = {task: sum(values) / len(values) for task, values in scores.items()}
    generator, draws = np.random.default_rng(0), []
    for task in sorted(scores):  # the order in which the generator deals
        values = np.array(scores[task])
        picks = generator.integers(0, len(values), size=(2_000, len(values)))
        draws.append(values[picks].mean(axis=1))
    draws = np.array(draws)

    def middle(values: list[float]) -> float:
        kept = sorted(values)[len(values) // 4 : len(values) - len(values) // 4]
        return sum(kept) / len(kept)

    def interval(statistic) -> list[float]:
        found = [statistic(list(column)) for column in draws.T]
        return [float(np.quantile(found, q)) for q in (0.025, 0.975)]

    every = list(means.values())

    statistic = {
        "share_at_least_50": lambda values: sum(v >= 0.5 for v in values) / len(values),
        "mean_normalised": statistics.fmean,
        "median_normalised": statistics.median,
        "interquartile_mean": middle,
    }
    return {
        "means": means,
        "values": {name: function(every) for name, function in statistic.items()},
        "intervals": {name: interval(function) for name, function in statistic.items()},
        "curve": [sum(value >= percent / 100 for value in every) for percent in range(0, 101, 5)],
    }


def test_an_independent_script_finds_the_same(run_folder: Path, tmp_path: Path) -> None:
    config = EvaluationConfig(episodes=5, policy="random", text=False)
    evaluate(run_folder, config, out=tmp_path)
    results = read_results(tmp_path)
    found, summary = recompute(results), results["summary"]
    for task, mean in found["means"].items():
        assert results["tasks"][task]["normalised"] == pytest.approx(mean)
    for name, value in found["values"].items():
        assert summary[name] == pytest.approx(value), name
        assert summary["intervals"][name] == pytest.approx(found["intervals"][name]), name
    assert summary["threshold_curve"]["num_tasks"] == found["curve"]
