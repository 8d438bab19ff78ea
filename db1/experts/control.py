"""Tools that the control experts share: linear-quadratic regulators and value tables on a grid."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Dynamics = Callable[
    [np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
]
"""(position, velocity, action) -> (next position, next velocity, reward, ended), all float64."""


def lqr_gain(a: np.ndarray, b: np.ndarray, q: np.ndarray, r: np.ndarray) -> np.ndarray:
    """Returns the gain K of the best linear controller u = -K x of x' = A x + B u.

    Args:
        a: float64 (n, n), discrete-time dynamics.
        b: float64 (n, m).
        q: float64 (n, n), cost of the state.
        r: float64 (m, m), cost of the control.

    Returns:
        float64 (m, n), the fixed point of the Riccati recursion.
    """
    p = q.copy()
    for _ in range(10_000):
        gain = np.linalg.solve(r + b.T @ p @ b, b.T @ p @ a)
        updated = q + a.T @ p @ (a - b @ gain)
        if np.abs(updated - p).max() < 1e-9 * max(1.0, np.abs(p).max()):
            break
        p = updated
    return gain


class ValueGrid:
    """The best actions of a problem with one position and one velocity, by value iteration.

    The value is tabulated on a grid with bilinear interpolation between its points.

    Args:
        dynamics: The problem, vectorised over states.
        positions: Grid of positions, ascending and evenly spaced.
        velocities: Grid of velocities, ascending and evenly spaced.
        actions: Actions tried while the table is computed.
        discount: Weight of the value one step later.
        periodic: True: positions are angles, the first grid point follows the last.
        num_sweeps: Number of value iterations.
    """

    def __init__(
        self,
        dynamics: Dynamics,
        *,
        positions: np.ndarray,
        velocities: np.ndarray,
        actions: np.ndarray,
        discount: float,
        periodic: bool = False,
        num_sweeps: int = 300,
    ) -> None:
        self._dynamics = dynamics
        self._positions = positions
        self._velocities = velocities
        self._discount = discount
        self._periodic = periodic
        self._values = np.zeros(len(positions) * len(velocities))
        position, velocity = (m.ravel() for m in np.meshgrid(positions, velocities, indexing="ij"))
        steps = [self._backup(position, velocity, np.full_like(position, u)) for u in actions]
        for _ in range(num_sweeps):
            values = (reward + self._expect(*corners) for reward, corners in steps)
            self._values = np.max(list(values), axis=0)

    def best(self, position: float, velocity: float, actions: np.ndarray) -> float:
        """Returns the best of `actions` (N,) in one state, looking one step ahead."""
        ones = np.ones(len(actions))
        reward, corners = self._backup(position * ones, velocity * ones, actions)
        return float(actions[np.argmax(reward + self._expect(*corners))])

    def _backup(
        self, position: np.ndarray, velocity: np.ndarray, action: np.ndarray
    ) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
        """Returns the rewards, and grid indices and weights of the next states, both (4, N)."""
        position, velocity, reward, ended = self._dynamics(position, velocity, action)
        row, down = _locate(position, self._positions, self._periodic)
        column, right = _locate(velocity, self._velocities, False)
        below = (row + 1) % len(self._positions)
        width = len(self._velocities)
        index = np.stack(
            [
                row * width + column,
                row * width + column + 1,
                below * width + column,
                below * width + column + 1,
            ]
        )
        weight = np.stack(
            [(1 - down) * (1 - right), (1 - down) * right, down * (1 - right), down * right]
        )
        return reward, (index, weight * self._discount * ~ended)

    def _expect(self, index: np.ndarray, weight: np.ndarray) -> np.ndarray:
        return np.einsum("cn,cn->n", self._values[index], weight)


def _locate(x: np.ndarray, grid: np.ndarray, periodic: bool) -> tuple[np.ndarray, np.ndarray]:
    """Returns the index of the grid point before each x, and how far behind it x lies (0..1)."""
    place = (x - grid[0]) / (grid[1] - grid[0])
    place = place % len(grid) if periodic else np.clip(place, 0.0, len(grid) - 1.0)
    index = np.minimum(place.astype(np.int64), len(grid) - (1 if periodic else 2))
    return index, place - index


class PendulumController:
    """Swings a torque-limited pendulum up and holds it: a value table, and an LQR near the top.

    The pendulum obeys angle'' = gravity sin(angle) - damping angle' + gain torque, angle 0 upright.

    Args:
        gravity: Acceleration by the weight at a right angle, 1/s^2.
        damping: 1/s.
        gain: Acceleration by a torque of 1 (the largest allowed), 1/s^2.
        timestep: Seconds.
        max_speed: Largest angular velocity, rad/s.
        substeps: Euler steps within one timestep.
    """

    def __init__(
        self,
        *,
        gravity: float,
        damping: float,
        gain: float,
        timestep: float,
        max_speed: float,
        substeps: int = 1,
    ) -> None:
        self._constants = (gravity, damping, gain, timestep / substeps, max_speed, substeps)
        self._table = ValueGrid(
            self._dynamics,
            positions=np.linspace(-np.pi, np.pi, 101)[:-1],
            velocities=np.linspace(-max_speed, max_speed, 101),
            actions=np.linspace(-1.0, 1.0, 5),
            discount=0.99,
            periodic=True,
            num_sweeps=250,
        )
        a = np.array([[1.0, timestep], [gravity * timestep, 1.0 - damping * timestep]])
        b = np.array([[0.0], [gain * timestep]])
        self._gain = lqr_gain(a, b, np.diag([1.0, 0.1]), np.array([[0.01]]))[0]
        self._fine = np.linspace(-1.0, 1.0, 41)

    def act(self, angle: float, velocity: float) -> float:
        """Returns the torque in [-1, 1] for an angle in [-pi, pi] (0 upright), rad and rad/s."""
        linear = -float(self._gain @ [angle, velocity])
        if abs(angle) < 0.35 and abs(linear) < 1.0:
            return linear
        return self._table.best(angle, velocity, self._fine)

    def _dynamics(
        self, angle: np.ndarray, velocity: np.ndarray, torque: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        gravity, damping, gain, step, max_speed, substeps = self._constants
        wrapped = (angle + np.pi) % (2 * np.pi) - np.pi
        reward = -(wrapped**2 + 0.1 * velocity**2 + 0.004 * torque**2)
        for _ in range(substeps):
            change = gravity * np.sin(angle) - damping * velocity + gain * torque
            velocity = np.clip(velocity + change * step, -max_speed, max_speed)
            angle = angle + velocity * step
        return angle, velocity, reward, np.zeros(len(angle), dtype=bool)
