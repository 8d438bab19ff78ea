"""Material of a report: the results, and what lies around them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from db1.evaluation.results import read_results
from db1.metrics_log import METRICS_FILE, read_metrics
from db1.viewer.entries import read_recordings

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Material:
    """Everything that sections look at.

    Args:
        folder: Folder of results.json.
        results: Its content.
        recordings: recording.json by task.
        metrics: Records of the run's metrics.jsonl; empty where the run is not at hand.
        others: Other evaluations to compare with.
        film_bytes: The most bytes of films that a page holds.
    """

    folder: Path
    results: Mapping[str, Any]
    recordings: Mapping[str, Mapping[str, Any]]
    metrics: Sequence[Mapping[str, Any]]
    others: tuple[Material, ...] = ()
    film_bytes: int = 24_000_000

    @property
    def controls(self) -> Mapping[str, Mapping[str, Any]]:
        """Controls of the evaluation by name; see `db1.evaluation.controls`."""
        return self.results.get("controls") or {}

    @property
    def name(self) -> str:
        """Name of what was evaluated: the run and its checkpoint, or the policy."""
        checkpoint = self.results["provenance"]["checkpoint"]
        if not checkpoint:
            return f"policy {self.results['settings'].get('policy', '?')}"
        words = [Path(checkpoint["run"]).name, checkpoint.get("tag") or ""]
        if checkpoint.get("random_weights"):
            words.append("random weights")
        return " · ".join(word for word in words if word)


def gather(
    folder: Path, others: Sequence[Path] = (), *, run: Path | None = None, film_bytes: int
) -> Material:
    """Reads an evaluation with its recordings and its run's metrics.

    Args:
        folder: Folder of results.json, or the file.
        others: Other evaluations to compare with.
        run: The run folder where it is no longer the one that results.json names.
        film_bytes: The most bytes of films that a page holds.

    Raises:
        DataError: Without results.
    """
    results = read_results(folder)
    folder = folder if folder.is_dir() else folder.parent
    return Material(
        folder=folder,
        results=results,
        recordings=read_recordings(folder, results),
        metrics=_metrics(results, run),
        others=tuple(gather(other, film_bytes=0) for other in others),
        film_bytes=film_bytes,
    )


def _metrics(results: Mapping[str, Any], run: Path | None) -> list[dict[str, Any]]:
    """The run's records; none where the run is not at hand."""
    checkpoint = results["provenance"]["checkpoint"]
    if run is None and checkpoint:
        run = Path(checkpoint["run"])
    if run is None or not (run / METRICS_FILE).is_file():
        return []
    try:
        return read_metrics(run)
    except ValueError:  # a line that a running training has not finished
        logger.warning("%s: cannot be read now, so no training curves", run / METRICS_FILE)
        return []
