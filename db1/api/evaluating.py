"""Evaluating a model from Python: what `db1 eval` does."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from db1.checkpoint.hub import resolve_model_name

if TYPE_CHECKING:
    from db1.api.model import Model

Progress = Callable[[str, int, int], None]
"""Called with (task id, finished episodes, all episodes)."""


def evaluate(
    model: Model | str | Path,
    tasks: Sequence[str] | None = None,
    *,
    suites: Sequence[str] | None = None,
    episodes: int = 20,
    out: str | Path | None = None,
    data: str | Path | None = None,
    preset: str = "default",
    workers: int = 0,
    num_environments: int = 16,
    overwrite: bool = False,
    device: str | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Lets a model act on unseen seeds and scores it between random and expert.

    A task without references has raw returns, one without demonstrations no prompt; the results
    say so (`missing_references`, `missing_prompts`).

    Args:
        model: A loaded one, or what `db1.load` takes.
        tasks: Task ids; None: those that the model learned.
        suites: Keep only tasks of these suites.
        episodes: Of each task.
        out: Folder of results.json, whose finished tasks are kept; None: nothing is written.
        data: Folder of demonstrations for prompts and references; None: the model's.
        preset: Settings to start from: `default`, `released` or `publication`.
        workers: Processes that hold environments; 0: this one. With some, a script needs
            `if __name__ == "__main__":`.
        num_environments: The most episodes of a task at once; no result depends on it.
        overwrite: Start again where `out` holds other results.
        device: torch device; None: the model's, or CUDA where there is one.
        progress: Called whenever an episode ends.
        settings: Other fields of `db1.evaluation.settings.EvaluationConfig`: `policy`, `prompt`,
            `memory_length`, `greedy`, `seed`, ...

    Returns:
        The content of results.json: `tasks`, `summary`, `text`, `failures`, ...

    Raises:
        ConfigError: For unknown tasks or settings.
        CheckpointError: Without a valid checkpoint.
    """
    with tempfile.TemporaryDirectory(prefix="db1-evaluation-") as scratch:
        return _evaluate(
            model,
            settings={"episodes": episodes, **settings},
            preset_name=preset,
            tasks=tasks,
            suites=suites,
            out=Path(scratch if out is None else out),
            data=None if data is None else Path(data),
            overwrite=overwrite,
            num_environments=num_environments,
            workers=workers,
            device=device,
            progress=progress,
        )


def _evaluate(
    model: Model | str | Path,
    *,
    settings: dict[str, Any],
    preset_name: str,
    workers: int,
    device: str | None,
    data: Path | None,
    tasks: Sequence[str] | None,
    suites: Sequence[str] | None,
    num_environments: int,
    out: Path,
    overwrite: bool,
    progress: Progress | None,
) -> dict[str, Any]:
    from db1.api.model import Model
    from db1.config import check_names
    from db1.evaluation.evaluate import evaluate
    from db1.evaluation.execution import EvaluationData, ExecutionConfig, TaskSelection
    from db1.evaluation.plan import data_root
    from db1.evaluation.settings import EvaluationConfig, preset
    from db1.inference.load import locate_model, read_run
    from db1.suites.plugins import load_run_plugins

    check_names(EvaluationConfig, settings)
    checkpoint = None
    if isinstance(model, Model):
        folder, checkpoint = model.folder, model.checkpoint
        settings = {"random_weights": checkpoint is None, **settings}
        device = device or str(next(model.parts.model.parameters()).device)
    else:
        folder, checkpoint = locate_model(resolve_model_name(model), None)
    parts = read_run(folder)
    load_run_plugins(parts.config)
    has_root = data is not None or (parts.config.get("data") or {}).get("root") is not None
    return evaluate(
        folder,
        preset(preset_name, **settings),
        out=out,
        selection=TaskSelection(
            tasks=None if tasks is None else list(tasks),
            suites=None if suites is None else list(suites),
        ),
        data=EvaluationData(
            data=data_root(parts, data) if has_root else out / "demonstrations",
            allow_missing_reference=True,
            allow_missing_prompt=True,
        ),
        execution=ExecutionConfig(
            workers=workers, num_environments=num_environments, device=device
        ),
        checkpoint=checkpoint if _is_run(folder) else None,
        overwrite=overwrite,
        progress=progress,
    )


def _is_run(folder: Path) -> bool:
    """Tells whether a model has several checkpoints to choose from."""
    from db1.checkpoint.bundle import kind_of

    return kind_of(folder) == "run"
