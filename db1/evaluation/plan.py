"""Plan of an evaluation; finds all that is wrong with it before anything runs."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from db1.errors import ConfigError, DataError, MissingExtra, nearest
from db1.evaluation.execution import EvaluationData, TaskSelection
from db1.evaluation.references import (
    MissingReference,
    References,
    check_mismatch,
    find_references,
)
from db1.evaluation.settings import EvaluationConfig
from db1.evaluation.task import make_codec
from db1.inference.load import RunParts
from db1.rollout.demonstrations import check_demonstrations
from db1.suites import parse_task_id

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The tasks of an evaluation.

    Args:
        parts: What the model folder holds beside its weights.
        root: Folder of the demonstration stores.
        environments: Version of each task's environment; its keys are the tasks, in order.
        unavailable: Why other tasks that were asked for cannot run here.
        references: Returns that normalise each task's score; None: there are none.
        missing_references: Why not.
        mismatches: In what the references' environment version differs.
        missing_prompts: Tasks that are played without the prompt they should have, and why.
    """

    parts: RunParts
    root: Path
    environments: Mapping[str, Mapping[str, str]]
    unavailable: Mapping[str, str]
    references: Mapping[str, References | None]
    missing_references: Mapping[str, str]
    mismatches: Mapping[str, str]
    missing_prompts: Mapping[str, str]


def make_plan(
    parts: RunParts,
    config: EvaluationConfig,
    selection: TaskSelection,
    data: EvaluationData,
) -> Plan:
    """Chooses the tasks and finds what they need; arguments as of `evaluate`.

    Raises:
        ConfigError: For unknown tasks, or no folder of demonstrations.
        DataError: For what is missing or does not fit.
    """
    root = data_root(parts, data.data)
    learned = tuple(parts.specs) or stored_tasks(root)
    tasks, suites = selection.named(), selection.suites
    needs_tasks = bool(learned or tasks or suites) or not _speaks(parts)
    chosen = select_tasks(learned, tasks, suites) if needs_tasks else []
    environments, unavailable = _versions_now(chosen)
    if config.policy == "model":
        _check_vocabulary(parts, list(environments))
    find = partial(_find, config=config, root=root, scores=data.scores)
    references: dict[str, References | None] = {}
    missing: dict[str, str] = {}
    for task, version in environments.items():
        try:
            references[task] = find(task, version, data.allow_version_mismatch)
        except MissingReference as error:
            if not data.allow_missing_reference:
                raise
            references[task], missing[task] = None, str(error)
            logger.warning("no score: %s", error)
    return Plan(
        parts=parts,
        root=root,
        environments=environments,
        unavailable=unavailable,
        references=references,
        missing_references=missing,
        mismatches={task: r.mismatch for task, r in references.items() if r and r.mismatch},
        missing_prompts=_missing_prompts(
            list(environments), root, config, data.allow_missing_prompt
        ),
    )


def _speaks(parts: RunParts) -> bool:
    """Tells whether a run learned text or images with texts, which are scored without a task."""
    data = parts.config.get("data") or {}
    return bool(data.get("text") or data.get("pairs"))


def data_root(parts: RunParts, data: Path | str | None) -> Path:
    """Folder of demonstrations and references."""
    root = data if data is not None else (parts.config.get("data") or {}).get("root")
    if root is None:
        raise ConfigError(
            f"{parts.folder}: does not say where its demonstrations lie (a converted model); "
            "give --data DIR, such as `db1 collect TASK... --out DIR` makes"
        )
    return Path(root)


def stored_tasks(root: Path) -> tuple[str, ...]:
    """Tasks that have demonstrations below `root`: what a model without specs is evaluated on."""
    found = sorted(root.glob("*/*/header.json"))
    return tuple("/".join(path.parts[-3:-1]) for path in found)


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
                f"suite {suite!r}: the run learned none of its tasks, expected one of {known}"
                f"{nearest(suite, known)}; name other tasks with --task"
            )
    return [task for task in chosen if task.split("/", 1)[0] in suites]


def _missing_prompts(
    tasks: Sequence[str], root: Path, config: EvaluationConfig, allow: bool
) -> dict[str, str]:
    """Tasks without demonstrations; an error unless that is allowed."""
    missing: dict[str, str] = {}
    if not config.needs_demonstrations:
        return missing
    retrieval = config.policy == "retrieval"
    for task in tasks:
        try:
            check_demonstrations(task, root / task, retrieval=retrieval)
        except DataError as error:
            if not allow or retrieval:
                raise
            missing[task] = str(error)
            logger.warning("no prompt: %s", error)
    return missing


def _check_vocabulary(parts: RunParts, tasks: Sequence[str]) -> None:
    """Raises DataError when the ids cannot say what a learned task's step holds.

    Other tasks are checked when they are played: only their environment knows their step.
    """
    for task in tasks:
        spec = parts.specs.get(task)
        if spec is not None:
            make_codec(task, spec, parts)


def _versions_now(tasks: Sequence[str]) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
    """Environment versions of the tasks that run here, and why the others do not."""
    environments, unavailable = {}, {}
    for task in tasks:
        suite, name = parse_task_id(task)
        try:
            environments[task] = suite.environment_version(name)
        except (MissingExtra, DataError) as error:
            unavailable[task] = str(error)
            logger.error("%s", error)
    return environments, unavailable


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
    if config.max_steps is not None:
        return None  # nobody measured episodes that are cut off
    references = find_references(task, config.reference, root / task, version, scores)
    if references is not None:
        check_mismatch(task, references, allow_mismatch)
        if references.mismatch:
            why = references.mismatch
            logger.warning("%s: references of another environment version: %s", task, why)
    return references
