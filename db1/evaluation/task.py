"""One task of an evaluation: its policy, its prompts, its episodes, its entry in results.json."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from db1.errors import ConfigError, DataError
from db1.evaluation.policies import ExpertPolicy, ModelPolicy, RandomPolicy, RolloutPolicy
from db1.evaluation.references import References
from db1.evaluation.rollout import EpisodeResult, Progress, rollout
from db1.evaluation.scores import bootstrap_interval, normalise
from db1.evaluation.settings import EvaluationConfig
from db1.policy.agent import Agent
from db1.policy.load import LoadedRun
from db1.sequence.step import StepCodec
from db1.store.episodes import EpisodeStore
from db1.suites import parse_task_id
from db1.tokens.spec import Episode


def evaluate_task(
    task_id: str,
    config: EvaluationConfig,
    references: References | None,
    folder: Path,
    loaded: LoadedRun | None,
    num_environments: int,
    progress: Progress | None,
) -> dict[str, Any]:
    """Runs the episodes of one task.

    Args:
        task_id: `suite/task`.
        config: With its memory length filled in.
        references: Random and expert return; None: raw returns only.
        folder: The task's demonstration store, for prompts.
        loaded: The run with its model; None for the policies without one.
        num_environments: The most episodes at once.
        progress: Called whenever an episode ends.

    Returns:
        The task's entry of results.json.
    """
    started = time.monotonic()
    if loaded is None:
        policy: RolloutPolicy = (
            RandomPolicy(config.seed) if config.policy == "random" else ExpertPolicy(task_id)
        )
        num_environments = 1
    else:
        num_environments = min(num_environments, config.episodes)
        policy = ModelPolicy(make_agent(task_id, config, folder, loaded, num_environments))
    episodes = rollout(task_id, policy, config.seeds, progress, num_environments=num_environments)
    entry = _entry(episodes, references)
    return entry | {"seconds": round(time.monotonic() - started, 3)}


def make_agent(
    task_id: str, config: EvaluationConfig, folder: Path, loaded: LoadedRun, batch_size: int
) -> Agent:
    """The model as an agent of one task.

    Raises:
        DataError: When the task's step is not the one that the run learned.
    """
    suite, task_name = parse_task_id(task_id)
    spec = suite.step_spec(task_name)
    learned = loaded.specs.get(task_id)
    if learned is not None and learned != spec:
        raise DataError(
            f"{task_id}: the environment's step {spec.to_dict()} is not the one in the run's "
            f"specs.json {learned.to_dict()}; the suite changed since the data was collected"
        )
    if config.memory_length is None:
        raise ConfigError(f"{task_id}: the evaluation's memory_length was not filled in")
    codec = loaded.codec(spec)
    num_tokens = config.memory_length if config.prompt_tokens is None else config.prompt_tokens
    wants_prompt = config.prompt and config.memory_length > 0 and num_tokens > 0
    return Agent(
        loaded.model,
        codec,
        memory_length=config.memory_length,
        batch_size=batch_size,
        prompts=read_prompts(folder, codec, config, num_tokens, loaded.chosen.get(task_id))
        if wants_prompt
        else None,
        prompt_tokens=num_tokens,
        prompt_part=config.prompt_part,
        greedy=config.greedy,
        temperature=config.temperature,
        seed=config.seed,
    )


def read_prompts(
    folder: Path,
    codec: StepCodec,
    config: EvaluationConfig,
    num_tokens: int,
    chosen: Sequence[int] | None = None,
) -> list[Episode]:
    """The first demonstrations with at least median return, no longer than the prompt needs.

    Args:
        folder: The task's store.
        codec: Of the task.
        config: Part and number of prompts.
        num_tokens: Of a prompt.
        chosen: A few-shot run may be prompted with the episodes that it learned from only; None:
            with all.
    """
    store = EpisodeStore(folder)
    if store.num_episodes == 0:
        raise DataError(f"{folder}: no demonstration to prompt with; collect some, or --no-prompt")
    if store.spec != codec.spec:
        raise DataError(f"{folder}: demonstrations of another step; collect them again")
    known = np.arange(store.num_episodes) if chosen is None else np.asarray(chosen)
    if known.max() >= store.num_episodes:
        raise DataError(
            f"{folder}: {store.num_episodes} episodes, and the run learned from number "
            f"{known.max()}; give --data with the demonstrations that it was trained on"
        )
    returns = store.returns[known]
    good = known[returns >= np.median(returns)][: config.num_prompts]
    steps = -(-num_tokens // codec.min_step_tokens)
    prompts = []
    for episode in good:
        length = int(store.lengths[episode])
        start = 0 if config.prompt_part == "start" else max(0, length - steps)
        prompts.append(store.read(int(episode), start, min(length, start + steps)))
    return prompts


def _entry(episodes: Sequence[EpisodeResult], references: References | None) -> dict[str, Any]:
    returns = np.array([episode.total_reward for episode in episodes])
    entry = {
        "episodes": len(episodes),
        "seeds": [episode.seed for episode in episodes],
        "returns": [float(value) for value in returns],
        "lengths": [episode.length for episode in episodes],
        "successes": [episode.success for episode in episodes],
    }
    if references is None:
        keys = ("random", "expert", "reference", "normalised", "interval")
        return entry | dict.fromkeys(keys)
    scores = normalise(returns, references.random, references.expert)
    return entry | {
        "random": references.random,
        "expert": references.expert,
        "reference": dict(references.details),
        "normalised": float(scores.mean()),
        "interval": bootstrap_interval(scores),
    }
