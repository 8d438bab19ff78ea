"""Returns of the random policy and of the expert: what scores are normalised by.

`references.json` beside the demonstrations of a task:

    {"task": id, "environment": {...},
     "random": {"mean": m, "std": s, "episodes": n, "seeds": [first, last],
                "given_up": [seeds left out, where the expert had no plan], "policy": "...",
                and more, see `db1.collection.measurement`},
     "expert": the same}

Both are measured without noise on reference seeds, which neither learning nor evaluation uses.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from db1.collection.measurement import Progress, measure
from db1.errors import DataError
from db1.experts import make_expert
from db1.experts.custom import Policy, custom_expert
from db1.experts.uniform import UniformExpert
from db1.suites import make_env, parse_task_id
from db1.suites.scores.measured import measured_of

RANDOM_POLICY = "uniform over the action space"


def measure_references(
    task_id: str,
    episodes: int,
    progress: Progress | None = None,
    expert: str | Policy | None = None,
) -> dict[str, Any]:
    """Measures both references of a task.

    Args:
        task_id: `suite/task`.
        episodes: Number of episodes of each.
        progress: Called after every episode, with the episodes of both.
        expert: Of one's own, see `db1.experts.custom`; None: db1's expert of the task.

    Returns:
        The contents of `references.json`.
    """
    suite, task_name = parse_task_id(task_id)
    if episodes < 1:
        raise DataError(f"{task_id}: {episodes} reference episodes, expected at least 1")
    report = progress or (lambda done: None)
    env = make_env(task_id)
    try:
        random = measure(env, UniformExpert(), RANDOM_POLICY, episodes, progress=report)
        actor = make_expert(task_id) if expert is None else custom_expert(expert, env)
        expert_name = suite.expert_name(task_name) if expert is None else actor.name
        best = measure(
            env,
            actor,
            str(expert_name),
            episodes,
            progress=lambda done: report(episodes + done),
        )
    finally:
        env.close()
    return {
        "task": task_id,
        "environment": suite.environment_version(task_name),
        "random": lasting(random),
        "expert": lasting(best),
    }


def known_references(
    task_id: str, environment: Mapping[str, str], last_seed: int
) -> dict[str, Any] | None:
    """The measurements that come with db1, as the contents of `references.json`.

    Args:
        task_id: `suite/task`.
        environment: `Suite.environment_version` of the task; another version's are not taken.
        last_seed: The last reference seed that both policies have to have played.

    Returns:
        None where there are none of this version, or of fewer episodes.
    """
    known = measured_of(task_id, environment)
    if known is None or known.random is None or known.expert is None:
        return None
    if min(known.random["seeds"][1], known.expert["seeds"][1]) < last_seed:
        return None
    return {
        "task": task_id,
        "environment": dict(environment),
        "random": lasting(known.random),
        "expert": lasting(known.expert),
    }


def lasting(measurement: Mapping[str, Any]) -> dict[str, Any]:
    """A measurement without what differs when it is made again."""
    return {key: value for key, value in measurement.items() if key not in ("seconds", "date")}
