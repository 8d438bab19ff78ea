"""Gymnasium-Robotics 1.4: arms, hands and mazes with goals.

    observation  the fields of the environment: `observation`, and for tasks with goals also
                 `achieved_goal` and `desired_goal`; the Adroit tasks have `state`
    action       numbers in [-1, 1], rescaled to the environment's bounds
    reward       sparse: -1 (mazes: 0) until the goal is reached; `Dense`: minus the distance
    steps        50 (Fetch) to 1,000 (AntMaze); an episode goes on after success

Source: Plappert et al. 2018, "Multi-Goal Reinforcement Learning"; Rajeswaran et al. 2018 (Adroit);
Fu et al. 2020 (mazes).
"""

from __future__ import annotations

import contextlib
import io
from types import MappingProxyType
from typing import Any

import numpy as np

from db1.suites.base import SUITES, Observation, StepResult, Suite, TaskEnv, rescaled
from db1.suites.mujoco_frames import MujocoCamera, gymnasium_camera, simulation
from db1.tokens.spec import FieldSpec, StepSpec

_FETCH = ("Slide", "PickAndPlace", "Reach", "Push")
_MANIPULATED = (
    "BlockRotateZ",
    "BlockRotateParallel",
    "BlockRotateXYZ",
    "Block",
    "EggRotate",
    "Egg",
    "PenRotate",
    "Pen",
)
_UNTOUCHED = ("BlockFull", "EggFull", "PenFull")
_TOUCH = ("", "_BooleanTouchSensors", "_ContinuousTouchSensors")
_MAZES = (
    "UMaze Open Open_Diverse_G Open_Diverse_GR Medium Medium_Diverse_G Medium_Diverse_GR Large "
    "Large_Diverse_G Large_Diverse_GR"
)
_ADROIT = ("Door", "Hammer", "Pen", "Relocate")
_MAZE_STEPS = {
    # first part of the maze's name: steps of the ant, steps of the point
    "UMaze": (700, 300),
    "Open": (700, 300),
    "Medium": (1000, 600),
    "Large": (1000, 800),
}
_HAND_STEPS, _FETCH_STEPS, _ADROIT_STEPS, _HAND_REACH_STEPS = 100, 50, 200, 50


def _tasks() -> dict[str, int]:
    """Steps of an episode by task."""
    tasks = {}
    for reward in ("", "Dense"):
        for name in _FETCH:
            tasks[f"Fetch{name}{reward}-v4"] = _FETCH_STEPS
        tasks[f"HandReach{reward}-v3"] = _HAND_REACH_STEPS
        for thing in _MANIPULATED:
            for touch in _TOUCH:
                tasks[f"HandManipulate{thing}{touch}{reward}-v1"] = _HAND_STEPS
        for thing in _UNTOUCHED:
            tasks[f"HandManipulate{thing}{reward}-v1"] = _HAND_STEPS
        for maze in _MAZES.split():
            ant, point = _MAZE_STEPS[maze.split("_")[0]]
            tasks[f"AntMaze_{maze}{reward}-v5"] = ant
            tasks[f"PointMaze_{maze}{reward}-v3"] = point
    for name in _ADROIT:
        for reward in ("", "Sparse"):
            tasks[f"AdroitHand{name}{reward}-v1"] = _ADROIT_STEPS
    return tasks


TASKS = _tasks()
_EXPERTS = {
    # start of the tasks' names: expert
    "FetchReach": "robotics_fetch",
    "FetchPickAndPlace": "robotics_fetch",
    "FetchPush": "robotics_fetch",
    "PointMaze": "robotics_point_maze",
}


class RoboticsEnv(TaskEnv):
    """One task of Gymnasium-Robotics.

    Args:
        task_id: `robotics/<gymnasium id>`.
        simulator: The environment, without its time limit.
        max_steps: Steps until the episode is cut.
    """

    def __init__(self, task_id: str, simulator: Any, max_steps: int) -> None:
        space = simulator.observation_space
        spaces = getattr(space, "spaces", {"state": space})
        spec = StepSpec(
            observation={
                key: FieldSpec(kind="continuous", shape=box.shape) for key, box in spaces.items()
            },
            action=FieldSpec(kind="continuous", shape=simulator.action_space.shape),
        )
        super().__init__(task_id=task_id, step_spec=spec, max_steps=max_steps, simulator=simulator)
        self._camera: MujocoCamera | None = None

    def _reset(self, seed: int) -> tuple[Observation, dict[str, Any]]:
        raw, _ = self.simulator.reset(seed=seed)
        return _observation(raw), {"success": False}

    def _step(self, action: np.ndarray) -> StepResult:
        bounds = self.simulator.action_space
        raw, reward, terminated, truncated, info = self.simulator.step(
            rescaled(action, bounds.low, bounds.high).astype(np.float32)
        )
        success = bool(info.get("is_success", info.get("success", False)))
        return _observation(raw), reward, terminated, truncated, {"success": success}

    def render_frame(self) -> np.ndarray:  # uint8 (H, W, 3)
        if self._camera is None:
            self._camera = gymnasium_camera(self.simulator)
        return self._camera.frame(simulation(self.simulator).data)

    def close(self) -> None:
        if self._camera is not None:
            self._camera.close()
        self.simulator.close()


class Robotics(Suite):
    """Fetch arms, Shadow and Adroit hands, mazes for an ant and a point."""

    name = "robotics"
    extra = "robotics"
    packages = MappingProxyType(
        {"gymnasium_robotics": "gymnasium-robotics", "pettingzoo": "pettingzoo", "mujoco": "mujoco"}
    )

    def task_names(self) -> list[str]:
        return list(TASKS)

    def horizon(self, task_name: str) -> int:
        return TASKS[task_name]

    def expert_name(self, task_name: str) -> str | None:
        return next((name for start, name in _EXPERTS.items() if task_name.startswith(start)), None)

    def _make_env(self, task_name: str) -> RoboticsEnv:
        import gymnasium

        with contextlib.redirect_stderr(
            io.StringIO()
        ):  # its notice at every start: docs/suites/robotics.md
            import gymnasium_robotics

        gymnasium.register_envs(gymnasium_robotics)
        simulator = gymnasium.make(task_name, disable_env_checker=True).unwrapped
        return RoboticsEnv(f"{self.name}/{task_name}", simulator, TASKS[task_name])


def _observation(raw: Any) -> Observation:
    return dict(raw) if isinstance(raw, dict) else {"state": raw}


SUITES.register("robotics")(Robotics())
