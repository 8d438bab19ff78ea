"""Demonstrations: the episodes of a task's expert in a store, and the task's references.

    out/<suite>/<task>/          an episode store (see `db1.store.episodes`)
    out/<suite>/<task>/references.json
    out/<suite>/<task>/instruction.json   the task in words

Collecting again goes on after the last stored episode, so an interrupted run loses at most the
episode it was in.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from db1.collection.demonstrate import check_noise, demonstrate
from db1.collection.references import known_references, measure_references
from db1.errors import DataError
from db1.experts import make_expert
from db1.experts.custom import Policy, custom_expert
from db1.ranges import Range, check_number
from db1.store.episodes import EpisodeStore, EpisodeWriter, StoreHeader
from db1.store.instructions import write_instruction
from db1.suites import make_env, parse_task_id
from db1.suites.base import TaskEnv
from db1.suites.scores.stored import read_stored, write_stored
from db1.suites.seeds import COLLECTION, EVALUATION, REFERENCE, check_seed, seed_for
from db1.tokens.spec import Episode

logger = logging.getLogger(__name__)

MAX_GIVEN_UP = 0.2
"""Collecting stops when the expert gives up on more than this share of the seeds (and on 10)."""

Progress = Callable[[int], None]
"""Called with the number of episodes in the store, after each one that is added."""


@dataclass(frozen=True, kw_only=True)
class CollectSummary:
    """Outcome of `collect`.

    Args:
        task: Task id.
        path: Folder of the store.
        episodes: Episodes in the store now.
        new_episodes: Of these, how many this call added.
        steps: Steps in the store now.
        mean_return: Over the stored episodes (with noise, if there was any).
        success_rate: Over the stored episodes; None where the task has no notion of success.
        given_up: Seeds that this call left out because the expert gave up on them.
        seconds: Wall time of this call.
        references: Contents of `references.json`.
    """

    task: str
    path: Path
    episodes: int
    new_episodes: int
    steps: int
    mean_return: float
    success_rate: float | None
    given_up: tuple[int, ...]
    seconds: float
    references: dict[str, Any]

    @property
    def random_return(self) -> float:
        """Mean return of the random reference."""
        return float(self.references["random"]["mean"])

    @property
    def expert_return(self) -> float:
        """Mean return of the expert reference (without noise)."""
        return float(self.references["expert"]["mean"])


def collect(
    task_id: str,
    episodes: int,
    out: Path,
    *,
    action_noise: float = 0.0,
    max_steps: int | None = None,
    reference_episodes: int = 20,
    expert: str | Policy | None = None,
    progress: Progress | None = None,
    alive: Callable[[], None] | None = None,
) -> CollectSummary:
    """Fills the task's store up to `episodes` episodes and measures its references.

    Args:
        task_id: `suite/task`.
        episodes: Number of episodes that the store shall hold.
        out: Folder that holds the stores of all tasks.
        expert: Who shows how it is done, see `db1.experts.custom`; None: db1's expert of the task.
        action_noise: See `db1.collection.demonstrate.demonstrate`; written into the header.
        max_steps: Steps after which a demonstration is cut off (references never are).
        reference_episodes: Episodes of the random and of the expert reference, at least; measured
            here only where db1 brings no measurement of so many in this environment version.
        progress: Called after every episode.
        alive: Called also after every episode that is not stored: given up, or a reference.

    Raises:
        ConfigError: For an unknown task, one without expert, or impossible numbers.
        DataError: When the store belongs to another task, noise or environment version, the disk
            is full (what is stored stays valid), or the expert fails too often.
    """
    started = time.monotonic()
    suite, task_name = parse_task_id(task_id)
    check_number(episodes, Range(least=1, most=len(COLLECTION)), "episodes")
    if max_steps is not None:
        check_number(max_steps, Range(least=1), "max_steps")
    actor = make_expert(task_id) if expert is None else None
    path = Path(out) / suite.name / task_name
    report, sign = progress or (lambda done: None), alive or (lambda: None)
    env = make_env(task_id)
    try:
        check_noise(action_noise, env.step_spec)
        actor = actor or custom_expert(expert, env)
        name = suite.expert_name(task_name) if expert is None else actor.name
        header = _header(env, name, action_noise, max_steps)
        forbidden = range(REFERENCE.start, EVALUATION.stop)
        with EpisodeWriter(path, header, forbidden_seeds=forbidden) as writer:
            before = writer.num_episodes
            demonstrated = partial(
                demonstrate, env, actor, action_noise=action_noise, max_steps=max_steps
            )
            given_up = _fill(writer, episodes, demonstrated, report, sign)
    finally:
        env.close()
    write_instruction(path, suite.instruction(task_name))
    references = _references(task_id, path, reference_episodes, sign, expert, name)
    return summary_of(path, before, given_up, time.monotonic() - started, references)


def _header(
    env: TaskEnv, expert: str | None, action_noise: float, max_steps: int | None
) -> StoreHeader:
    """Returns the header of a store of the environment's episodes."""
    suite, task_name = parse_task_id(env.task_id)
    return StoreHeader(
        task=env.task_id,
        spec=env.step_spec,
        environment=suite.environment_version(task_name),
        expert=expert,
        action_noise=action_noise,
        max_steps=max_steps,
    )


def _fill(
    writer: EpisodeWriter,
    episodes: int,
    demonstrated: Callable[[int], Episode],
    report: Progress,
    alive: Callable[[], None],
) -> list[int]:
    """Appends episodes until there are `episodes`; returns the seeds the expert gave up on."""
    task_id, before = writer.header.task, writer.num_episodes
    given_up: list[int] = []
    seeds = seeds_after(writer.path, before)
    report(before)
    while writer.num_episodes < episodes:
        seed = next(seeds)
        try:
            episode = demonstrated(seed)
        except DataError as error:
            logger.warning("%s seed %d left out: %s", task_id, seed, error)
            given_up.append(seed)
            alive()
            _check_given_up(task_id, given_up, writer.num_episodes - before)
            continue
        writer.append(episode)
        report(writer.num_episodes)
    return given_up


def seeds_after(path: Path, num_episodes: int) -> Iterator[int]:
    """Yields the collection seeds after the store's last episode."""
    first = 0
    if num_episodes:
        last = int(EpisodeStore(path).seeds[-1])
        check_seed("collection", last)
        first = last - COLLECTION.start + 1
    return (seed_for("collection", index) for index in itertools.count(first))


def _check_given_up(task_id: str, given_up: list[int], num_good: int) -> None:
    if len(given_up) > 10 and len(given_up) > MAX_GIVEN_UP * (len(given_up) + num_good):
        raise DataError(
            f"{task_id}: the expert gave up on {len(given_up)} of "
            f"{len(given_up) + num_good} seeds (first: {given_up[:3]}); lower action_noise, or "
            f"leave this task out"
        )


def _references(
    task_id: str,
    path: Path,
    episodes: int,
    alive: Callable[[], None],
    expert: str | Policy | None,
    name: str,
) -> dict[str, Any]:
    """Returns the references that are stored, or come with db1, where they fit; else measures them.

    They fit where they are of this environment version and of as many episodes or more.
    """
    suite, task_name = parse_task_id(task_id)
    environment = suite.environment_version(task_name)
    last_seed = seed_for("reference", episodes - 1)
    stored = read_stored(path)
    if stored is not None:
        measured = stored.content["expert"]
        if (
            stored.content.get("environment") == environment
            and stored.last_seed >= last_seed
            and (expert is None or measured.get("policy") == name)
        ):
            return dict(stored.content)
    references = known_references(task_id, environment, last_seed) if expert is None else None
    if references is None:
        references = measure_references(task_id, episodes, lambda done: alive(), expert)
    write_stored(path, references)
    return references


def summary_of(
    path: Path,
    before: int,
    given_up: list[int],
    seconds: float,
    references: dict[str, Any],
) -> CollectSummary:
    """Outcome with the figures of the whole store; the return of an empty store is nan."""
    store = EpisodeStore(path)
    known = store.successes[~np.isnan(store.successes)]
    return CollectSummary(
        task=store.header.task,
        path=path,
        episodes=store.num_episodes,
        new_episodes=store.num_episodes - before,
        steps=store.num_steps,
        mean_return=float(store.returns.mean()) if store.num_episodes else float("nan"),
        success_rate=float(known.mean()) if known.size else None,
        given_up=tuple(given_up),
        seconds=seconds,
        references=references,
    )
