"""Report on one store: facts, figures of its fields, histograms, findings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from db1.errors import DataError
from db1.inspection.findings import ERROR, Finding

Report = Callable[[str, int, int], None]
"""Called with (what is done, how much of it, all of it)."""


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """Counts of a quantity between edges, with marked values.

    Args:
        title: Of the quantity.
        edges: One more than counts, ascending.
        counts: Values in [edge, next edge), the last one included at the end.
        marks: Values to compare with, by name.
    """

    title: str
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    marks: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class StoreReport:
    """Description of one store.

    Args:
        path: Its folder.
        kind: `episodes`, `text` or `pairs`.
        checked: Whether every byte was verified.
        summary: Figures for a table with one row a store: entries, items, num_bytes, score.
        facts: What it is, by name.
        fields: Row of figures of each field.
        histograms: Of returns and lengths.
        findings: What was found.
    """

    path: Path
    kind: str
    checked: bool
    summary: dict[str, Any]
    facts: dict[str, Any]
    fields: dict[str, dict[str, Any]] = field(default_factory=dict)
    histograms: tuple[Histogram, ...] = ()
    findings: tuple[Finding, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-able form."""
        return {
            "path": str(self.path),
            "kind": self.kind,
            "checked": self.checked,
            **self.facts,
            "summary": self.summary,
            "fields": self.fields,
            "histograms": [dict(h.__dict__) for h in self.histograms],
            "findings": [finding.to_dict() for finding in self.findings],
        }


def broken(path: Path, error: DataError) -> StoreReport:
    """The row of a store that cannot be read, in a table of several."""
    finding = Finding(
        severity=ERROR, code="broken", what=str(error), where=str(path), fix="the message says how"
    )
    return StoreReport(
        path=path, kind="broken", checked=False, summary={}, facts={}, findings=(finding,)
    )


def histogram(
    title: str, values: np.ndarray, marks: dict[str, float] | None = None, num_bars: int = 12
) -> Histogram | None:
    """Counts the finite ones of values (N,); the range covers the marks. None without values."""
    values, marks = np.asarray(values, dtype=np.float64), marks or {}
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    ends = [*marks.values(), values.min(), values.max()]
    low, high = min(ends), max(ends)
    is_whole = not marks and (values == np.round(values)).all() and high - low < num_bars
    if is_whole or low == high:
        high, num_bars = high + 1, int(high - low) + 1
    counts, edges = np.histogram(values, bins=num_bars, range=(low, high))
    return Histogram(
        title=title,
        edges=tuple(edges.tolist()),
        counts=tuple(counts.tolist()),
        marks={name: float(value) for name, value in marks.items()},
    )
