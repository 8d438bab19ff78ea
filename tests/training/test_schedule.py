"""Learning rates at the points that define the schedule."""

import pytest
from tiny_training import settings

from db1.training.schedule import learning_rate_at


def test_warm_up_then_cosine():
    config = settings(num_steps=110, warmup_steps=10, learning_rate=1e-3)
    assert learning_rate_at(0, config) == 1e-7
    assert learning_rate_at(5, config) == pytest.approx((1e-7 + 1e-3) / 2)
    assert learning_rate_at(10, config) == pytest.approx(1e-3)
    assert learning_rate_at(35, config) == pytest.approx(1e-4 + 9e-4 * (1 + 0.5**0.5) / 2)
    assert learning_rate_at(60, config) == pytest.approx(5.5e-4)
    assert learning_rate_at(110, config) == pytest.approx(1e-4)
    assert learning_rate_at(1000, config) == pytest.approx(1e-4)


def test_rises_then_falls():
    config = settings(num_steps=50, warmup_steps=7)
    rates = [learning_rate_at(step, config) for step in range(51)]
    assert rates[:8] == sorted(rates[:8])
    assert rates[7:] == sorted(rates[7:], reverse=True)


def test_no_warm_up_starts_at_the_top():
    config = settings(num_steps=4, warmup_steps=0, learning_rate=1.0, min_learning_rate_ratio=0.0)
    assert learning_rate_at(0, config) == 1.0
    assert learning_rate_at(4, config) == pytest.approx(0.0)


def test_warm_up_to_the_end():
    config = settings(num_steps=4, warmup_steps=4, learning_rate=1.0)
    assert learning_rate_at(3, config) == pytest.approx(0.75)
