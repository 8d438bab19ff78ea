"""Rollouts: many action sequences tried from the simulator's present state."""

from __future__ import annotations

import contextlib
import copy
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from db1.errors import ConfigError
from db1.experts.planning.kinematics import Kinematics
from db1.suites.base import TaskEnv, rescaled


@dataclass(frozen=True, kw_only=True)
class Trajectories:
    """S sequences of T control steps; index 0 of a state's axis is the common start.

    Args:
        model: The MuJoCo model.
        qpos: float64 (S, T + 1, nq), joint positions between the control steps.
        qvel: float64 (S, T + 1, nv), joint velocities.
        sensors: float64 (S, T + 1, nsensordata), of the states in `qpos` and `qvel`.
        ctrl: float64 (S, T, nu), what the actuators get.
        step_seconds: Simulated seconds of a control step.
    """

    model: Any
    qpos: np.ndarray
    qvel: np.ndarray
    sensors: np.ndarray
    ctrl: np.ndarray
    step_seconds: float

    @cached_property
    def places(self) -> Kinematics:
        """Places of bodies after each control step: arrays (S, T, ...)."""
        return Kinematics(self.model, self.qpos[:, 1:])

    def sensor(self, name: str) -> np.ndarray:
        """Returns what a sensor tells after each control step, (S, T, its numbers)."""
        sensor = self.model.sensor(name)
        first = int(sensor.adr[0])
        return self.sensors[:, 1:, first : first + int(sensor.dim[0])]

    @property
    def forward_speed(self) -> np.ndarray:
        """Change of the first joint position a second, (S, T)."""
        return np.diff(self.qpos[:, :, 0], axis=1) / self.step_seconds


class Simulator:
    """Tries action sequences from where an environment is now, without touching it.

    Args:
        env: A task of dmc, mujoco or modular_rl.
        coarse: Physics steps of the environment that are simulated as one.
        euler: Euler steps take the place of the environment's Runge-Kutta steps.
        threads: Threads that share the sequences; results do not depend on it.

    Raises:
        ConfigError: When `coarse` does not divide the physics steps of a control step.
    """

    def __init__(
        self, env: TaskEnv, *, coarse: int = 1, euler: bool = False, threads: int = 1
    ) -> None:
        import mujoco
        from mujoco.rollout import Rollout

        model, self._data, substeps, (self._low, self._high) = _parts(env)
        if substeps % coarse:
            raise ConfigError(f"{env.task_id}: coarse {coarse} does not divide {substeps} steps")
        self.model, self.substeps = copy.copy(model), substeps // coarse
        self.model.opt.timestep *= coarse
        if euler:
            self.model.opt.integrator = mujoco.mjtIntegrator.mjINT_EULER
        self._workspaces = [mujoco.MjData(self.model) for _ in range(threads)]
        self._rollout = Rollout(nthread=threads if threads > 1 else 0)
        self._state_kind = mujoco.mjtState.mjSTATE_FULLPHYSICS

    @property
    def action_dim(self) -> int:
        """Numbers of an action."""
        return self.model.nu

    def try_out(self, actions: np.ndarray) -> Trajectories:
        """Simulates action sequences.

        Args:
            actions: (S, T, nu), from -1 to 1.
        """
        import mujoco

        model, samples = self.model, len(actions)
        start = np.empty(mujoco.mj_stateSize(model, self._state_kind))
        mujoco.mj_getState(model, self._data, start, self._state_kind)
        ctrl = rescaled(actions, self._low, self._high)
        # One physics step more: sensors come out for the state before each physics step.
        repeated = np.repeat(ctrl, self.substeps, axis=1)
        control = np.concatenate([repeated, repeated[:, -1:]], axis=1)
        with _no_warnings():
            states, sensors = self._rollout.rollout(
                model,
                self._workspaces,
                np.tile(start, (samples, 1)),
                control,
                initial_warmstart=np.tile(self._data.qacc_warmstart, (samples, 1)),
            )
        states = np.concatenate([np.broadcast_to(start, (samples, 1, len(start))), states], axis=1)
        between = states[:, : -1 : self.substeps]
        velocities = slice(1 + model.nq, 1 + model.nq + model.nv)
        return Trajectories(
            model=model,
            qpos=between[:, :, 1 : 1 + model.nq],
            qvel=between[:, :, velocities],
            sensors=sensors[:, :: self.substeps],
            ctrl=ctrl,
            step_seconds=model.opt.timestep * self.substeps,
        )


@contextlib.contextmanager
def _no_warnings() -> Iterator[None]:
    """Without dm_control's warnings of diverging simulations: these are thought of only."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _parts(env: TaskEnv) -> tuple[Any, Any, int, tuple[np.ndarray, np.ndarray]]:
    """Returns the model, its data, physics steps a control step, and the actions' bounds."""
    env = env.unwrapped
    suite, simulator = env.task_id.partition("/")[0], env.simulator
    if suite == "dmc":
        physics, spec = simulator.physics, simulator.action_spec()
        bounded = spec.maximum < 1e9
        bounds = np.where(bounded, spec.minimum, -1.0), np.where(bounded, spec.maximum, 1.0)
        substeps = round(simulator.control_timestep() / physics.timestep())
        return physics.model.ptr, physics.data.ptr, substeps, bounds
    if suite == "mujoco":
        space = simulator.action_space
        return simulator.model, simulator.data, simulator.frame_skip, (space.low, space.high)
    if suite == "modular_rl":
        from db1.suites.modular_rl import FRAME_SKIP

        model, data = simulator
        return model, data, FRAME_SKIP, tuple(model.actuator_ctrlrange.T)
    raise ConfigError(f"{env.task_id}: the planner knows the simulators of dmc, mujoco, modular_rl")
