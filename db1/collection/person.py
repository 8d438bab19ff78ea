"""Demonstrations of a person: who plays is asked for every action."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from db1 import __version__
from db1.collection.demonstrate import demonstrate
from db1.collection.measurement import measure
from db1.collection.references import RANDOM_POLICY, lasting
from db1.collection.task import CollectSummary, seeds_after, summary_of
from db1.errors import ConfigError
from db1.experts.uniform import UniformExpert
from db1.store.episodes import EpisodeStore, EpisodeWriter, StoreHeader
from db1.suites import make_env, parse_task_id
from db1.suites.base import Observation, TaskEnv
from db1.suites.scores.stored import write_stored
from db1.suites.seeds import EVALUATION, REFERENCE
from db1.tokens.spec import Episode

NAME = "person"

Ask = Callable[[TaskEnv, Observation], Any]
"""Shows the environment's state to somebody and returns the action they choose."""


class StopPlaying(Exception):
    """Raised by `Ask` when the person does not want to go on; the running episode is dropped."""


class Person:
    """Somebody at a keyboard as an expert.

    Args:
        ask: Returns their action.
    """

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    def reset(self, env: TaskEnv, seed: int) -> None:
        """A person needs no preparation."""

    def act(self, env: TaskEnv, observation: Observation) -> Any:
        """Asks the person."""
        return self._ask(env, observation)


def record_person(
    task_id: str,
    episodes: int,
    out: Path,
    ask: Ask,
    *,
    reference_episodes: int = 20,
    on_episode: Callable[[Episode], None] | None = None,
) -> CollectSummary:
    """Adds episodes that a person plays to the task's store.

    The random reference is measured as for every expert. The expert's is the mean of all stored
    episodes, for nobody is asked to play the reference seeds.

    Args:
        task_id: `suite/task`.
        episodes: The most episodes to add.
        out: Folder that holds the stores of all tasks.
        ask: Returns the person's action.
        reference_episodes: Of the random reference.
        on_episode: Called with every finished episode.

    Raises:
        ConfigError: For an unknown task.
        DataError: When the store belongs to another task, expert or environment version.
    """
    started = time.monotonic()
    suite, task_name = parse_task_id(task_id)
    if episodes < 1:
        raise ConfigError(f"episodes: got {episodes}, expected at least 1")
    path = Path(out) / suite.name / task_name
    version = suite.environment_version(task_name)
    env = make_env(task_id)
    try:
        header = StoreHeader(task=task_id, spec=env.step_spec, environment=version, expert=NAME)
        forbidden = range(REFERENCE.start, EVALUATION.stop)
        with EpisodeWriter(path, header, forbidden_seeds=forbidden) as writer:
            before = writer.num_episodes
            seeds = seeds_after(path, before)
            while writer.num_episodes < before + episodes:
                try:
                    episode = demonstrate(env, Person(ask), next(seeds))
                except StopPlaying:
                    break
                writer.append(episode)
                if on_episode is not None:
                    on_episode(episode)
        references: dict[str, Any] = {}
        if EpisodeStore(path).num_episodes:
            random = measure(env, UniformExpert(), RANDOM_POLICY, reference_episodes)
            references = {
                "task": task_id,
                "environment": version,
                "random": lasting(random),
                "expert": _of_store(EpisodeStore(path)),
            }
            write_stored(path, references)
    finally:
        env.close()
    return summary_of(path, before, [], time.monotonic() - started, references)


def _of_store(store: EpisodeStore) -> dict[str, Any]:
    """The reference of a person, as `measure` gives those of other experts."""
    returns, lengths = store.returns, store.lengths
    known = store.successes[~np.isnan(store.successes)]
    return {
        "mean": float(returns.mean()),
        "std": float(returns.std()),
        "min": float(returns.min()),
        "max": float(returns.max()),
        "episodes": store.num_episodes,
        "success_rate": float(known.mean()) if known.size else None,
        "length": {
            "mean": float(lengths.mean()),
            "min": int(lengths.min()),
            "max": int(lengths.max()),
        },
        "seeds": [int(store.seeds[0]), int(store.seeds[-1])],
        "given_up": [],
        "policy": NAME,
        "db1": __version__,
    }
