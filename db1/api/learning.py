"""Collecting demonstrations and training from Python: what `db1 collect` and `db1 train` do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from db1.errors import ConfigError, DataError

if TYPE_CHECKING:
    from db1.collection import CollectRequest, CollectSummary
    from db1.experts.custom import Policy

Progress = Callable[[str, int], None]
"""Called with (task id, episodes in its store)."""


def collect(
    tasks: str | Sequence[str],
    out: str | Path = "data/demonstrations",
    *,
    episodes: int = 100,
    expert: str | Policy | None = None,
    action_noise: float = 0.0,
    max_steps: int | None = None,
    reference_episodes: int = 20,
    processes: int = 0,
    progress: Progress | None = None,
) -> list[CollectSummary]:
    """Makes demonstrations of tasks, and measures their random and expert returns.

    What is stored stays: calling it again goes on up to `episodes`.

    Args:
        tasks: Task ids.
        out: Folder of the stores.
        episodes: Each store shall hold.
        expert: A function from observation to action, or a text of `db1.experts.custom`; None:
            db1's own expert of each task.
        action_noise: Noise on the executed actions; the expert's stay recorded.
        max_steps: Steps after which a demonstration is cut off.
        reference_episodes: Episodes that measure the random and the expert return.
        processes: Tasks at once, each in a process of its own; a script then needs
            `if __name__ == "__main__":`, and an expert must be a text. 0: all in this process.
        progress: Called after every episode.

    Returns:
        One summary a task.

    Raises:
        ConfigError: For an unknown task, or an expert that cannot be used.
        DataError: When a task failed; those before it (or with processes all others) are complete.
    """
    from db1.collection import CollectRequest
    from db1.collection import collect as collect_task

    names = [tasks] if isinstance(tasks, str) else list(tasks)
    report = progress or (lambda task, done: None)
    if not processes:
        return [
            collect_task(
                task,
                episodes,
                Path(out),
                action_noise=action_noise,
                max_steps=max_steps,
                reference_episodes=reference_episodes,
                expert=expert,
                progress=lambda done, task=task: report(task, done),
            )
            for task in names
        ]
    if callable(expert):
        raise ConfigError(
            "expert: a function cannot be sent to other processes; give module:function, or "
            "processes=0"
        )
    request = CollectRequest(
        episodes=episodes,
        action_noise=action_noise,
        max_steps=max_steps,
        reference_episodes=reference_episodes,
        expert=expert,
    )
    return _collect_at_once(dict.fromkeys(names, request), Path(out), processes, report)


def _collect_at_once(
    requests: Mapping[str, CollectRequest], out: Path, processes: int, report: Progress
) -> list[CollectSummary]:
    """Collects `processes` tasks at a time; raises DataError when one failed."""
    from db1.collection import CollectExecution, collect_many

    execution = CollectExecution(processes=processes)
    summaries, failures = collect_many(requests, out, execution, progress=report)
    if failures:
        lines = "; ".join(failures.values())
        raise DataError(f"{len(failures)} of {len(requests)} tasks failed: {lines}")
    return summaries


def train(config: str | Path | Mapping[str, Any], *overrides: str) -> Path:
    """Trains an experiment on one process, or goes on where its run folder left off.

    Args:
        config: A YAML file, or what one would hold.
        overrides: `key=value`, dotted.

    Returns:
        The run folder, which `load` takes.

    Raises:
        ConfigError: Naming what is wrong with the configuration.
        DataError: When a store is missing or broken.
    """
    from db1.suites.plugins import load_plugins
    from db1.training.experiment import load_experiment, run_experiment

    experiment = load_experiment(config, overrides)
    load_plugins(experiment.plugins)
    return run_experiment(config, overrides)
