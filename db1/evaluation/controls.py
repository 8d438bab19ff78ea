"""Controls of an evaluation: the same tasks and seeds, played without what the model learned.

    <out>/results.json                      the model; `controls` has the entries of every control
    <out>/controls/retrieval/results.json   a control, an evaluation of its own that resumes

A score means little alone: where the nearest demonstration scores as much, looking up was enough;
where random actions do, the task is easy; where the model does without its prompt, or without being
told what to do, it was not read.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from db1.errors import ConfigError, DataError, check_one_of
from db1.evaluation.evaluate import TaskProgress, TaskResult
from db1.evaluation.execution import (
    DATA_OF_THE_RUN,
    EVERY_TASK,
    EvaluationData,
    TaskSelection,
)
from db1.evaluation.plan import make_plan
from db1.evaluation.ranks import Ranks
from db1.evaluation.results import read_results, write_results
from db1.evaluation.settings import EvaluationConfig, as_trained
from db1.inference.load import locate_model, read_run
from db1.metrics.compare import compare_results

logger = logging.getLogger(__name__)

CONTROLS_FOLDER = "controls"
CONTROLS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "retrieval": {"policy": "retrieval"},
        "random": {"policy": "random"},
        "no-prompt": {"prompt": False},
        "no-instruction": {"instruction": ""},
        "no-memory": {"prompt": False, "memory_length": 0},
        "random-weights": {"random_weights": True},
    }
)
"""Settings that a control changes, by its name."""


def check_controls(names: str | Sequence[str]) -> tuple[str, ...]:
    """The names of controls, without repetitions.

    Args:
        names: A list, or one text with commas.

    Raises:
        ConfigError: For an unknown name.
    """
    given = names.split(",") if isinstance(names, str) else names
    found = tuple(dict.fromkeys(name.strip() for name in given if name.strip()))
    for name in found:
        check_one_of("controls", name, CONTROLS)
    return found


def settings_of(config: EvaluationConfig, name: str) -> EvaluationConfig:
    """The settings of a control: those of the evaluation but for its change; no text, no images."""
    return replace(config, text=False, pairs=None, **CONTROLS[name])


def plan_controls(
    run: Path,
    config: EvaluationConfig,
    names: Sequence[str],
    *,
    selection: TaskSelection = EVERY_TASK,
    data: EvaluationData = DATA_OF_THE_RUN,
) -> tuple[str, ...]:
    """The controls that say something of this evaluation; what they lack is found out now.

    Args:
        run: The model's folder.
        config: Settings of the evaluation.
        names: Of controls.
        selection: Which tasks.
        data: Where demonstrations and references lie.

    Returns:
        The names; a control that plays as the evaluation itself does is left out, with a warning.

    Raises:
        ConfigError: When the evaluation is not one of the model.
        DataError: For demonstrations that a control needs and that are missing.
    """
    if names and (config.policy != "model" or config.random_weights):
        raise ConfigError(
            f"controls go with a trained model's evaluation, got policy {config.policy!r}"
            f"{' with random weights' if config.random_weights else ''}; drop --controls"
        )
    kept = []
    parts = read_run(locate_model(run, None)[0]) if names else None
    for name in names:
        assert parts is not None
        filled, changed = (as_trained(c, parts) for c in (config, settings_of(config, name)))
        if replace(filled, text=False, pairs=None) == changed:
            logger.warning("control %s: the evaluation itself is played that way; left out", name)
            continue
        make_plan(parts, changed, selection, data)
        kept.append(name)
    return tuple(kept)


def evaluate_controls(
    play: Callable[..., dict[str, Any]],
    config: EvaluationConfig,
    names: Sequence[str],
    out: Path,
    *,
    ranks: Ranks | None = None,
    progress: TaskProgress | None = None,
    on_result: TaskResult | None = None,
) -> dict[str, Any]:
    """Plays the controls of a finished evaluation and enters them into its results.json.

    Args:
        play: `evaluate` of the same run, tasks and data: partial(evaluate, run, data=data, ...).
        config: Settings of the evaluation.
        names: Of controls, as `plan_controls` returns them.
        out: Folder of the evaluation.
        ranks: Those of `play`; the first process enters the results.
        progress, on_result: As of `evaluate`; a control's tasks come as `task [control]`.

    Returns:
        The results with `controls`: by name its `settings` (what differs), `tasks`, `summary`,
        `failures` and `compared`: on how many tasks the `model` or the `control` is better, or
        `neither` (permutation tests at 5 %, corrected for the number of tasks). {} in all processes
        of a launch but the first.

    Raises:
        ConfigError, DataError, CheckpointError: As `evaluate`.
    """
    ranks = ranks or Ranks()
    for name in names:
        played = play(
            settings_of(config, name),
            out=out / CONTROLS_FOLDER / name,
            progress=progress and _named(progress, name),
            on_result=on_result and _named(on_result, name),
        )
        if ranks.is_first:
            _enter(out, name, played)
    return read_results(out) if ranks.is_first else {}


def _named(report: Any, name: str) -> Any:
    """`report`, told of tasks as `task [control]`."""
    return lambda task, *rest: report(f"{task} [{name}]", *rest)


def _enter(out: Path, name: str, played: Mapping[str, Any]) -> None:
    results = read_results(out)
    entry = {
        "settings": dict(CONTROLS[name]),
        "tasks": {
            task: {key: value for key, value in part.items() if key != "prompts"}
            for task, part in played["tasks"].items()
        },
        "summary": played["summary"],
        "failures": played["failures"],
        "compared": _compared(played, results),
    }
    results["controls"] = {**(results.get("controls") or {}), name: entry}
    write_results(out, results)


def _compared(control: Mapping[str, Any], results: Mapping[str, Any]) -> dict[str, int]:
    try:
        better = compare_results(control, results)["better"]
    except DataError:  # raw returns only
        return {"model": 0, "control": 0, "neither": 0}
    return {"model": better["b"], "control": better["a"], "neither": better["neither"]}
