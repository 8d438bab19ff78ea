"""Planning by simulation: objectives, rollouts, optimiser and the table of settings."""

from __future__ import annotations

from db1.experts.planning import (  # noqa: F401  (each registers its objectives)
    control_suite_bodies,
    control_suite_machines,
    gymnasium_objectives,
    modular_objectives,
)
from db1.experts.planning.objective import OBJECTIVES, Objective
from db1.experts.planning.optimizer import Optimizer, PlannerSettings
from db1.experts.planning.rollouts import Simulator, Trajectories
from db1.experts.planning.settings import settings_of

__all__ = [
    "OBJECTIVES",
    "Objective",
    "Optimizer",
    "PlannerSettings",
    "Simulator",
    "Trajectories",
    "has_objective",
    "make_objective",
    "settings_of",
]

PIXELS = "-pixels"


def make_objective(task_id: str) -> Objective:
    """Builds the objective of a task; ConfigError where the planner has none."""
    return OBJECTIVES[_key(task_id)](task_id.removesuffix(PIXELS).partition("/")[2])


def has_objective(task_id: str) -> bool:
    """Tells whether the planner has an objective for a task."""
    return _key(task_id) in OBJECTIVES


def _key(task_id: str) -> str:
    suite, _, name = task_id.removesuffix(PIXELS).partition("/")
    return f"{suite}/{name.partition('_')[0]}" if suite == "modular_rl" else f"{suite}/{name}"
