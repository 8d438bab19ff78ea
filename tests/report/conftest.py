"""Small evaluations to report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from db1.evaluation.results import write_results
from db1.metrics.episodes import TaskEpisodes
from db1.metrics.scores import bootstrap_interval, normalise
from db1.metrics.summary import summarise, task_metrics

RETURNS = {
    "toy/best": [90.0, 110.0, 95.0, 105.0],
    "toy/half": [50.0, 50.0],
    "other/none": [0.0, 4.0],
}
TEXT = {
    "perplexity": 31.25, "unigram_perplexity": 125.0, "ratio": 0.25,
    "bits_per_byte": 1.5, "num_tokens": 1_000,
}  # fmt: skip


def make_results(
    returns: Mapping[str, Sequence[float]], random: float = 0.0, expert: float = 100.0
) -> dict[str, Any]:
    """results.json of tasks with these returns."""
    tasks, scores = {}, {}
    for task, values in returns.items():
        scores[task] = normalise(values, random, expert)
        tasks[task] = {
            "episodes": len(values), "seeds": list(range(2_000_000, 2_000_000 + len(values))),
            "returns": list(values), "lengths": [1] * len(values),
            "random": random, "expert": expert, "reference": {},
            "successes": [True, None] if task == "toy/half" else [None] * len(values),
            "normalised": float(scores[task].mean()), "interval": bootstrap_interval(scores[task]),
        }  # fmt: skip
    episodes = {task: TaskEpisodes.of_entry(entry) for task, entry in tasks.items()}
    for task, entry in tasks.items():
        entry["metrics"] = task_metrics(task, episodes[task])
    return {
        "tasks": tasks,
        "summary": summarise(episodes),
        "text": TEXT | {"corpora": {"kjv": TEXT}},
        "failures": {"toy/<b>broken</b>": "RuntimeError: no & no"},
        "version_mismatches": {},
        "settings": {"prompt": True, "memory_length": 128, "policy": "model", "seed": None},
        "provenance": {
            "checkpoint": {
                "run": "runs/toy", "tag": "step-00000100", "sha256": "ab" * 32,
                "random_weights": False,
            },
            "config": {},
            "versions": {"db1": "0.1.0", "torch": "2"},
            "command": ["db1", "eval", "a run"],
        },
    }  # fmt: skip


@pytest.fixture
def write_evaluation(tmp_path: Path) -> Callable[..., Path]:
    """Writes results into a new folder: (name, returns) -> folder."""

    def write(name: str = "toy", returns: Mapping[str, Sequence[float]] = RETURNS) -> Path:
        folder = tmp_path / name
        write_results(folder, make_results(returns))
        return folder

    return write


@pytest.fixture
def folder(write_evaluation: Callable[..., Path]) -> Path:
    return write_evaluation()
