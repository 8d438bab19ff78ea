"""Controllers of some Control Suite tasks; from pixels they look at the simulator's state."""

from __future__ import annotations

import numpy as np

from db1.experts.base import EXPERTS
from db1.experts.control import PendulumController, lqr_gain
from db1.suites.base import Observation, TaskEnv


def _state(env: TaskEnv, observation: Observation) -> dict[str, np.ndarray]:
    """Returns the joint-state observation; on a pixel task out of the simulator."""
    if "pixels" not in observation:
        return {key: value.astype(np.float64) for key, value in observation.items()}
    simulator = env.unwrapped.simulator
    return dict(simulator.task.get_observation(simulator.physics))


def _action(values: np.ndarray) -> np.ndarray:
    return np.clip(values, -1.0, 1.0).astype(np.float32)


class CartPoleExpert:
    """Swings the pole up by its energy and balances it with a linear-quadratic regulator.

    Args:
        task_name: A cartpole task with one pole.
    """

    PIVOT_INERTIA = 0.1 * 0.5**2 + 0.00942
    WEIGHT = 0.1 * 9.81 * 0.5
    PUMP, CENTRE, BRAKE = 4.6, 1.7, 1.0
    CATCH_ANGLE, CATCH_FORCE = 0.45, 1.2

    def __init__(self, task_name: str) -> None:
        self._gain = np.zeros(4)

    def reset(self, env: TaskEnv, seed: int) -> None:
        """Linearises the simulator around the upright pole."""
        if not self._gain.any():
            a, b = _linearised(env)
            cost = np.diag([1.0, 10.0, 0.1, 0.5])
            self._gain = lqr_gain(a, b, cost, np.array([[5.0]]))[0]

    def act(self, env: TaskEnv, observation: Observation) -> np.ndarray:
        """Returns float32 (1,)."""
        state = _state(env, observation)
        position, cos, sin = state["position"]
        speed, spin = state["velocity"]
        angle = np.arctan2(sin, cos)
        balance = -self._gain @ [position, angle, speed, spin]
        if abs(angle) < self.CATCH_ANGLE and abs(balance) < self.CATCH_FORCE:
            return _action(np.array([balance]))
        energy = 0.5 * self.PIVOT_INERTIA * spin**2 + self.WEIGHT * (cos - 1.0)
        pump = self.PUMP * energy * (1.0 if spin * cos >= 0 else -1.0)
        centre = -self.CENTRE * position - self.BRAKE * speed
        return _action(np.array([pump + centre]))


def _linearised(env: TaskEnv) -> tuple[np.ndarray, np.ndarray]:
    """Returns A (2 nv, 2 nv) and B (2 nv, nu) of one control step at the zero position."""
    import mujoco

    model = env.unwrapped.simulator.physics.model.ptr
    data = mujoco.MjData(model)
    small = 1e-5

    def after(disturbance: np.ndarray) -> np.ndarray:
        """Returns the state after one step from a disturbed state and control."""
        mujoco.mj_resetData(model, data)
        data.qpos[:], data.qvel[:], data.ctrl[:] = np.split(disturbance, [model.nv, 2 * model.nv])
        mujoco.mj_step(model, data)
        return np.concatenate([data.qpos, data.qvel])

    columns = [
        (after(small * axis) - after(-small * axis)) / (2 * small)
        for axis in np.eye(2 * model.nv + model.nu)
    ]
    both = np.stack(columns, axis=1)
    return both[:, : 2 * model.nv], both[:, 2 * model.nv :]


class PendulumExpert:
    """Swings up with its weak motor and balances."""

    def __init__(self, task_name: str) -> None:
        inertia = 1.0 * 0.5**2 + 0.4 * 0.05**2
        self._controller = PendulumController(
            gravity=9.81 * 0.5 / inertia,
            damping=0.1 / inertia,
            gain=1.0 / inertia,
            timestep=0.02,
            max_speed=12.0,
        )

    def reset(self, env: TaskEnv, seed: int) -> None:
        """Does nothing: the controller has no memory."""

    def act(self, env: TaskEnv, observation: Observation) -> np.ndarray:
        """Returns float32 (1,)."""
        state = _state(env, observation)
        cos, sin = state["orientation"]
        torque = self._controller.act(float(np.arctan2(sin, cos)), float(state["velocity"][0]))
        return _action(np.array([torque]))


class PointMassExpert:
    """Drives to the middle, braking in time (proportional-derivative)."""

    POSITION_GAIN = 40.0
    VELOCITY_GAIN = 6.0

    def __init__(self, task_name: str) -> None:
        pass

    def reset(self, env: TaskEnv, seed: int) -> None:
        """Does nothing: the controller has no memory."""

    def act(self, env: TaskEnv, observation: Observation) -> np.ndarray:
        """Returns float32 (2,)."""
        state = _state(env, observation)
        return _action(
            -self.POSITION_GAIN * state["position"] - self.VELOCITY_GAIN * state["velocity"]
        )


class ReacherExpert:
    """Turns both joints towards the angles that put the finger on the target."""

    LINK = 0.12
    WRIST_LIMIT = np.deg2rad(160.0)
    ANGLE_GAIN = 4.0
    VELOCITY_GAIN = 0.4

    def __init__(self, task_name: str) -> None:
        pass

    def reset(self, env: TaskEnv, seed: int) -> None:
        """Does nothing: the controller has no memory."""

    def act(self, env: TaskEnv, observation: Observation) -> np.ndarray:
        """Returns float32 (2,)."""
        state = _state(env, observation)
        shoulder, wrist = state["position"]
        finger = self.LINK * np.array(
            [
                np.cos(shoulder) + np.cos(shoulder + wrist),
                np.sin(shoulder) + np.sin(shoulder + wrist),
            ]
        )
        turns = self._turns(shoulder, wrist, finger + state["to_target"])
        return _action(self.ANGLE_GAIN * turns - self.VELOCITY_GAIN * state["velocity"])

    def _turns(self, shoulder: float, wrist: float, target: np.ndarray) -> np.ndarray:
        """Returns by how much to turn each joint: the nearer of the arm's two poses, (2,)."""
        reach = np.clip(np.linalg.norm(target) / (2 * self.LINK), 0.0, 1.0)
        bend = min(2 * np.arccos(reach), self.WRIST_LIMIT - 0.05)
        direction = np.arctan2(target[1], target[0])
        poses = [(direction - side * bend / 2, side * bend) for side in (1.0, -1.0)]
        turns = [
            np.array([(pose[0] - shoulder + np.pi) % (2 * np.pi) - np.pi, pose[1] - wrist])
            for pose in poses
        ]
        return min(turns, key=lambda turn: float(np.abs(turn).max()))


EXPERTS.register("dmc_cartpole")(CartPoleExpert)
EXPERTS.register("dmc_pendulum")(PendulumExpert)
EXPERTS.register("dmc_point_mass")(PointMassExpert)
EXPERTS.register("dmc_reacher")(ReacherExpert)
