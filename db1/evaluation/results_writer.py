"""results.json in the making: what an earlier evaluation left, and what is finished since."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from db1.evaluation.plan import Plan
from db1.evaluation.queue import TaskQueue
from db1.evaluation.references import References
from db1.evaluation.results import command_line, resume, versions, write_results
from db1.evaluation.settings import EvaluationConfig
from db1.inference.load import LoadedRun
from db1.metrics.episodes import TaskEpisodes
from db1.metrics.summary import summarise, task_metrics

logger = logging.getLogger(__name__)

SLOW_WRITE = 0.5
"""Seconds; where writing results.json takes longer, it takes a tenth of the time at most."""

TaskResult = Callable[[str, Mapping[str, Any] | None, str | None], None]
"""Called with (task id, its entry of results.json, None) or (task id, None, why it failed)."""


class ResultsWriter:
    """results.json in the making; the first process keeps it, the others have none.

    Args:
        out: Its folder.
        plan: Of the evaluation.
        queue: Where finished tasks are read from.
        results: What is in it so far; None in all processes but the first.
        on_result: Told about every task once.
    """

    def __init__(
        self,
        out: Path,
        plan: Plan,
        queue: TaskQueue,
        results: dict[str, Any] | None,
        on_result: TaskResult | None,
    ) -> None:
        self._out, self._plan, self._queue = out, plan, queue
        self._results = results
        self._on_result = on_result
        self._seen: set[str] = set()
        self._next_write = 0.0
        self._is_behind = False

    def collect(self) -> None:
        """Enters what was finished since the last time, and writes the file.

        With many tasks their summary takes long, so that it is not made again for each of them:
        what is finished is safe in the queue.
        """
        if self._results is None:
            return
        fresh = [t for t in self._plan.environments if t not in self._seen]
        parts = {task: part for task in fresh if (part := self._queue.read(task)) is not None}
        for task, part in parts.items():
            if "entry" in part:
                self._results["tasks"][task] = part["entry"]
            else:
                self._results["failures"][task] = part["failure"]
        self._is_behind |= bool(parts) or not self._seen
        if self._is_behind and time.monotonic() >= self._next_write:
            self.write()
        self._tell(parts)
        self._seen |= parts.keys() | {""}

    def write(self) -> None:
        """Writes the file if it is behind."""
        if self._results is None or not self._is_behind:
            return
        started = time.monotonic()
        write_results(self._out, self.whole())
        took = time.monotonic() - started
        self._is_behind = False
        self._next_write = started + took * (10 if took > SLOW_WRITE else 1)

    def enter(self, section: str, name: str, entry: dict[str, Any] | Exception) -> None:
        """Enters a set of images with texts, or why it failed, and writes the file."""
        if self._results is None:
            return
        if isinstance(entry, Exception):
            self._results["failures"][f"{section}/{name}"] = f"{type(entry).__name__}: {entry}"
            logger.error("%s/%s failed: %s", section, name, entry)
        else:
            self._results[section] = {**(self._results[section] or {}), name: entry}
        write_results(self._out, self.whole())

    def whole(self) -> dict[str, Any]:
        """The results so far, with their summary; {} in all processes but the first."""
        return {} if self._results is None else _summarised(self._results, self._plan)

    def _tell(self, parts: Mapping[str, Mapping[str, Any]]) -> None:
        if self._on_result is None:
            return
        if not self._seen:
            for task, why in self._plan.unavailable.items():
                self._on_result(task, None, why)
        for task, part in parts.items():
            self._on_result(task, part.get("entry"), part.get("failure"))


def begin_results(
    out: Path,
    config: EvaluationConfig,
    loaded: LoadedRun | None,
    plan: Plan,
    queue: TaskQueue,
    overwrite: bool,
) -> dict[str, Any]:
    """Results so far: those in `out` with equal settings, or none; makes the queue agree."""
    settings, weights = asdict(config), _checkpoint_entry(loaded, config)
    earlier = resume(out, settings, weights, overwrite)
    if not earlier:
        queue.clear()
    entries = dict(earlier.get("tasks", {})) | _finished(queue)
    for task, entry in list(entries.items()):
        if task in plan.environments and not _is_kept(entry, plan.references[task]):
            del entries[task]
            queue.forget(task)
        elif not queue.is_finished(task):
            queue.finish(task, {"entry": entry})
    found = earlier.get("provenance", {}).get("versions", {}) | versions(plan.environments)
    results = {
        "tasks": entries,
        "failures": dict(plan.unavailable),
        "version_mismatches": _merged(earlier, "version_mismatches", plan, plan.mismatches),
        "missing_references": _merged(earlier, "missing_references", plan, plan.missing_references),
        "missing_prompts": _merged(earlier, "missing_prompts", plan, plan.missing_prompts),
        "text": earlier.get("text"),
        "captions": earlier.get("captions"),
        "questions": earlier.get("questions"),
        **({"controls": earlier["controls"]} if earlier.get("controls") else {}),
        "settings": settings,
        "provenance": {
            "checkpoint": weights,
            "config": dict(plan.parts.config),
            "learned": _learned(plan, config),
            "few_shot": {task: list(known) for task, known in plan.parts.chosen.items()},
            "versions": found,
            "command": command_line(),
        },
    }
    write_results(out, _summarised(results, plan))
    return results


def _learned(plan: Plan, config: EvaluationConfig) -> list[str] | None:
    """The tasks that the model learned; None without a model, or where it does not say."""
    names = sorted(plan.parts.specs)
    return names if names and config.policy == "model" and not config.random_weights else None


def _finished(queue: TaskQueue) -> dict[str, Any]:
    """Entries of the finished tasks; failures are forgotten, for they are tried again."""
    entries = {}
    for task in queue.tasks():
        part = queue.read(task) or {}
        if "entry" in part:
            entries[task] = part["entry"]
        else:
            queue.forget(task)
    return entries


def _merged(
    earlier: Mapping[str, Any], key: str, plan: Plan, now: Mapping[str, str]
) -> dict[str, str]:
    """Merges the notes of an earlier evaluation on other tasks with this one's on its own."""
    others = {t: why for t, why in earlier.get(key, {}).items() if t not in plan.environments}
    return others | dict(now)


def _is_kept(entry: Mapping[str, Any], references: References | None) -> bool:
    """Tells whether an earlier entry of a task still holds: it was scored by today's references."""
    return entry["reference"] == (None if references is None else dict(references.details))


def _checkpoint_entry(loaded: LoadedRun | None, config: EvaluationConfig) -> dict[str, Any] | None:
    if loaded is None:
        return None
    return {
        "run": str(loaded.folder),
        "tag": loaded.tag,
        "sha256": loaded.sha256,
        "random_weights": config.random_weights,
    }


def _summarised(results: Mapping[str, Any], plan: Plan) -> dict[str, Any]:
    """The results with the summary over the tasks so far, in an order that is always the same."""
    entries = results["tasks"]
    rest = sorted(task for task in entries if task not in plan.environments)
    ordered = {task: entries[task] for task in [*plan.environments, *rest] if task in entries}
    failures = results["failures"]
    episodes = {task: TaskEpisodes.of_entry(entry) for task, entry in ordered.items()}
    metrics = {task: task_metrics(task, each) for task, each in episodes.items()}
    order = (
        "tasks",
        "summary",
        "text",
        "captions",
        "questions",
        "controls",
        "failures",
        "version_mismatches",
        "missing_references",
        "missing_prompts",
        "settings",
        "provenance",
    )
    whole = {
        **results,
        "tasks": {
            task: entry | {"metrics": {**entry.get("metrics", {}), **metrics[task]}}
            for task, entry in ordered.items()
        },
        "failures": {task: failures[task] for task in sorted(failures)},
        "summary": summarise(episodes),
    }
    return {key: whole[key] for key in order if key in whole}
