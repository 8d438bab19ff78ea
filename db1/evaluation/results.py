"""results.json: read, checked against the settings at hand, and written atomically."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

import db1
from db1.errors import ConfigError, DataError
from db1.failures import make_folder
from db1.files import atomic_write_text
from db1.json_shape import Number, check_shape, parse_json_file, seal, unseal
from db1.metrics.episodes import TaskEpisodes
from db1.metrics.summary import task_metrics
from db1.untrusted import below, check_name, check_relative

logger = logging.getLogger(__name__)

RESULTS_FILE = "results.json"

_MAYBE_NUMBER = (*Number, type(None))
_MAYBE_INTERVAL = ([Number, Number], type(None))
_NOTES = {str: str}
TASK_SHAPE = {
    "episodes": int,
    "seeds": [int],
    "returns": [Number],
    "lengths": [Number],
    "successes?": ([(bool, type(None))], type(None)),
    "prompts?": (list, type(None)),
    "random": _MAYBE_NUMBER,
    "expert": _MAYBE_NUMBER,
    "reference": (dict, type(None)),
    "normalised": _MAYBE_NUMBER,
    "interval": _MAYBE_INTERVAL,
    "metrics?": {str: Number},
    "seconds?": _MAYBE_NUMBER,
}
_METRICS = {
    str: {
        "title": str,
        "is_share": bool,
        "num_tasks": int,
        "value": Number,
        "interval": _MAYBE_INTERVAL,
    }
}
_PERPLEXITY = {
    "perplexity?": Number,
    "unigram_perplexity?": Number,
    "ratio?": Number,
    "bits_per_byte?": Number,
    "num_tokens?": int,
}
_BY_MEASURE = {str: _MAYBE_NUMBER}
_CAPTIONS = {
    "split": str,
    "num_images": int,
    "scores": _BY_MEASURE,
    "baseline": {"caption": str, "scores": _BY_MEASURE},
    "tokenizer": str,
    "not_run": dict,
    "distinct_captions": int,
    "examples": [{"id": (int, str), "image": str, "caption": str, "references": [str]}],
}
_ACCURACY = {"accuracy": Number, "by_question_type": _BY_MEASURE, "by_answer_type": _BY_MEASURE}
_QUESTIONS = {
    **_ACCURACY,
    "split": str,
    "num_questions": int,
    "mode": str,
    "counts": {"question_type": {str: int}, "answer_type": {str: int}},
    "baseline": _ACCURACY,
    "blind": _ACCURACY,
    "closed_answers": (int, type(None)),
    "num_cut": int,
    "examples": [
        {"id": (int, str), "image": str, "question": str, "answer": str, "answers": [str]}
    ],
}
_INTERVALS = {
    "share_at_least_50": _MAYBE_INTERVAL,
    "mean_normalised": _MAYBE_INTERVAL,
    "median_normalised": _MAYBE_INTERVAL,
    "interquartile_mean": _MAYBE_INTERVAL,
}
_GROUP_SHAPE = {
    "num_tasks": int,
    "num_at_least_50?": int,
    "share_at_least_50": Number,
    "mean_normalised": Number,
    "median_normalised": Number,
    "interquartile_mean": Number,
    "intervals": {"mean_normalised": [Number, Number]},
    "metrics?": _METRICS,
}
SUMMARY_SHAPE = {
    "num_tasks": int,
    "num_at_least_50?": int,
    "share_at_least_50": _MAYBE_NUMBER,
    "mean_normalised": _MAYBE_NUMBER,
    "median_normalised": _MAYBE_NUMBER,
    "interquartile_mean": _MAYBE_NUMBER,
    "intervals": _INTERVALS,
    "metrics?": _METRICS,
    "by_suite": {str: _GROUP_SHAPE},
    "threshold_curve?": {"thresholds": [Number], "num_tasks": [int]},
}
CONTROL_SHAPE = {
    "settings": dict,
    "tasks": {str: TASK_SHAPE},
    "summary": SUMMARY_SHAPE,
    "failures": _NOTES,
    "compared": {"model": int, "control": int, "neither": int},
}
RESULTS_SHAPE = {
    "tasks": {str: TASK_SHAPE},
    "summary": SUMMARY_SHAPE,
    "text?": ({**_PERPLEXITY, "corpora?": {str: _PERPLEXITY}}, type(None)),
    "captions?": ({str: _CAPTIONS}, type(None)),
    "questions?": ({str: _QUESTIONS}, type(None)),
    "controls?": ({str: CONTROL_SHAPE}, type(None)),
    "failures?": _NOTES,
    "version_mismatches?": _NOTES,
    "missing_references?": _NOTES,
    "missing_prompts?": _NOTES,
    "settings": dict,
    "provenance": {
        "checkpoint?": (
            {
                "run": str,
                "tag?": (str, type(None)),
                "sha256?": (str, type(None)),
                "random_weights?": bool,
            },
            type(None),
        ),
        "config?": dict,
        "versions?": _NOTES,
        "command?": [str],
        "few_shot?": {str: list},
        "learned?": ([str], type(None)),
    },
}
"""Shape of results.json that readers rely on."""

_DEFAULTS: Mapping[str | None, Mapping[str, Any]] = {
    None: {"failures": {}, "version_mismatches": {}},
    "provenance": {"checkpoint": None, "versions": {}, "command": []},
}
"""Values of what is not there, in results.json and in a part of it."""


def read_results(folder: Path) -> dict[str, Any]:
    """Reads a results folder (or the file itself).

    Raises:
        DataError: When there is none, or it is no results file.
    """
    path = folder / RESULTS_FILE if folder.is_dir() else folder
    if not path.is_file():
        raise DataError(f"{path}: no results; run `db1 eval RUN --out {folder}` first")
    try:
        results = parse_json_file(path)
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error}); evaluate again") from error
    check_shape(results, dict, path)
    results, is_whole = unseal(results)
    if not is_whole:
        logger.warning("%s: changed since it was written, by hand or by corruption", path)
    missing = {"tasks", "summary", "provenance", "settings"} - set(results)
    if missing:
        raise DataError(f"{path}: not a results file of db1: it lacks {sorted(missing)}")
    check_shape(results, RESULTS_SHAPE, path)
    controls = (results.get("controls") or {}).values()
    for summary in (results["summary"], *(control["summary"] for control in controls)):
        for group in (summary, *summary["by_suite"].values()):  # of older versions
            share = group["share_at_least_50"] or 0.0
            group.setdefault("num_at_least_50", round(share * group["num_tasks"]))
    for part, defaults in _DEFAULTS.items():
        of = results if part is None else results[part]
        of |= {key: value for key, value in defaults.items() if key not in of}
    for task, entry in results["tasks"].items():
        check_relative(task, f"{path}: tasks")
        if entry["normalised"] is not None and entry["interval"] is None:
            raise DataError(f"{path}: tasks.{task}.interval is null, expected that of its score")
        if "metrics" not in entry:  # of older versions
            entry["metrics"] = task_metrics(task, TaskEpisodes.of_entry(entry))
    for section in ("captions", "questions"):
        for name in results.get(section) or ():
            check_name(name, f"{path}: {section}")
    return results


def write_results(folder: Path, results: Mapping[str, Any]) -> None:
    """Writes results.json so that a reader sees the old file or the new one, never half of it."""
    make_folder(folder)
    text = json.dumps(seal(results), indent=1, allow_nan=False)
    atomic_write_text(below(folder, RESULTS_FILE), text + "\n")


def resume(
    folder: Path,
    settings: Mapping[str, Any],
    checkpoint: Mapping[str, Any] | None,
    overwrite: bool,
) -> dict[str, Any]:
    """Returns the earlier results in `folder` that an evaluation can go on from; {} for none.

    Raises:
        ConfigError: When they are of another checkpoint or other settings and `overwrite` is off.
    """
    if overwrite or not (folder / RESULTS_FILE).exists():
        return {}
    earlier = read_results(folder)
    differences = [
        f"{key}: {earlier['settings'].get(key)!r} there, {settings.get(key)!r} now"
        for key in sorted({*earlier["settings"], *settings})
        if earlier["settings"].get(key) != settings.get(key)
    ]
    there, now = (_digest(entry) for entry in (earlier["provenance"].get("checkpoint"), checkpoint))
    if there != now:
        differences.insert(0, f"weights: {there} there, {now} now")
    if differences:
        raise ConfigError(
            f"{folder / RESULTS_FILE} holds results of another evaluation "
            f"({'; '.join(differences)}); choose another --out or pass --overwrite"
        )
    return earlier


def versions(environments: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Versions of db1, Python, torch, NumPy and of the packages under the evaluated tasks."""
    found = {
        "db1": db1.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }
    for environment in environments.values():
        found |= {k: v for k, v in environment.items() if _is_package(k)}
    return found


def command_line() -> list[str]:
    """The command that runs now."""
    return list(sys.argv)


def _is_package(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return False
    return True


def _digest(checkpoint: Mapping[str, Any] | None) -> str | None:
    return None if checkpoint is None else str(checkpoint.get("sha256"))
