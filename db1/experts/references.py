"""Returns of the random policy and of the expert: what scores are normalised by.

`references.json` beside the demonstrations of a task:

    {"task": id, "environment": {...},
     "random": {"mean": m, "std": s, "episodes": n, "seeds": [first, last],
                "given_up": [seeds left out, where the expert had no plan], "policy": "..."},
     "expert": the same}

Both are measured without noise on reference seeds, which neither learning nor evaluation uses.
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np

from db1.errors import DataError
from db1.experts import make_expert
from db1.experts.base import Expert
from db1.experts.demonstrate import UniformExpert, demonstrate
from db1.suites import make_env, parse_task_id
from db1.suites.base import TaskEnv
from db1.suites.seeds import seed_for

logger = logging.getLogger(__name__)

FILE = "references.json"
RANDOM_POLICY = "uniform over the action space"


def measure_references(task_id: str, episodes: int) -> dict[str, Any]:
    """Measures both references of a task.

    Args:
        task_id: `suite/task`.
        episodes: Number of episodes of each.

    Returns:
        The contents of `references.json`.
    """
    suite, task_name = parse_task_id(task_id)
    if episodes < 1:
        raise DataError(f"{task_id}: {episodes} reference episodes, expected at least 1")
    env = make_env(task_id)
    try:
        return {
            "task": task_id,
            "environment": suite.environment_version(task_name),
            "random": {**_measure(env, UniformExpert(), episodes), "policy": RANDOM_POLICY},
            "expert": {
                **_measure(env, make_expert(task_id), episodes),
                "policy": suite.expert_name(task_name),
            },
        }
    finally:
        env.close()


def write_references(folder: Path, references: dict[str, Any]) -> None:
    """Writes `references.json`, replacing an older one only when the new one is complete."""
    path = folder / FILE
    partial = path.with_suffix(".partial")
    try:
        partial.write_text(json.dumps(references, indent=2) + "\n", encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise DataError(
            f"{path}: cannot write ({error}); the episodes beside it are complete, "
            f"free space and run the same command again"
        ) from error


def read_references(folder: Path) -> dict[str, Any] | None:
    """Returns the contents of `references.json`; None when there is no such file."""
    path = folder / FILE
    if not path.exists():
        return None
    try:
        references = json.loads(path.read_text(encoding="utf-8"))
        for policy in ("random", "expert"):
            float(references[policy]["mean"]), int(references[policy]["seeds"][1])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: no valid references ({error!r}); delete it and collect again"
        ) from error
    return references


def _measure(env: TaskEnv, expert: Expert, episodes: int) -> dict[str, Any]:
    seeds = [seed_for("reference", index) for index in range(episodes)]
    returns, given_up, why = [], [], ""
    for seed in seeds:
        try:
            returns.append(demonstrate(env, expert, seed).total_reward)
        except DataError as error:
            logger.warning("%s seed %d left out: %s", env.task_id, seed, error)
            given_up.append(seed)
            why = str(error)
    if not returns:
        raise DataError(f"{env.task_id}: none of {episodes} reference episodes was played: {why}")
    return {
        "mean": float(np.mean(returns)),
        "std": float(np.std(returns)),
        "episodes": len(returns),
        "seeds": [seeds[0], seeds[-1]],
        "given_up": given_up,
    }
