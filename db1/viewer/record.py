"""The best, the median and the worst episode of each evaluated task, run again and filmed.

    <evaluation>/videos/<suite>/<task>/best.webp median.webp worst.webp recording.json

An episode follows from its seed when actions are greedy, so the returns must be those of
results.json; recording.json says for each episode whether they are.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from db1.errors import ConfigError
from db1.evaluation.evaluate import load_model
from db1.evaluation.results import read_results
from db1.evaluation.settings import EvaluationConfig
from db1.evaluation.task import make_agent
from db1.inference.load import LoadedRun
from db1.rollout.episode import EpisodeResult, RolloutPolicy, Transition
from db1.rollout.loop import watch
from db1.rollout.policies import ModelPolicy, make_model_free_policy
from db1.suites import TaskEnv
from db1.viewer.entries import (
    VIDEOS_FOLDER,
    earlier_entry,
    mark_attempt,
    stamp_of,
    write_entry,
)
from db1.viewer.film import FilmConfig, FrameKeeper, shrunk, write_film
from db1.viewer.picture import Painter
from db1.viewer.selection import choose_tasks, pick_episodes

logger = logging.getLogger(__name__)

FILM_SECONDS = 8.0
_SAME_RETURN = 1e-6
"""Relative difference up to which two returns are the same."""

Progress = Callable[[str, int, int], None]
"""Called with (task, finished episodes, all episodes)."""


def record(
    folder: Path,
    film: FilmConfig,
    *,
    tasks: Sequence[str] | None = None,
    suites: Sequence[str] | None = None,
    per_suite: int | None = None,
    run: Path | None = None,
    data: Path | None = None,
    overwrite: bool = False,
    device: str | None = None,
    progress: Progress | None = None,
) -> dict[str, dict[str, Any]]:
    """Films tasks of an evaluation.

    Args:
        folder: Folder of results.json.
        film: How films are made.
        tasks: Only these.
        suites: Only tasks of these suites.
        per_suite: The most tasks of a suite, evenly spread over its scores; None: all.
        run: The run folder where it is no longer the one that results.json names.
        data: Folder of the demonstration stores that prompts come from; None: the run's.
        overwrite: Film again what is there.
        device: torch device; None: CUDA where there is one.
        progress: Called whenever a task begins and ends.

    Returns:
        recording.json by task; a task that failed has only `task` and `failure`.

    Raises:
        ConfigError: For a task that was not evaluated, or weights other than the evaluated ones.
        DataError: Without results.
    """
    results = read_results(folder)
    folder = folder if folder.is_dir() else folder.parent
    chosen = choose_tasks(results, tasks, suites, per_suite)
    config = settings_of(results)
    loaded = _load(results, config, run, device)
    root = data or Path((results["provenance"]["config"].get("data") or {}).get("root") or ".")
    recordings = {}
    for task in chosen:
        place = folder / VIDEOS_FOLDER / task
        stamp = stamp_of(results, task, vars(film))
        kept = None if overwrite else earlier_entry(place, stamp)
        if kept is None:
            _report(progress, task, 0)
            mark_attempt(place, {"task": task, "stamp": stamp}, overwrite)
            has_prompt = config.prompt and task not in results.get("missing_prompts", {})
            mine = replace(config, prompt=has_prompt)
            kept = _film_task(task, results, mine, loaded, root, film, place)
            kept = {"task": task, "stamp": stamp} | kept
            write_entry(place, kept)
        _report(progress, task, 1)
        recordings[task] = kept
    return recordings


def _make_policy(
    task: str,
    results: Mapping[str, Any],
    config: EvaluationConfig,
    loaded: LoadedRun | None,
    root: Path,
    rows: int,
) -> RolloutPolicy:
    """The evaluation's policy, for `rows` episodes at once."""
    if loaded is not None:
        return ModelPolicy(make_agent(task, config, root / task, loaded, rows))
    known = results["provenance"].get("few_shot", {}).get(task)
    options = {"seed": config.seed, "folder": str(root / task), "episodes": known}
    return make_model_free_policy(task, name=config.policy, **options)


class _Camera:
    """Films the episodes of one task; an `Observer`."""

    def __init__(self, film: FilmConfig, lengths: Sequence[int]) -> None:
        self.painter = Painter()
        self.keepers = [FrameKeeper(film.frames, length) for length in lengths]
        self._size = film.size

    def __call__(self, env: TaskEnv, moment: Transition) -> None:
        keeper = self.keepers[moment.row]
        if moment.is_last or keeper.wants(moment.step):
            frame = self.painter.picture(env, moment.observation)
            keeper.add(moment.step, shrunk(frame, self._size))


def _film_task(
    task: str,
    results: Mapping[str, Any],
    config: EvaluationConfig,
    loaded: LoadedRun | None,
    root: Path,
    film: FilmConfig,
    place: Path,
) -> dict[str, Any]:
    """Runs and films the chosen episodes; what goes wrong costs this task alone."""
    entry = results["tasks"][task]
    picks = pick_episodes(entry["returns"])
    numbers = list(picks.values())
    camera = _Camera(film, [entry["lengths"][i] for i in numbers])
    try:
        policy = _make_policy(task, results, config, loaded, root, len(numbers))
        last = watch(task, policy, [entry["seeds"][i] for i in numbers], camera)
        episodes = {
            role: _write(place / f"{role}.webp", entry, number, result, keeper)
            for (role, number), result, keeper in zip(
                picks.items(), last, camera.keepers, strict=True
            )
        }
    except Exception as error:  # one broken simulator must not cost the other tasks
        logger.error("%s: not recorded: %s", task, error)
        return {"failure": f"{type(error).__name__}: {error}"}
    for role, episode in episodes.items():
        if not episode["same"]:
            logger.warning(
                "%s: the %s episode (seed %d) now returned %g, in the evaluation %g",
                task, role, episode["seed"], episode["return"], episode["evaluated_return"],
            )  # fmt: skip
    return {"no_picture": camera.painter.reason, "episodes": episodes}


def _write(
    path: Path, entry: Mapping[str, Any], number: int, last: EpisodeResult, keeper: FrameKeeper
) -> dict[str, Any]:
    frames = keeper.frames
    milliseconds = int(np.clip(1000 * FILM_SECONDS / len(frames), 40, 250))
    write_film(path, frames, milliseconds)
    expected = entry["returns"][number]
    is_close = abs(last.total_reward - expected) <= _SAME_RETURN * max(1.0, abs(expected))
    return {
        "file": path.name,
        "episode": number,
        "seed": entry["seeds"][number],
        "return": last.total_reward,
        "evaluated_return": expected,
        "length": last.length,
        "same": bool(is_close and last.length == entry["lengths"][number]),
        "success": last.success,
        "frames": len(frames),
        "steps_a_frame": keeper.stride,
        "milliseconds": milliseconds,
        "size": list(frames[0].size),
    }


def settings_of(results: Mapping[str, Any]) -> EvaluationConfig:
    """The evaluation's own settings."""
    known = {field.name for field in fields(EvaluationConfig)}
    unknown = set(results["settings"]) - known
    if unknown:
        raise ConfigError(f"results.json has settings that this db1 lacks: {sorted(unknown)}")
    return EvaluationConfig(**results["settings"])


def _load(
    results: Mapping[str, Any], config: EvaluationConfig, run: Path | None, device: str | None
) -> LoadedRun | None:
    """The evaluated weights; None for policies without a model."""
    wanted = results["provenance"]["checkpoint"]
    if config.policy != "model" or wanted is None:
        return None
    folder = Path(run or wanted["run"])
    if not folder.is_dir():
        raise ConfigError(f"{folder}: the evaluated run is not there; say where with --run")
    loaded = load_model(folder, config, wanted["tag"] if run is None else None, device)
    if loaded is not None and loaded.sha256 != wanted["sha256"]:
        raise ConfigError(
            f"{folder}: its weights {loaded.sha256} are not the evaluated ones "
            f"{wanted['sha256']}; evaluate again, or name the run with --run"
        )
    return loaded


def _report(progress: Progress | None, task: str, done: int) -> None:
    if progress is not None:
        progress(task, done, 1)
