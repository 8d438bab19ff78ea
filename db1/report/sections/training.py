"""Training of the evaluated weights: losses over steps, where the run is at hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from db1.report.blocks import Chart, Line, Section
from db1.report.material import Material

_MAX_POINTS = 240
_MAX_LINES = 6


def training(material: Material) -> Section | None:
    """Training and held-out loss, and the training loss of each suite."""
    train = [record for record in material.metrics if record["kind"] == "train"]
    if len(train) < 2:
        return None
    marks = _evaluated_step(material.results)
    lines = [Line(name="training", points=_thinned(_series(train, "loss")))]
    heldout = [record for record in material.metrics if record["kind"] == "evaluation"]
    if heldout:
        lines.append(Line(name="held out", points=_thinned(_series(heldout, "loss"))))
    last = lines[0].points[-1]
    chart = Chart(
        title="Loss",
        summary=f"Training loss from {lines[0].points[0][1]:.3g} to {last[1]:.3g} at step "
        f"{last[0]:g}.",
        x_title="step",
        y_title="loss (nats a token)",
        lines=tuple(lines),
        x_marks=marks,
    )
    by_suite = _by_suite(train, marks)
    charts = (chart, by_suite) if by_suite else (chart,)
    return Section(name="training", title="Training", blocks=charts)


def _series(records: Sequence[Mapping[str, Any]], name: str) -> list[tuple[float, float]]:
    return [(float(r["step"]), float(r[name])) for r in records if r.get(name) is not None]


def _evaluated_step(results: Mapping[str, Any]) -> tuple[float, ...]:
    """Step of the evaluated checkpoint."""
    tag = (results["provenance"]["checkpoint"] or {}).get("tag") or ""
    number = tag.removeprefix("step-")
    return (float(number),) if number.isdigit() else ()


def _by_suite(train: Sequence[Mapping[str, Any]], marks: tuple[float, ...]) -> Chart | None:
    """Training loss of each suite as the records have it (`loss_by_suite`)."""
    groups: dict[str, list[tuple[float, float]]] = {}
    for record in train:
        for suite, loss in (record.get("loss_by_suite") or {}).items():
            if loss is not None:
                groups.setdefault(suite, []).append((float(record["step"]), float(loss)))
    groups = {suite: points for suite, points in sorted(groups.items()) if len(points) > 1}
    if len(groups) < 2:
        return None
    largest = sorted(groups, key=lambda suite: -groups[suite][-1][1])[:_MAX_LINES]
    ends = ", ".join(f"{suite} {groups[suite][-1][1]:.3g}" for suite in sorted(groups))
    return Chart(
        title="Training loss by suite"
        + (f" (the {_MAX_LINES} largest of {len(groups)})" if len(groups) > _MAX_LINES else ""),
        summary=f"At the end: {ends}.",
        x_title="step",
        y_title="loss (nats a token)",
        lines=tuple(Line(name=suite, points=_thinned(groups[suite])) for suite in sorted(largest)),
        x_marks=marks,
    )


def _thinned(points: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """Means over stretches, so that a line has at most 240 points."""
    if len(points) <= _MAX_POINTS:
        return tuple(points)
    stretches = np.array_split(np.array(points), _MAX_POINTS)
    return tuple((float(part[-1, 0]), float(part[:, 1].mean())) for part in stretches)
