"""Evaluation metrics: one file each. Importing this package registers all of them, and plug-ins."""

from __future__ import annotations

import importlib
import pkgutil

from db1.metrics.episodes.base import METRICS, Metric, ScoreMetric, TaskEpisodes
from db1.suites import SUITES

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["METRICS", "Metric", "ScoreMetric", "TaskEpisodes"]


def _load_plugins() -> None:
    """Loads installed plug-ins, as looking a suite up does."""
    len(SUITES)


METRICS.before_use(_load_plugins)
