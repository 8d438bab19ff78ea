"""Regulators and value tables on problems with known answers."""

import numpy as np
import pytest

from db1.experts.control import PendulumController, ValueGrid, lqr_gain


def test_lqr_gain_of_a_scalar_problem():
    """x' = x + u, cost x^2 + u^2: p = 1 + p - p^2 / (1 + p), so p is the golden ratio."""
    one = np.ones((1, 1))
    golden = (1 + 5**0.5) / 2
    assert lqr_gain(one, one, one, one)[0, 0] == pytest.approx(golden / (1 + golden))


def test_lqr_gain_stabilises_and_no_nearby_gain_costs_less():
    a = np.array([[1.0, 0.1], [0.5, 1.0]])
    b = np.array([[0.0], [0.1]])
    q, r = np.diag([1.0, 0.1]), np.array([[0.01]])
    gain = lqr_gain(a, b, q, r)

    def cost(k):
        x, total = np.array([1.0, 0.5]), 0.0
        for _ in range(2000):
            u = -k @ x
            total += x @ q @ x + u @ r @ u
            x = a @ x + b @ u
        return total

    assert np.abs(np.linalg.eigvals(a - b @ gain)).max() < 1
    for change in np.eye(2) * 0.2:
        assert cost(gain) < cost(gain + change) and cost(gain) < cost(gain - change)


def line(position, velocity, action):
    """Walk on [0, 1] in steps of 0.1, each costs 1; the right end ends."""
    position = np.clip(position + 0.1 * action, 0.0, 1.0)
    return position, velocity, -np.ones_like(position), position >= 1.0 - 1e-9


def test_value_grid_counts_the_steps_to_the_goal():
    grid = ValueGrid(
        line,
        positions=np.linspace(0, 1, 11),
        velocities=np.linspace(-1, 1, 3),
        actions=np.array([-1.0, 0.0, 1.0]),
        discount=1.0,
        num_sweeps=30,
    )
    steps = -grid._values.reshape(11, 3)[:, 1]
    assert steps[:10] == pytest.approx([10, 9, 8, 7, 6, 5, 4, 3, 2, 1])
    assert grid.best(0.35, 0.0, np.array([-1.0, 0.0, 1.0])) == 1.0


def test_periodic_grid_goes_the_short_way_round():
    def circle(position, velocity, action):
        wrapped = (position + np.pi) % (2 * np.pi) - np.pi
        return position + 0.2 * action, velocity, -(wrapped**2), np.zeros(len(position), bool)

    grid = ValueGrid(
        circle,
        positions=np.linspace(-np.pi, np.pi, 41)[:-1],
        velocities=np.linspace(-1, 1, 3),
        actions=np.array([-1.0, 0.0, 1.0]),
        discount=0.95,
        periodic=True,
        num_sweeps=200,
    )
    tried = np.array([-1.0, 0.0, 1.0])
    assert grid.best(2.0, 0.0, tried) == -1.0
    assert grid.best(-2.0, 0.0, tried) == 1.0
    assert grid.best(5.0, 0.0, tried) == 1.0
    assert grid.best(0.0, 0.0, tried) == 0.0


def test_pendulum_controller_swings_up_its_own_model():
    controller = PendulumController(
        gravity=15.0, damping=0.1, gain=6.0, timestep=0.05, max_speed=8.0
    )
    angle, velocity = np.pi - 0.01, 0.0
    for _ in range(200):
        wrapped = (angle + np.pi) % (2 * np.pi) - np.pi
        torque = np.clip(controller.act(wrapped, velocity), -1, 1)
        velocity += 0.05 * (15.0 * np.sin(angle) - 0.1 * velocity + 6.0 * torque)
        angle += 0.05 * velocity
    assert np.cos(angle) > 0.999 and abs(velocity) < 0.05
