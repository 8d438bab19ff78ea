"""A model folder -> results.json: rollouts of every task, normalised scores, held-out text.

    plan        tasks, references, demonstrations: what is wrong is found before anything runs
    prepare     results.json with the settings; finished tasks of equal settings are kept
    play        every process of the launch takes tasks (`queue.py`, `running.py`)
    collect     the first process writes results.json, again after every finished task

An evaluation that was cut off, even killed, goes on where it stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from db1.errors import CheckpointError
from db1.evaluation.execution import (
    DATA_OF_THE_RUN,
    EVERY_TASK,
    IN_THIS_PROCESS,
    EvaluationData,
    ExecutionConfig,
    TaskSelection,
)
from db1.evaluation.plan import Plan, make_plan
from db1.evaluation.queue import TaskQueue
from db1.evaluation.ranks import Ranks
from db1.evaluation.references import References
from db1.evaluation.results_writer import ResultsWriter, TaskResult, begin_results
from db1.evaluation.running import play_tasks
from db1.evaluation.settings import EvaluationConfig, as_trained
from db1.evaluation.task import make_prompted_agent
from db1.inference.load import LoadedRun, RunParts, load_agent_parts, locate_model, read_run
from db1.metrics.pair_scores import score_pair_sets
from db1.metrics.perplexity import pool as pool_scores
from db1.metrics.perplexity import score_text
from db1.metrics.scores import bootstrap_interval, normalise
from db1.rollout.demonstrations import check_demonstrations
from db1.rollout.episode import EpisodeResult
from db1.rollout.loop import Progress, rollout
from db1.rollout.policies import ModelPolicy, make_model_free_policy
from db1.rollout.prompts import Prompts, no_prompts
from db1.rollout.remote import WorkerPool

TaskProgress = Callable[[str, int, int], None]
"""Called with (task id or set of images, finished episodes, all episodes), with 0 at a start."""


def evaluate(
    run: Path,
    config: EvaluationConfig,
    *,
    out: Path,
    selection: TaskSelection = EVERY_TASK,
    data: EvaluationData = DATA_OF_THE_RUN,
    execution: ExecutionConfig = IN_THIS_PROCESS,
    checkpoint: str | None = None,
    overwrite: bool = False,
    ranks: Ranks | None = None,
    progress: TaskProgress | None = None,
    on_result: TaskResult | None = None,
    on_plan: Callable[[Sequence[str]], None] | None = None,
) -> dict[str, Any]:
    """Evaluates a run and writes `<out>/results.json`.

    Args:
        run: The run folder, a safetensors folder or the published checkpoint.
        config: What decides the numbers.
        out: Folder of the results; finished tasks in it with equal settings are kept.
        selection: Which tasks.
        data: Where demonstrations and references lie, and what may be missing.
        execution: What may be used of this machine.
        checkpoint: Tag; None: the newest valid checkpoint.
        overwrite: Start again where `out` holds other results.
        ranks: The processes of the launch, all of which call this; None: this one alone.
        progress: Called whenever an episode ends.
        on_result: Called in the first process once for every task, kept ones included.
        on_plan: Called once with the tasks, before any is played.

    Returns:
        The content of results.json. Tasks that failed are in `failures` by name.

    Raises:
        ConfigError: For unknown tasks, results of another evaluation in `out`, or a port in use.
        DataError: For data that is missing or does not fit, unless `data` allows it.
        CheckpointError: Without a valid checkpoint.
    """
    ranks = ranks or Ranks()
    run, checkpoint = locate_model(run, checkpoint)
    parts = read_run(run)
    config = as_trained(config, parts)
    plan = make_plan(parts, config, selection, data)
    if on_plan is not None:
        on_plan([*plan.environments, *plan.unavailable])
    loaded = load_model(run, config, checkpoint, execution.device)
    queue = TaskQueue(out)
    results = ranks.first_does(partial(begin_results, out, config, loaded, plan, queue, overwrite))
    writer = ResultsWriter(out, plan, queue, results, on_result)
    writer.collect()
    if results is not None and loaded is not None:
        _score_texts(loaded, config, plan.root, out, results, writer, progress)
    play = partial(
        evaluate_task,
        config=config,
        plan=plan,
        who=loaded or parts,
        execution=execution,
        progress=progress,
    )
    tasks, alone, waits = list(plan.environments), ranks.is_alone, ranks.is_first
    play_tasks(tasks, queue, play, execution, writer.collect, alone=alone, waits=waits)
    writer.write()
    return writer.whole()


def _score_texts(
    loaded: LoadedRun,
    config: EvaluationConfig,
    root: Path,
    out: Path,
    results: dict[str, Any],
    writer: ResultsWriter,
    progress: TaskProgress | None,
) -> None:
    """Scores what needs no environment: held-out text, captions and answers."""
    if config.text and results["text"] is None:
        results["text"] = evaluate_text(loaded, config, root)
    writer.collect()
    if config.pairs is not None:
        score_pair_sets(
            loaded, config.pairs, root, out, done=results, finished=writer.enter, progress=progress
        )


def evaluate_task(
    task_id: str,
    pool: WorkerPool | None,
    *,
    config: EvaluationConfig,
    plan: Plan,
    who: RunParts,
    execution: ExecutionConfig,
    progress: TaskProgress | None,
) -> dict[str, Any]:
    """Runs the episodes of one task of a plan.

    Args:
        task_id: `suite/task`.
        pool: Worker processes for the environments; None: they run in this process.
        config: With its memory length filled in.
        plan: Has the task's references, and where its demonstrations lie.
        who: The run, a `LoadedRun` for the policy `model`.
        execution: What may be used of this machine.
        progress: Called at the start and whenever an episode ends.

    Returns:
        The task's entry of results.json.

    Raises:
        ProcessLost: When a worker process died or hung.
        DataError: When the task cannot be played as asked for.
    """
    started = time.monotonic()
    if progress is not None:
        progress(task_id, 0, config.episodes)
    report = None if progress is None else partial(progress, task_id)
    prompts, folder = no_prompts(), plan.root / task_id
    if not isinstance(who, LoadedRun):
        episodes = _play_without_model(task_id, config, folder, who, report, pool)
    else:
        if task_id in plan.missing_prompts:
            config = replace(config, prompt=False)
        rows = min(execution.num_environments, config.episodes)
        agent, prompts = make_prompted_agent(task_id, config, folder, who, rows)
        episodes = rollout(
            task_id,
            ModelPolicy(agent),
            config.seeds,
            report,
            num_environments=rows,
            max_steps=config.max_steps,
            environments=None if pool is None else pool.environments(task_id),
        )
    entry = _entry(episodes, plan.references[task_id], prompts)
    return entry | {"seconds": round(time.monotonic() - started, 3)}


def _play_without_model(
    task_id: str,
    config: EvaluationConfig,
    folder: Path,
    parts: RunParts,
    progress: Progress | None,
    pool: WorkerPool | None,
) -> list[EpisodeResult]:
    """The episodes of a policy that needs no model, in the workers where there are any."""
    if config.policy == "retrieval":
        check_demonstrations(task_id, folder, retrieval=True)
    policy = {
        "name": config.policy,
        "seed": config.seed,
        "folder": str(folder),
        "episodes": parts.chosen.get(task_id),
    }
    if pool is None:
        who = make_model_free_policy(task_id, **policy)
        options = {"num_environments": 1, "max_steps": config.max_steps}
        return rollout(task_id, who, config.seeds, progress, **options)
    report = None if progress is None else lambda done: progress(done, config.episodes)
    return pool.play(task_id, policy, config.seeds, report, config.max_steps)


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


def load_model(
    run: Path, config: EvaluationConfig, checkpoint: str | None, device: str | None
) -> LoadedRun | None:
    """The model in the precision asked for; None for the policies without one."""
    if config.policy != "model":
        return None
    loaded = load_agent_parts(
        run, checkpoint, random_weights=config.random_weights, seed=config.seed, device=device
    )
    if not config.random_weights:
        _check_finite(loaded)
    loaded.model.to(getattr(torch, config.precision))
    return loaded


def _check_finite(loaded: LoadedRun) -> None:
    """Raises CheckpointError for weights that are not numbers: nothing can be played with them."""
    for name, weight in loaded.model.named_parameters():
        if not torch.isfinite(weight).all():
            count = int((~torch.isfinite(weight)).sum())
            raise CheckpointError(
                f"{loaded.folder}: the weights of {loaded.tag or 'the model'} are broken: "
                f"{count:,} of {weight.numel():,} numbers of {name} are not finite; take another "
                "--checkpoint"
            )


def evaluate_text(loaded: LoadedRun, config: EvaluationConfig, root: Path) -> dict[str, Any] | None:
    """Scores the held-out part of each corpus of the run; None where it has no text."""
    names = list((loaded.config.get("data") or {}).get("text") or {})
    if not names or loaded.tokenizer is None:
        return None
    scores = {}
    for name in names:
        folder = root / "text" / name
        scores[name] = score_text(
            loaded,
            loaded.tokenizer,
            folder / "train",
            folder / "heldout",
            window=loaded.sequence_length,
            memory_length=config.text_memory_length or 0,
            max_tokens=config.max_text_tokens,
        )
    corpora = {name: score.to_dict() for name, score in scores.items()}
    return pool_scores(scores).to_dict() | {"corpora": corpora}
