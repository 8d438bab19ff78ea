"""Learning curves by number of episodes: fine-tuned weights against the same model from scratch.

    points = starts x numbers of episodes x seeds; a point is a run folder with its evaluation

    out/runs/pretrained-10-episodes-seed-0/{config.yaml, checkpoints/, evaluation/results.json}
    out/results.json                      all scores, means, intervals and paired differences
    out/curve.png

A seed chooses the episodes, the order of samples and the fresh weights, so that the starts are
compared seed by seed. Points that are there are kept: the same call goes on where it was cut off.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from db1.benchmarks.intervals import mean_interval
from db1.errors import ConfigError, DataError, Db1Error, check_one_of
from db1.files import atomic_write_bytes, atomic_write_text
from db1.options import option
from db1.ranges import Checked, Count, Natural

logger = logging.getLogger(__name__)

STARTS: Mapping[str, tuple[str, ...]] = {
    "pretrained": ("from_scratch=false", "lora=null"),
    "scratch": ("from_scratch=true", "lora=null"),
    "lora": ("from_scratch=false",),
}
"""Overrides of the experiment, by how a run starts; `lora` takes the experiment's own options."""
CONTROL = "scratch"
RESULTS_FILE = "results.json"
PLOT_FILE = "curve.png"

Progress = Callable[[str, int, int], None]
"""Called with (what, points done, all points)."""


@dataclass(frozen=True, kw_only=True)
class FewShotBenchmark(Checked):
    """Axes of the sweep, and the evaluation of each point.

    Args:
        config: A fine-tuning experiment (see `db1.training.state.finetune`).
        overrides: Dotted overrides of all points.
        episodes: Numbers of episodes.
        num_seeds: Training seeds 0, 1, ...
        starts: Some of `STARTS`.
        evaluation_episodes: Rollouts a point, on evaluation seeds.
        prompt: Prime the memory with one of the learned episodes.
        memory_length: Tokens that acting looks back on; None: the model's.
        processes: Points at once, one thread each.
        out: Folder of runs and results.
    """

    config: Path
    overrides: tuple[str, ...] = ()
    episodes: tuple[Count, ...] = option((10,), "Number of demonstrations (repeatable).")
    num_seeds: Count = option(5, "Training seeds 0, 1, ...", name="seeds")
    starts: tuple[str, ...] = option(
        ("pretrained", "scratch"),
        "pretrained, scratch or lora (repeatable); default: the first two.",
        name="start",
    )
    evaluation_episodes: Count = option(20, "Rollouts per training, on evaluation seeds.")
    prompt: bool = option(False, "Prompt with an episode that was learned.", two_way=True)
    memory_length: Natural | None = option(
        None, "Tokens of memory when acting; default: the model's.", name="memory"
    )
    processes: Count = option(2, "Trainings to run at once, one thread each.")
    out: Path = option(Path("runs/few_shot"), "Folder of runs and results.")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.starts:
            check_one_of("starts", name, STARTS)
        for name in ("episodes", "starts"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise ConfigError(f"{name}: got {list(values)}, expected distinct values")

    @property
    def seeds(self) -> range:
        """Of the trainings."""
        return range(self.num_seeds)


@dataclass(frozen=True, kw_only=True)
class Point:
    """One training and its evaluation.

    Args:
        start: Key of `STARTS`.
        episodes: That are learned from.
        seed: Of the training.
    """

    start: str
    episodes: int
    seed: int

    @property
    def name(self) -> str:
        """Of its run folder."""
        return f"{self.start}-{self.episodes}-episodes-seed-{self.seed}"


def points_of(bench: FewShotBenchmark) -> list[Point]:
    """All points, seed by seed."""
    return [
        Point(start=start, episodes=episodes, seed=seed)
        for seed in bench.seeds
        for episodes in sorted(bench.episodes)
        for start in bench.starts
    ]


def check(bench: FewShotBenchmark) -> None:
    """Refuses an experiment that is no fine-tuning of one task, before anything is trained.

    Raises:
        ConfigError: Naming what is missing.
        CheckpointError: `init_from` holds no valid checkpoint.
    """
    from db1.training.experiment import load_experiment

    config = load_experiment(bench.config, _overrides(bench, points_of(bench)[0]))
    if config.finetune is None or config.finetune.task is None:
        raise ConfigError(
            f"{bench.config}: learning curves need the keys init_from and task; see "
            "configs/finetune.yaml"
        )


def bench_few_shot(bench: FewShotBenchmark, progress: Progress | None = None) -> dict[str, Any]:
    """Trains and evaluates all points that are not there yet; writes results.json and the plot.

    Returns:
        The content of results.json.

    Raises:
        Db1Error: The experiment cannot be trained or evaluated; points that are done are kept.
    """
    points = points_of(bench)
    check(bench)
    entries = []
    for done, entry in enumerate(_run_all(bench, points), start=1):
        entries.append(entry)
        if progress is not None:
            progress("points", done, len(points))
    order = {point.name: place for place, point in enumerate(points)}
    entries.sort(key=lambda entry: order[entry["run"]])
    results = summarise(bench, entries)
    atomic_write_text(bench.out / RESULTS_FILE, json.dumps(results, indent=1) + "\n")
    from db1.benchmarks.few_shot_plot import curve_plot

    atomic_write_bytes(bench.out / PLOT_FILE, curve_plot(results))
    return results


def run_point(bench: FewShotBenchmark, point: Point) -> dict[str, Any]:
    """Trains and evaluates one point, or reads what an earlier call left.

    Returns:
        `run`, `start`, `episodes`, `seed`, `score` (0 random, 1 expert), `success_rate` (None where
        the task has no successes), `returns`.
    """
    import torch

    from db1.evaluation.evaluate import evaluate
    from db1.evaluation.execution import TaskSelection
    from db1.evaluation.settings import EvaluationConfig
    from db1.training.experiment import load_experiment, run_experiment

    torch.set_num_threads(1)
    overrides = _overrides(bench, point)
    run = run_experiment(bench.config, overrides)
    task = load_experiment(bench.config, overrides).finetune.task
    config = EvaluationConfig(
        episodes=bench.evaluation_episodes,
        prompt=bench.prompt,
        memory_length=bench.memory_length,
        reference="measured",
    )
    selection = TaskSelection(tasks=[task])
    results = evaluate(run, config, out=run / "evaluation", selection=selection)
    if task in results["failures"]:
        raise DataError(f"{point.name}: {results['failures'][task]}")
    entry = results["tasks"][task]
    successes = [value for value in entry["successes"] if value is not None]
    return {
        "run": point.name,
        "start": point.start,
        "episodes": point.episodes,
        "seed": point.seed,
        "score": entry["normalised"],
        "success_rate": sum(successes) / len(successes) if successes else None,
        "returns": entry["returns"],
        "evaluation_seeds": [entry["seeds"][0], entry["seeds"][-1]],
    }


def summarise(bench: FewShotBenchmark, entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means with 95 % intervals over seeds, and differences to `scratch` paired by seed."""
    groups = {
        (start, episodes): {
            entry["seed"]: entry
            for entry in entries
            if entry["start"] == start and entry["episodes"] == episodes
        }
        for start in bench.starts
        for episodes in sorted(bench.episodes)
    }
    curve = [
        {"start": start, "episodes": episodes}
        | {
            key: mean_interval([entry[key] for entry in by_seed.values()])
            for key in ("score", "success_rate")
            if all(entry[key] is not None for entry in by_seed.values())
        }
        for (start, episodes), by_seed in groups.items()
    ]
    gains = [
        {"start": start, "episodes": episodes}
        | mean_interval(
            [
                entry["score"] - groups[CONTROL, episodes][seed]["score"]
                for seed, entry in by_seed.items()
            ]
        )
        for (start, episodes), by_seed in groups.items()
        if start != CONTROL and CONTROL in bench.starts
    ]
    return {
        "config": str(bench.config),
        "overrides": list(bench.overrides),
        "seeds": list(bench.seeds),
        "evaluation_episodes": bench.evaluation_episodes,
        "curve": curve,
        "gains": gains,
        "points": list(entries),
    }


def _overrides(bench: FewShotBenchmark, point: Point) -> list[str]:
    starts = list(STARTS[point.start])
    if point.start == "lora" and not any(o.startswith("lora") for o in bench.overrides):
        starts.append("lora.rank=8")
    return [
        *bench.overrides,
        *starts,
        f"name={point.name}",
        f"runs={bench.out / 'runs'}",
        f"episodes={point.episodes}",
        f"training.seed={point.seed}",
        "training.num_threads=1",
    ]


def _run_all(bench: FewShotBenchmark, points: Sequence[Point]) -> Iterator[dict[str, Any]]:
    """Entries of all points as they are done; several processes, one thread each."""
    if bench.processes == 1:
        yield from (run_point(bench, point) for point in points)
        return
    pool = ProcessPoolExecutor(bench.processes, get_context("spawn"), _quiet)
    try:
        futures = {pool.submit(run_point, bench, point): point for point in points}
        for future in as_completed(futures):
            try:
                yield future.result()
            except BrokenProcessPool:
                raise DataError(
                    f"{futures[future].name}: its process died (out of memory?); the same command "
                    "goes on, with --processes 1 in less memory"
                ) from None
    except Db1Error:
        pool.shutdown(wait=True, cancel_futures=True)
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _quiet() -> None:
    """Lets a worker say warnings only: the bars of several would mix."""
    from db1.runtime import keep_freed_memory, setup_logging

    setup_logging(0, logging.WARNING)
    keep_freed_memory()
