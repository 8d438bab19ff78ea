"""A run folder -> results.json: rollouts of every task, normalised scores, held-out text.

The file is written after every finished task, so that an evaluation that was cut off goes on where
it stopped.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from db1.errors import ConfigError, DataError, MissingExtra, nearest
from db1.evaluation.perplexity import pool, score_text
from db1.evaluation.references import (
    MissingReference,
    References,
    check_mismatch,
    find_references,
)
from db1.evaluation.results import command_line, resume, versions, write_results
from db1.evaluation.scores import normalise, summarise
from db1.evaluation.settings import EvaluationConfig
from db1.evaluation.task import evaluate_task
from db1.policy.load import LoadedRun, RunParts, load_agent_parts, read_run
from db1.suites import parse_task_id

logger = logging.getLogger(__name__)

TaskProgress = Callable[[str, int, int], None]
"""Called with (task id or `text/<name>`, finished episodes, all episodes)."""


def evaluate(
    run: Path,
    config: EvaluationConfig,
    *,
    out: Path,
    tasks: Sequence[str] | None = None,
    suites: Sequence[str] | None = None,
    checkpoint: str | None = None,
    data: Path | None = None,
    overwrite: bool = False,
    allow_version_mismatch: bool = False,
    allow_missing_reference: bool = False,
    scores: Path | None = None,
    num_environments: int = 16,
    device: str | None = None,
    progress: TaskProgress | None = None,
) -> dict[str, Any]:
    """Evaluates a run and writes `<out>/results.json`.

    Args:
        run: The run folder.
        config: What decides the numbers.
        out: Folder of the results; finished tasks in it with equal settings are kept.
        tasks: Task ids; None: those that the run learned.
        suites: Keep only tasks of these suites.
        checkpoint: Tag; None: the newest valid checkpoint.
        data: Folder of the demonstration stores; None: the run's `data.root`.
        overwrite: Start anew where `out` holds other results.
        allow_version_mismatch: Accept references measured on another environment version, and
            record the difference.
        allow_missing_reference: Report raw returns of tasks without references, and record why.
        scores: Folder of `db1 tasks measure`; looked into before the scores that come with db1.
        num_environments: The most episodes at once; no result depends on it.
        device: torch device; None: CUDA where there is one.
        progress: Called whenever an episode ends.

    Returns:
        The content of results.json. Tasks that raised are in `failures` by name.

    Raises:
        ConfigError: For unknown tasks, or results of another evaluation in `out`.
        DataError: For missing references, or references of another environment version, unless
            that is allowed.
        CheckpointError: Without a valid checkpoint.
    """
    parts = read_run(run)
    config = replace(
        config,
        memory_length=_default(config.memory_length, parts.context_length),
        text_memory_length=_default(config.text_memory_length, parts.model_config.memory_length),
    )
    root = _data_root(parts, data)
    chosen = select_tasks(tuple(parts.specs) or _stored_tasks(root), tasks, suites)
    environments, failures = _versions_now(chosen)
    find = partial(_find, config=config, root=root, scores=scores)
    references, missing = {}, {}
    for task, version in environments.items():
        try:
            references[task] = find(task, version, allow_version_mismatch)
        except MissingReference as error:
            if not allow_missing_reference:
                raise
            references[task], missing[task] = None, str(error)
            logger.warning("no score: %s", error)
    mismatches = {task: r.mismatch for task, r in references.items() if r and r.mismatch}
    loaded = None
    if config.policy == "model":
        loaded = load_agent_parts(
            run, checkpoint, random_weights=config.random_weights, seed=config.seed, device=device
        )
    results = _begin(out, config, loaded, parts.config, environments, overwrite)
    results["failures"] = failures
    results["version_mismatches"] |= mismatches
    results["missing_references"] |= missing
    for task in references.keys() - missing.keys():
        results["missing_references"].pop(task, None)
    if loaded is not None and config.text and results["text"] is None:
        results["text"] = evaluate_text(loaded, config, root)
    write_results(out, _summarised(results))
    for task in environments:
        if _is_kept(results["tasks"].get(task), references[task]):
            logger.info("%s: kept from an earlier evaluation", task)
            continue
        report = None if progress is None else partial(progress, task)
        arguments = (task, config, references[task], root / task, loaded, num_environments, report)
        _add_task(results, task, partial(evaluate_task, *arguments))
        write_results(out, _summarised(results))
    return _summarised(results)


def _data_root(parts: RunParts, data: Path | str | None) -> Path:
    """Where demonstrations and references lie."""
    root = data if data is not None else (parts.config.get("data") or {}).get("root")
    if root is None:
        raise ConfigError(
            f"{parts.folder}: does not say where its demonstrations lie (a converted model); "
            "give --data DIR, such as `db1 collect TASK... --out DIR` makes"
        )
    return Path(root)


def _stored_tasks(root: Path) -> tuple[str, ...]:
    """Tasks that have demonstrations below `root`: what a model without specs is evaluated on."""
    found = sorted(root.glob("*/*/header.json"))
    return tuple("/".join(path.parts[-3:-1]) for path in found)


def _add_task(results: dict[str, Any], task: str, run: Callable[[], dict[str, Any]]) -> None:
    """Enters what `run` returns under `tasks`, or what it raises under `failures`."""
    results["tasks"].pop(task, None)
    try:
        results["tasks"][task] = run()
    except Exception as error:  # one broken environment must not cost the other tasks
        results["failures"][task] = f"{type(error).__name__}: {error}"
        logger.error("%s failed: %s", task, results["failures"][task])
        logger.debug("traceback of %s", task, exc_info=True)


def _begin(
    out: Path,
    config: EvaluationConfig,
    loaded: LoadedRun | None,
    run_config: Mapping[str, Any],
    environments: Mapping[str, Mapping[str, str]],
    overwrite: bool,
) -> dict[str, Any]:
    """Results so far: those in `out` with equal settings, or none."""
    settings, weights = asdict(config), _checkpoint_entry(loaded, config)
    earlier = resume(out, settings, weights, overwrite)
    found = earlier.get("provenance", {}).get("versions", {}) | versions(environments)
    return {
        "tasks": dict(earlier.get("tasks", {})),
        "version_mismatches": dict(earlier.get("version_mismatches", {})),
        "missing_references": dict(earlier.get("missing_references", {})),
        "text": earlier.get("text"),
        "settings": settings,
        "provenance": {
            "checkpoint": weights,
            "config": dict(run_config),
            "versions": found,
            "command": command_line(),
        },
    }


def _is_kept(entry: Mapping[str, Any] | None, references: References | None) -> bool:
    """Whether an earlier entry of a task stands: there is one, with today's references."""
    details = None if references is None else dict(references.details)
    return entry is not None and entry["reference"] == details


def select_tasks(
    learned: Sequence[str], tasks: Sequence[str] | None, suites: Sequence[str] | None
) -> list[str]:
    """The tasks to evaluate: those named, or those learned, of the suites named if any.

    Raises:
        ConfigError: For an unknown task, or a suite without any task.
    """
    chosen = list(dict.fromkeys(learned if tasks is None else tasks))
    if not chosen:
        raise ConfigError("the model names no task and no demonstrations are there; give --task")
    for task in chosen:
        parse_task_id(task)
    if suites is None:
        return chosen
    known = sorted({task.split("/", 1)[0] for task in chosen})
    for suite in suites:
        if suite not in known:
            raise ConfigError(
                f"suite {suite!r}: the run learned no task of it, expected one of {known}"
                f"{nearest(suite, known)}; name other tasks with --task"
            )
    return [task for task in chosen if task.split("/", 1)[0] in suites]


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
    return pool(scores).to_dict() | {"corpora": corpora}


def _versions_now(tasks: Sequence[str]) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
    """Environment versions of the tasks that run here, and why the others do not."""
    environments, failures = {}, {}
    for task in tasks:
        suite, name = parse_task_id(task)
        try:
            environments[task] = suite.environment_version(name)
        except (MissingExtra, DataError) as error:
            failures[task] = str(error)
            logger.error("%s", error)
    return environments, failures


def _find(
    task: str,
    version: Mapping[str, str],
    allow_mismatch: bool,
    *,
    config: EvaluationConfig,
    root: Path,
    scores: Path | None,
) -> References | None:
    """A task's references, after the check of their environment version."""
    references = find_references(task, config.reference, root / task, version, scores)
    if references is not None:
        check_mismatch(task, references, allow_mismatch)
        if references.mismatch:
            why = references.mismatch
            logger.warning("%s: references of another environment version: %s", task, why)
    return references


def _checkpoint_entry(loaded: LoadedRun | None, config: EvaluationConfig) -> dict[str, Any] | None:
    if loaded is None:
        return None
    return {
        "run": str(loaded.folder),
        "tag": loaded.tag,
        "sha256": loaded.sha256,
        "random_weights": config.random_weights,
    }


def _summarised(results: Mapping[str, Any]) -> dict[str, Any]:
    """The results with the summary over the tasks so far."""
    scores = {
        task: normalise(np.array(entry["returns"]), entry["random"], entry["expert"])
        for task, entry in results["tasks"].items()
        if entry["reference"] is not None
    }
    order = (
        "tasks",
        "summary",
        "text",
        "failures",
        "version_mismatches",
        "missing_references",
        "settings",
        "provenance",
    )
    whole = {**results, "summary": summarise(scores)}
    return {key: whole[key] for key in order}


def _default(value: int | None, default: int) -> int:
    return default if value is None else value
