"""Return of a policy in a task on the reference seeds, with all that is needed to judge it."""

from __future__ import annotations

import datetime
import logging
import platform
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from db1 import __version__
from db1.errors import DataError
from db1.experts.base import Expert
from db1.rollout.episode import EpisodeResult
from db1.rollout.local import OpenEnvironments
from db1.rollout.loop import run_episodes
from db1.rollout.policies import ExpertPolicy
from db1.suites.base import TaskEnv
from db1.suites.seeds import seed_for

logger = logging.getLogger(__name__)

MIN_EPISODES_GIVEN_UP = 5
"""A measurement that is short of time ends after this many seeds without a single plan."""

Progress = Callable[[int], None]
"""Called with the number of episodes that are over (given-up ones count), from 0."""


def play(env: TaskEnv, expert: Expert, seed: int) -> EpisodeResult:
    """Runs one episode to its end and keeps no observation."""
    return run_episodes(OpenEnvironments([env]), ExpertPolicy(lambda: expert), [seed])[0]


def measure(
    env: TaskEnv,
    expert: Expert,
    policy: str,
    episodes: int,
    *,
    max_seconds: float | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Plays the first reference seeds.

    Args:
        env: The environment.
        expert: Who acts, without noise.
        policy: Name of who acts.
        episodes: Seeds to play.
        max_seconds: No episode starts after this time. The first one always does, and an episode
            that has started is played to its end: cutting long ones off would favour short ones.
        progress: Called after every episode.

    Returns:
        mean, std, min and max of the returns, episodes, seeds [first, last], given_up (seeds that
        the expert had no plan for, left out), success_rate (None where the task does not tell),
        length {mean, min, max} in steps, seconds, policy, and who measured: db1, python, date;
        `limit_seconds` where the time was over before all seeds were played.

    Raises:
        DataError: When no episode was played.
    """
    started = time.monotonic()
    report = progress or (lambda done: None)
    played: list[EpisodeResult] = []
    given_up: list[int] = []
    tried, why, out_of_time = 0, "", False
    report(0)
    while tried < episodes and not out_of_time:
        seed = seed_for("reference", tried)
        try:
            played.append(play(env, expert, seed))
        except DataError as error:
            logger.warning("%s seed %d left out: %s", env.task_id, seed, error)
            given_up.append(seed)
            why = str(error)
        tried += 1
        report(tried)
        spent = max_seconds is not None and time.monotonic() - started > max_seconds
        out_of_time = spent and (bool(played) or tried >= MIN_EPISODES_GIVEN_UP)
    if not played:
        raise DataError(f"{env.task_id}: none of {tried} reference episodes was played: {why}")
    measured = _statistics(played) | {
        "seeds": [seed_for("reference", 0), seed_for("reference", tried - 1)],
        "given_up": given_up,
        "policy": policy,
        "seconds": round(time.monotonic() - started, 3),
        "db1": __version__,
        "python": platform.python_version(),
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
    }
    return measured | ({"limit_seconds": max_seconds} if tried < episodes else {})


def _statistics(played: list[EpisodeResult]) -> dict[str, Any]:
    returns = np.array([episode.total_reward for episode in played])
    lengths = np.array([episode.length for episode in played])
    known = [episode.success for episode in played if episode.success is not None]
    return {
        "mean": float(returns.mean()),
        "std": float(returns.std()),
        "min": float(returns.min()),
        "max": float(returns.max()),
        "episodes": len(played),
        "success_rate": sum(known) / len(known) if known else None,
        "length": {
            "mean": float(lengths.mean()),
            "min": int(lengths.min()),
            "max": int(lengths.max()),
        },
    }
