"""Student's interval of a mean against a table's worked numbers."""

import numpy as np
import pytest

from db1.benchmarks.intervals import mean_interval


def test_worked_example() -> None:
    found = mean_interval([1.0, 2.0, 3.0])
    assert found["mean"] == 2.0
    assert found["interval"] == pytest.approx([2 - 2.484, 2 + 2.484], abs=1e-3)


def test_a_single_value_has_none() -> None:
    assert mean_interval([0.3]) == {"mean": 0.3, "interval": None}


@pytest.mark.parametrize("count", [2, 5, 21, 22, 61])
def test_covers_the_truth_in_95_of_100_cases(count: int) -> None:
    draws = np.random.default_rng(count).normal(size=(4000, count))
    intervals = [mean_interval(row.tolist())["interval"] for row in draws]
    covered = np.mean([low <= 0 <= high for low, high in intervals])
    assert covered == pytest.approx(0.95, abs=0.015)
