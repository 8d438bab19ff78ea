"""Two trainings in numbers, from their metrics.jsonl and config.yaml."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from db1.config import load_yaml
from db1.training.metrics.curves import Points, RunRecords, read_run_records, series

Pair = tuple[float | None, float | None]
CONFIG_FILE = "config.yaml"
_UNLIKE = frozenset({"name", "runs"})
"""Settings that always differ."""


def compare_trainings(a: Path, b: Path) -> dict[str, Any]:
    """Compares two run folders.

    Losses are read at the last step that both have logged, as the mean of the last tenth of the
    records up to it; speeds are medians over the whole run.

    Returns:
        `a`, `b` (names), `step` (in common), `last_steps`, `figures` (name -> [a, b], None where
        one has not logged it) and `settings` (dotted key -> [a, b] where they differ).

    Raises:
        DataError: For a folder without records.
    """
    runs = [read_run_records(folder) for folder in (a, b)]
    last = [max(int(record["step"]) for record in run.train) for run in runs]
    step = min(last)
    return {
        "a": str(a),
        "b": str(b),
        "step": step,
        "last_steps": last,
        "figures": {
            name: list(pair) for name, pair in _figures(runs, step).items() if pair != (None, None)
        },
        "settings": _differences(*(_settings(folder) for folder in (a, b))),
    }


def _figures(runs: Sequence[RunRecords], step: int) -> dict[str, Pair]:
    figures = {"training loss": _both(runs, lambda run: _smooth(series(run.train, "loss"), step))}
    for suite in _names(runs, "train", "loss_by_suite"):
        figures[f"training loss, {suite}"] = _both(
            runs, lambda run, s=suite: _smooth(series(run.train, "loss_by_suite", s), step)
        )
    figures["held-out loss"] = _both(runs, lambda run: _last(series(run.heldout, "loss"), step))
    for suite in _names(runs, "heldout", "loss_by_suite"):
        figures[f"held-out loss, {suite}"] = _both(
            runs, lambda run, s=suite: _last(series(run.heldout, "loss_by_suite", s), step)
        )
    figures["lowest held-out loss"] = _both(
        runs, lambda run: min((v for _, v in series(run.heldout, "loss")), default=None)
    )
    figures["score of acting"] = _both(runs, lambda run: _last(series(run.acting, "mean_score")))
    figures["highest gradient norm"] = _both(
        runs, lambda run: max((v for _, v in series(run.train, "gradient_norm_max")), default=None)
    )
    for title, key in (
        ("tokens a second", "tokens_per_second"),
        ("seconds a step", "step_seconds"),
        ("model FLOPs utilisation", "mfu"),
    ):
        figures[title] = _both(runs, lambda run, k=key: _median(series(run.train, k)))
    return figures


def _both(runs: Sequence[RunRecords], read: Any) -> Pair:
    first, second = (read(run) for run in runs)
    return first, second


def _names(runs: Sequence[RunRecords], kind: str, key: str) -> list[str]:
    return sorted({n for run in runs for r in getattr(run, kind) for n in r.get(key) or {}})


def _smooth(points: Points, step: int) -> float | None:
    """Mean of the last tenth of the values up to a step."""
    values = [value for at, value in points if at <= step]
    return statistics.fmean(values[-max(1, len(values) // 10) :]) if values else None


def _last(points: Points, step: int | None = None) -> float | None:
    values = [value for at, value in points if step is None or at <= step]
    return values[-1] if values else None


def _median(points: Points) -> float | None:
    return statistics.median(value for _, value in points) if points else None


def _settings(folder: Path) -> dict[str, Any]:
    """The resolved configuration by dotted key; {} where it is not there."""
    path = folder / CONFIG_FILE
    return dict(_flat(load_yaml(path, is_own=False), "")) if path.is_file() else {}


def _flat(value: Any, key: str) -> list[tuple[str, Any]]:
    if not isinstance(value, Mapping) or not value:
        return [(key, value)]
    parts = ((name, f"{key}.{name}" if key else str(name)) for name in value)
    return [pair for name, dotted in parts for pair in _flat(value[name], dotted)]


def _differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, list[Any]]:
    keys = [*a, *(key for key in b if key not in a)]
    return {
        key: [a.get(key), b.get(key)]
        for key in keys
        if key not in _UNLIKE and a.get(key) != b.get(key)
    }
