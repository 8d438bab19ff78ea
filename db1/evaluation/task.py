"""One task of an evaluation: its policy, its prompts, its episodes, its entry in results.json."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from db1.errors import ConfigError, DataError
from db1.evaluation.references import References
from db1.evaluation.settings import EvaluationConfig
from db1.inference.agent import Agent
from db1.inference.load import LoadedRun, RunParts
from db1.metrics.scores import bootstrap_interval, normalise
from db1.rollout.demonstrations import check_demonstrations
from db1.rollout.episode import EpisodeResult
from db1.rollout.loop import Progress, rollout
from db1.rollout.policies import ModelPolicy, make_model_free_policy
from db1.rollout.prompts import Prompts, no_prompts, read_prompts
from db1.rollout.remote import WorkerPool
from db1.sequence.step import StepCodec
from db1.suites import SUITES, parse_task_id
from db1.tokens.instruction import Instruction, name_in_words
from db1.tokens.spec import StepSpec


def evaluate_task(
    task_id: str,
    config: EvaluationConfig,
    references: References | None,
    folder: Path,
    parts: RunParts,
    num_environments: int,
    progress: Progress | None,
    pool: WorkerPool | None = None,
) -> dict[str, Any]:
    """Runs the episodes of one task.

    Args:
        task_id: `suite/task`.
        config: With its memory length filled in.
        references: Random and expert return; None: raw returns only.
        folder: The task's demonstration store, for prompts and for the retrieval policy.
        parts: The run, a `LoadedRun` for the policy `model`.
        num_environments: The most episodes at once.
        progress: Called whenever an episode ends.
        pool: Worker processes for the environments; None: they run in this process.

    Returns:
        The task's entry of results.json.

    Raises:
        ProcessLost: When a worker process died or hung.
        DataError: When the task cannot be played as asked for.
    """
    started = time.monotonic()
    prompts = no_prompts()
    if not isinstance(parts, LoadedRun):
        known = parts.chosen.get(task_id)
        episodes = _play(task_id, config, folder, known, progress, pool)
    else:
        num_environments = min(num_environments, config.episodes)
        agent, prompts = make_prompted_agent(task_id, config, folder, parts, num_environments)
        episodes = rollout(
            task_id,
            ModelPolicy(agent),
            config.seeds,
            progress,
            num_environments=num_environments,
            max_steps=config.max_steps,
            environments=None if pool is None else pool.environments(task_id),
        )
    entry = _entry(episodes, references, prompts)
    return entry | {"seconds": round(time.monotonic() - started, 3)}


def _play(
    task_id: str,
    config: EvaluationConfig,
    folder: Path,
    known: Sequence[int] | None,
    progress: Progress | None,
    pool: WorkerPool | None,
) -> list[EpisodeResult]:
    """The episodes of a policy that needs no model, in the workers where there are any."""
    if config.policy == "retrieval":
        check_demonstrations(task_id, folder)
    policy = {
        "name": config.policy,
        "seed": config.seed,
        "folder": str(folder),
        "episodes": known,
    }
    if pool is None:
        who = make_model_free_policy(task_id, **policy)
        options = {"num_environments": 1, "max_steps": config.max_steps}
        return rollout(task_id, who, config.seeds, progress, **options)
    report = None if progress is None else lambda done: progress(done, config.episodes)
    return pool.play(task_id, policy, config.seeds, report, config.max_steps)


def make_agent(
    task_id: str, config: EvaluationConfig, folder: Path, loaded: LoadedRun, batch_size: int
) -> Agent:
    """The model as an agent of one task; see `make_prompted_agent`."""
    return make_prompted_agent(task_id, config, folder, loaded, batch_size)[0]


def make_prompted_agent(
    task_id: str,
    config: EvaluationConfig,
    folder: Path,
    loaded: LoadedRun,
    batch_size: int,
    kind: type[Agent] = Agent,
) -> tuple[Agent, Prompts]:
    """The model as an agent of one task, and the prompts of its episodes.

    Args:
        task_id: `suite/task`.
        config: With its memory length filled in.
        folder: The task's demonstration store, for prompts.
        loaded: The run with its model.
        batch_size: Episodes at once.
        kind: Class of the agent.

    Raises:
        DataError: When the task's step is not the one that the run learned, the vocabulary lacks
            what it needs, or there is no demonstration to prompt with.
    """
    suite, task_name = parse_task_id(task_id)
    spec = suite.step_spec(task_name)
    if config.memory_length is None:
        raise ConfigError(f"{task_id}: the evaluation's memory_length was not filled in")
    codec = make_codec(task_id, spec, loaded)
    prompts = read_prompts(task_id, folder, codec, config, loaded.chosen.get(task_id))
    agent = kind(
        loaded.model,
        codec,
        memory_length=config.memory_length,
        batch_size=batch_size,
        prompts=prompts.episodes,
        prompt_of=prompts.number_of,
        prompt_tokens=config.prompt_length,
        prompt_part=config.prompt_part,
        prompt_strategy=config.prompt_strategy,
        greedy=config.greedy,
        temperature=config.temperature,
        seed=config.seed,
        **spoken(task_id, config.instruction, loaded),
    )
    return agent, prompts


def instruction_of(task_id: str, parts: RunParts) -> Instruction | None:
    """Instruction of a task: the one that it was learned with, else the suite's own.

    Returns:
        None for a model that learned without instructions.
    """
    if not parts.sequence_config.instruction:
        return None
    return parts.instructions.get(task_id) or _in_words(task_id)


def _in_words(task_id: str) -> Instruction:
    """The suite's words for a task; those of its name where it is of no suite."""
    if task_id.partition("/")[0] not in SUITES:
        return Instruction(text=name_in_words(task_id))
    suite, task_name = parse_task_id(task_id)
    return suite.instruction(task_name)


def spoken(task_id: str, given: str | None, loaded: LoadedRun) -> dict[str, Any]:
    """The agent's settings of instructions; none for a model that learned without.

    Args:
        task_id: `suite/task`, or the name of an environment that is in no suite.
        given: Words in place of the task's own; None: its own.
        loaded: The run.

    Raises:
        ConfigError: For words to a model that learned without.
    """
    instruction = instruction_of(task_id, loaded)
    if instruction is None:
        if given is not None:
            raise ConfigError(
                f"instruction {given!r}: {loaded.folder} learned without instructions "
                "(sequence.instruction); drop it"
            )
        return {}
    return {
        "instruction": instruction.text if given is None else given,
        "override_instruction": given is not None,
        "max_instruction": loaded.sequence_config.max_instruction,
    }


def make_codec(task_id: str, spec: StepSpec, parts: RunParts) -> StepCodec:
    """Step <-> ids of a task for a model.

    Raises:
        DataError: When the step is not the one that the model learned, or its vocabulary lacks what
            the step needs.
    """
    learned = parts.specs.get(task_id)
    if learned is not None and learned != spec:
        raise DataError(
            f"{task_id}: the environment's step {spec.to_dict()} is not the one in the run's "
            f"specs.json {learned.to_dict()}; the suite changed since the data was collected"
        )
    instruction = instruction_of(task_id, parts)
    try:
        return parts.codec(spec, instruction.field if instruction else None)
    except DataError as error:
        raise DataError(
            f"{task_id}: the vocabulary of {parts.folder} lacks what the task needs ({error}); "
            "leave the task out, or choose a model that learned it"
        ) from error


def _entry(
    episodes: Sequence[EpisodeResult], references: References | None, prompts: Prompts
) -> dict[str, Any]:
    returns = np.array([episode.total_reward for episode in episodes])
    entry = {
        "episodes": len(episodes),
        "seeds": [episode.seed for episode in episodes],
        "returns": [float(value) for value in returns],
        "lengths": [episode.length for episode in episodes],
        "successes": [episode.success for episode in episodes],
        "prompts": [prompts.of(episode.seed) for episode in episodes],
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
