"""Demonstrations from experts: one task (`collect`), or many at once (`collect_many`)."""

from __future__ import annotations

from db1.collection.many import (
    CollectExecution,
    CollectManySummary,
    CollectRequest,
    collect_many,
)
from db1.collection.task import CollectSummary, collect

__all__ = [
    "CollectExecution",
    "CollectManySummary",
    "CollectRequest",
    "CollectSummary",
    "collect",
    "collect_many",
]
