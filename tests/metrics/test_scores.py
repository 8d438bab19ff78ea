from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from toy_evaluation import episodes_of

from db1.errors import DataError
from db1.metrics.scores import (
    bootstrap_interval,
    interquartile_mean,
    normalise,
    threshold_curve,
)
from db1.metrics.summary import summarise as summarise_episodes

SCORES = {
    "a/one": np.array([0.0, 0.2, 0.4]),
    "a/two": np.array([0.5, 0.5, 0.5]),
    "b/one": np.array([0.9, 1.1, 1.0]),
    "b/two": np.array([0.6, 0.8]),
    "b/three": np.array([-0.3, 0.1]),
}


def summarise(scores: dict[str, np.ndarray]) -> dict[str, Any]:
    """The summary of episodes whose returns are their scores."""
    return summarise_episodes({task: episodes_of(values) for task, values in scores.items()})


MEANS = {"a/one": 0.2, "a/two": 0.5, "b/one": 1.0, "b/two": 0.7, "b/three": -0.1}


def test_normalised_score() -> None:
    np.testing.assert_allclose(normalise(np.array([10.0, 60.0, 110.0]), 10, 110), [0, 0.5, 1])
    np.testing.assert_allclose(normalise(np.array([-200.0, -150.0]), -200, -100), [0, 0.5])
    for random, expert in ((3.0, 3.0), (0.0, float("nan"))):
        with pytest.raises(DataError, match="do not span a score"):
            normalise(np.zeros(1), random, expert)


def test_summary_equals_a_plain_computation() -> None:
    summary = summarise(SCORES)
    values = sorted(MEANS.values())
    assert summary["num_tasks"] == 5 and summary["num_at_least_50"] == 3
    assert summary["share_at_least_50"] == pytest.approx(3 / 5)
    assert summary["mean_normalised"] == pytest.approx(sum(values) / 5)
    assert summary["median_normalised"] == pytest.approx(values[2])
    assert summary["interquartile_mean"] == pytest.approx(sum(values[1:4]) / 3)
    expected = [sum(v >= t / 100 - 1e-12 for v in values) for t in range(0, 101, 5)]
    assert summary["threshold_curve"] == {
        "thresholds": list(range(0, 101, 5)),
        "num_tasks": expected,
    }
    assert summary["by_suite"]["a"]["num_at_least_50"] == 1
    assert summary["by_suite"]["b"]["mean_normalised"] == pytest.approx(1.6 / 3)
    for name, (low, high) in summary["intervals"].items():
        assert low <= summary[name] <= high


def test_interval_is_the_percentiles_of_resampled_means() -> None:
    values = np.random.default_rng(1).normal(2.0, 1.0, 40)
    means = [float(np.mean(np.random.default_rng([7, i]).choice(values, 40))) for i in range(4_000)]
    low, high = bootstrap_interval(values)
    np.testing.assert_allclose([low, high], np.percentile(means, [2.5, 97.5]), atol=0.02)
    assert bootstrap_interval(values) == [low, high]
    assert bootstrap_interval(np.full(5, 0.7)) == pytest.approx([0.7, 0.7])


def test_stratified_bootstrap_keeps_every_task() -> None:
    fixed = {"s/low": np.zeros(4), "s/high": np.ones(4)}
    assert summarise(fixed)["intervals"]["mean_normalised"] == [0.5, 0.5]


def test_interquartile_mean_drops_a_quarter_at_each_end() -> None:
    assert interquartile_mean(np.array([100.0, 1, 2, 3, 4, 5, 6, -100])) == pytest.approx(3.5)
    assert interquartile_mean(np.array([1.0, 5.0])) == pytest.approx(3.0)


def test_at_or_above_counts_equality() -> None:
    curve = threshold_curve(np.array([0.5, 1.0]))
    assert curve["num_tasks"][10] == 2 and curve["num_tasks"][11] == 1
    assert curve["num_tasks"][20] == 1


def test_no_task() -> None:
    summary = summarise({})
    assert summary["num_tasks"] == 0 and summary["mean_normalised"] is None
    assert set(summary["threshold_curve"]["num_tasks"]) == {0}
