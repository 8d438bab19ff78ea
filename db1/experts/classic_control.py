"""Controllers of the classic control tasks; each is a function of the current observation only."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from db1.experts.base import EXPERTS
from db1.experts.control import PendulumController, ValueGrid, lqr_gain
from db1.suites.base import Observation, TaskEnv


class CartPoleExpert:
    """Pushes towards the side that a linear-quadratic regulator asks for."""

    def __init__(self, task_name: str) -> None:
        gravity, half_length, pole, total, force, step = 9.8, 0.5, 0.1, 1.1, 10.0, 0.02
        inertia = half_length * (4.0 / 3.0 - pole / total)
        tilt = gravity / inertia
        push = -force / (total * inertia)
        a = np.eye(4) + step * np.array(
            [
                [0, 1, 0, 0],
                [0, 0, -pole * half_length / total * tilt, 0],
                [0, 0, 0, 1],
                [0, 0, tilt, 0],
            ]
        )
        b = step * np.array([[0], [(force - pole * half_length * push) / total], [0], [push]])
        self._gain = lqr_gain(a, b, np.diag([1.0, 0.1, 10.0, 0.1]), np.eye(1))[0]

    def reset(self, env: TaskEnv, seed: int) -> None:
        """Does nothing: the controller has no memory."""

    def act(self, env: TaskEnv, observation: Observation) -> int:
        """Returns 1 (push right) or 0."""
        return int(-self._gain @ observation["state"] > 0)


class MountainCarExpert:
    """Drives up by the value table of the known car; discrete and continuous force.

    Args:
        task_name: `MountainCar-v0`, or `MountainCarContinuous-v0` whose force costs 0.1 u^2 a
            step (to which 0.02 a step is added here, so that it does not dawdle).
    """

    def __init__(self, task_name: str) -> None:
        self._continuous = task_name == "MountainCarContinuous-v0"
        tried = np.linspace(-1.0, 1.0, 9 if self._continuous else 3)
        self._actions = np.linspace(-1.0, 1.0, 41) if self._continuous else tried
        self._table = ValueGrid(
            self._dynamics,
            positions=np.linspace(-1.2, 0.6, 121),
            velocities=np.linspace(-0.07, 0.07, 121),
            actions=tried,
            discount=1.0,
            num_sweeps=300,
        )

    def reset(self, env: TaskEnv, seed: int) -> None:
        """Does nothing: the controller has no memory."""

    def act(self, env: TaskEnv, observation: Observation) -> Any:
        """Returns the push: 0, 1, 2, or float32 (1,)."""
        position, velocity = observation["state"].astype(np.float64)
        push = self._table.best(position, velocity, self._actions)
        return np.array([push], dtype=np.float32) if self._continuous else int(push) + 1

    def _dynamics(
        self, position: np.ndarray, velocity: np.ndarray, push: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        power, goal = (0.0015, 0.45) if self._continuous else (0.001, 0.5)
        velocity = velocity + push * power - 0.0025 * np.cos(3 * position)
        velocity = np.clip(velocity, -0.07, 0.07)
        position = np.clip(position + velocity, -1.2, 0.6)
        velocity = np.where((position <= -1.2) & (velocity < 0), 0.0, velocity)
        cost = 0.1 * push**2 + 0.02 if self._continuous else np.ones_like(push)
        return position, velocity, -cost, position >= goal


class AcrobotExpert:
    """Tries every short plan on the known equations of motion and starts the best one.

    A plan holds each of `NUM_HOLDS` full torques for `HOLD` steps. The best plan reaches the goal
    height first; else it ends with the most energy.
    """

    NUM_HOLDS = 6
    HOLD = 4

    def __init__(self, task_name: str) -> None:
        plans = itertools.product((-1.0, 1.0), repeat=self.NUM_HOLDS)
        self._plans = np.array(list(plans))

    def reset(self, env: TaskEnv, seed: int) -> None:
        """Does nothing: every step plans again."""

    def act(self, env: TaskEnv, observation: Observation) -> int:
        """Returns 0 or 2 for torque -1 or 1."""
        cos1, sin1, cos2, sin2, speed1, speed2 = observation["state"].astype(np.float64)
        start = [np.arctan2(sin1, cos1), np.arctan2(sin2, cos2), speed1, speed2]
        state = np.tile(start, (len(self._plans), 1))
        score = np.zeros(len(self._plans))
        num_steps = self.NUM_HOLDS * self.HOLD
        for step in range(num_steps):
            state = _acrobot_step(state, self._plans[:, step // self.HOLD])
            height = -np.cos(state[:, 0]) - np.cos(state[:, 0] + state[:, 1])
            score += 1e6 * (height > 1.0) * (score < 1.0) * (num_steps - step)
        return int(self._plans[np.argmax(score + _acrobot_energy(state)), 0]) + 1


def _acrobot_step(state: np.ndarray, torque: np.ndarray) -> np.ndarray:
    """One step of 0.2 s by Runge-Kutta 4; state (N, 4), torque (N,)."""
    step = 0.2
    k1 = _acrobot_change(state, torque)
    k2 = _acrobot_change(state + step / 2 * k1, torque)
    k3 = _acrobot_change(state + step / 2 * k2, torque)
    k4 = _acrobot_change(state + step * k3, torque)
    state = state + step / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    limit = np.array([np.inf, np.inf, 4 * np.pi, 9 * np.pi])
    return np.clip(state, -limit, limit)


def _acrobot_inertia(angle2: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Entries of the mass matrix: links of length 1, mass 1, inertia 1, centres at 0.5."""
    return 3.5 + np.cos(angle2), 1.25 + 0.5 * np.cos(angle2), 1.25


def _acrobot_change(state: np.ndarray, torque: np.ndarray) -> np.ndarray:
    """Time derivative of the state (N, 4). Source: Sutton and Barto 2018, section 11."""
    angle1, angle2, speed1, speed2 = state.T
    d1, d2, d3 = _acrobot_inertia(angle2)
    weight2 = 0.5 * 9.8 * np.sin(angle1 + angle2)
    weight1 = 1.5 * 9.8 * np.sin(angle1) + weight2
    spin = 0.5 * np.sin(angle2)
    rest1 = -spin * speed2**2 - 2 * spin * speed1 * speed2 + weight1
    rest2 = spin * speed1**2 + weight2
    change2 = (torque + d2 / d1 * rest1 - rest2) / (d3 - d2**2 / d1)
    change1 = -(d2 * change2 + rest1) / d1
    return np.stack([speed1, speed2, change1, change2], axis=1)


def _acrobot_energy(state: np.ndarray) -> np.ndarray:
    """Kinetic plus potential energy (N,)."""
    angle1, angle2, speed1, speed2 = state.T
    d1, d2, d3 = _acrobot_inertia(angle2)
    kinetic = 0.5 * d1 * speed1**2 + d2 * speed1 * speed2 + 0.5 * d3 * speed2**2
    return kinetic - 9.8 * (1.5 * np.cos(angle1) + 0.5 * np.cos(angle1 + angle2))


class PendulumExpert:
    """Swings up by the shortest way and balances."""

    def __init__(self, task_name: str) -> None:
        self._controller = PendulumController(
            gravity=15.0, damping=0.0, gain=6.0, timestep=0.05, max_speed=8.0
        )

    def reset(self, env: TaskEnv, seed: int) -> None:
        """Does nothing: the controller has no memory."""

    def act(self, env: TaskEnv, observation: Observation) -> np.ndarray:
        """Returns float32 (1,): torque / 2."""
        cos, sin, velocity = observation["state"].astype(np.float64)
        torque = self._controller.act(float(np.arctan2(sin, cos)), float(velocity))
        return np.array([torque], dtype=np.float32)


EXPERTS.register("cartpole_lqr")(CartPoleExpert)
EXPERTS.register("mountain_car_value")(MountainCarExpert)
EXPERTS.register("mountain_car_continuous_value")(MountainCarExpert)
EXPERTS.register("acrobot_planner")(AcrobotExpert)
EXPERTS.register("pendulum_value")(PendulumExpert)
