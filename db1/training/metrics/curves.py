"""The curves of a training, or of several side by side, from their metrics.jsonl.

loss, training and held out     training loss by suite     scores of acting, by task or suite
gradient norm                   learning rate              tokens a second, and waiting for data
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from db1.errors import DataError
from db1.failures import make_folder
from db1.files import atomic_write_bytes, resolved
from db1.json_shape import check_shape
from db1.metrics_log import METRICS_FILE, read_metrics
from db1.pages import page
from db1.training.callbacks.rollouts import EVENT as ROLLOUTS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = ("png", "svg", "pdf", "html")
MAX_LINES = 10
"""Tasks that have a line of their own in the panel of scores; more are averaged by suite."""
_STYLES = ("-", "--", ":", "-.")

Points = list[tuple[int, float]]

_NUMBER = (int, float, type(None))
_RECORD = {
    "step": int,
    **{
        f"{name}?": _NUMBER
        for name in ("loss", "gradient_norm", "gradient_norm_max", "learning_rate", "mean_score",
                     "step_seconds", "tokens_per_second", "mfu")
    },
    **{f"{name}?": ({str: _NUMBER}, type(None)) for name in ("loss_by_suite", "score")},
}  # fmt: skip
"""Values of a record that are drawn or compared."""


@dataclass(frozen=True, kw_only=True)
class RunRecords:
    """Records of one run.

    Args:
        name: Of the run.
        train: Records of training steps.
        heldout: Of held-out losses.
        acting: Of rollouts.
    """

    name: str
    train: Sequence[Mapping[str, Any]]
    heldout: Sequence[Mapping[str, Any]]
    acting: Sequence[Mapping[str, Any]]


def read_run_records(folder: Path) -> RunRecords:
    """Reads a run folder; raises DataError when nothing was logged there."""
    if not (folder / METRICS_FILE).is_file():
        raise DataError(
            f"{folder}: no {METRICS_FILE}, expected a run folder such as `db1 train` makes"
        )
    try:
        kinds = [read_metrics(folder, kind) for kind in ("train", "evaluation", ROLLOUTS)]
    except (ValueError, KeyError) as error:
        raise DataError(f"{folder / METRICS_FILE}: a line is not a record ({error})") from error
    for record in (record for records in kinds for record in records):
        check_shape(record, _RECORD, folder / METRICS_FILE)
    if not kinds[0]:
        raise DataError(f"{folder / METRICS_FILE}: no training step was logged yet")
    return RunRecords(name=resolved(folder).name, train=kinds[0], heldout=kinds[1], acting=kinds[2])


def training_curves(runs: Sequence[RunRecords]) -> Figure:
    """Draws all panels.

    Args:
        runs: At least one; each has its style of line.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    figure = Figure(figsize=(15, 8), layout="constrained")
    panels: Mapping[str, Callable[[Axes, Sequence[RunRecords]], None]] = {
        "loss (nats a target)": _losses,
        "training loss by suite": _suites,
        "score of acting (0 % random, 100 % expert)": _scores,
        "gradient norm": lambda axes, runs: _single(axes, runs, "gradient_norm"),
        "learning rate": lambda axes, runs: _single(axes, runs, "learning_rate"),
        "tokens a second": lambda axes, runs: _single(axes, runs, "tokens_per_second"),
    }
    for axes, (title, draw) in zip(figure.subplots(2, 3).flat, panels.items(), strict=True):
        draw(axes, runs)
        axes.set_title(_with_figures(title, runs), fontsize=10)
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(fontsize=7)
        else:
            axes.text(0.5, 0.5, "none logged", ha="center", va="center", transform=axes.transAxes)
    figure.axes[2].yaxis.set_major_formatter(PercentFormatter(1.0))
    figure.axes[3].set_yscale("log")
    figure.axes[5].set_ylim(bottom=0)
    for axes in figure.axes[3:]:
        axes.set_xlabel("optimizer step")
    figure.suptitle(", ".join(run.name for run in runs))
    return figure


def write_curves(folders: Sequence[Path], out: Path) -> None:
    """Draws runs into a file whose ending names the format.

    Args:
        folders: Run folders.
        out: `.png`, `.svg`, `.pdf`, or `.html` (one page without outside references).

    Raises:
        DataError: For a folder without records, or another ending.
    """
    kind = out.suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        raise DataError(f"{out}: got ending {out.suffix!r}, expected one of {list(FORMATS)}")
    runs = [read_run_records(folder) for folder in folders]
    figure, buffer = training_curves(runs), io.BytesIO()
    figure.savefig(buffer, format="svg" if kind == "html" else kind)
    content = buffer.getvalue()
    if kind == "html":
        content = _page(runs, content.decode("utf-8")).encode("utf-8")
    make_folder(out.parent)
    atomic_write_bytes(out, content)


def series(records: Sequence[Mapping[str, Any]], key: str, sub: str | None = None) -> Points:
    """(step, value) of the records that have a value, by step.

    Args:
        records: Of one kind.
        key: Name of the value.
        sub: Name inside it, where it is a mapping.
    """
    found = []
    for record in records:
        value = record.get(key)
        if sub is not None:
            value = (value or {}).get(sub)
        if value is not None:
            found.append((int(record["step"]), float(value)))
    return sorted(found)


def _losses(axes: Axes, runs: Sequence[RunRecords]) -> None:
    for number, run in enumerate(runs):
        _line(axes, series(run.train, "loss"), f"{_prefix(run, runs)}training", "C0", number)
        heldout = series(run.heldout, "loss")
        _line(axes, heldout, f"{_prefix(run, runs)}held out", "C1", number, marker="o")


def _suites(axes: Axes, runs: Sequence[RunRecords]) -> None:
    names = sorted({s for run in runs for r in run.train for s in r.get("loss_by_suite") or {}})
    for number, run in enumerate(runs):
        for place, name in enumerate(names):
            points = series(run.train, "loss_by_suite", name)
            _line(axes, points, _prefix(run, runs) + name, f"C{place % 10}", number)


def _scores(axes: Axes, runs: Sequence[RunRecords]) -> None:
    for number, run in enumerate(runs):
        tasks = sorted({t for r in run.acting for t in r.get("score") or {}})
        if len(tasks) <= MAX_LINES:
            lines = {task: series(run.acting, "score", task) for task in tasks}
        else:
            lines = _by_suite(run.acting)
        for place, (name, points) in enumerate(lines.items()):
            label = _prefix(run, runs) + name
            _line(axes, points, label, f"C{place % 10}", number, marker="o")
        mean = series(run.acting, "mean_score")
        _line(axes, mean, f"{_prefix(run, runs)}mean", "black", number, marker="o")


def _by_suite(acting: Sequence[Mapping[str, Any]]) -> dict[str, Points]:
    """Mean score of each suite's tasks."""
    lines: dict[str, Points] = {}
    for record in acting:
        scores: dict[str, list[float]] = {}
        for task, score in (record.get("score") or {}).items():
            scores.setdefault(task.split("/", 1)[0], []).append(score)
        for suite, values in sorted(scores.items()):
            lines.setdefault(suite, []).append((record["step"], sum(values) / len(values)))
    return lines


def _single(axes: Axes, runs: Sequence[RunRecords], key: str) -> None:
    for number, run in enumerate(runs):
        _line(axes, series(run.train, key), run.name, f"C{number % 10}", number)


def _line(
    axes: Axes, points: Points, label: str, colour: str, number: int, marker: str | None = None
) -> None:
    if points:
        steps, values = zip(*points, strict=True)
        style = _STYLES[number % len(_STYLES)]
        marker = marker or ("o" if len(points) == 1 else None)
        axes.plot(
            steps, values, style, color=colour, label=label, marker=marker, markersize=3, lw=1.2
        )


def _prefix(run: RunRecords, runs: Sequence[RunRecords]) -> str:
    return f"{run.name}: " if len(runs) > 1 else ""


def _with_figures(title: str, runs: Sequence[RunRecords]) -> str:
    """The panel of speed also tells the utilisation and the waiting, of one run."""
    if title != "tokens a second" or len(runs) > 1:
        return title
    last = runs[0].train[-1]
    if last.get("mfu") is not None:
        title += f", MFU {100 * last['mfu']:.1f} %"
    wait, step = last.get("data_wait_seconds"), last.get("step_seconds")
    return (
        f"{title}, {100 * wait / step:.1f} % waiting for data"
        if step and wait is not None
        else title
    )


_COLUMNS = ("run", "step", "loss", "held out", "score", "tokens/s")
_STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1b1f24; --line: #d5d9de; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171b; --ink: #e4e7ea; --line: #333a42; } }
body { margin: 1rem; background: var(--paper); color: var(--ink);
  font: 15px/1.4 system-ui, sans-serif; }
h1 { font-size: 1.5rem; overflow-wrap: anywhere; }
.wide { overflow-x: auto; margin-bottom: 1rem; }
svg { display: block; min-width: 54rem; width: 100%; height: auto; border-radius: 8px; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
td, th { padding: .2rem .8rem; text-align: right; border-bottom: 1px solid var(--line); }
tr > :first-child { padding-left: 0; text-align: left; }
@media print { svg { min-width: 0; } }
"""


def _page(runs: Sequence[RunRecords], svg: str) -> str:
    """One page: the curves, and the last figures of each run."""
    rows = "".join(
        f'<tr><th scope="row">{escape(run.name)}</th>'
        + "".join(f"<td>{value}</td>" for value in _last_values(run))
        + "</tr>"
        for run in runs
    )
    title = ", ".join(run.name for run in runs)
    heads = "".join(f'<th scope="col">{escape(name)}</th>' for name in _COLUMNS)
    said = "Losses, scores of acting, gradient norm, learning rate and speed over the steps"
    body = (
        f'<main><h1>{escape(title)}</h1><div class="wide" tabindex="0" role="region" '
        f'aria-label="Last figures"><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody>'
        '</table></div><div class="wide" tabindex="0" role="region" aria-label="Curves">'
        f'<div role="img" aria-label="{escape(said)}">{svg[svg.index("<svg") :]}</div></div></main>'
    )
    return page(title, body, style=_STYLE)


def _last_values(run: RunRecords) -> tuple[str, ...]:
    def last(points: Points) -> str:
        return f"{points[-1][1]:,.4g}" if points else "-"

    scores = series(run.acting, "mean_score")
    return (
        f"{run.train[-1]['step']:,}",
        last(series(run.train, "loss")),
        last(series(run.heldout, "loss")),
        f"{100 * scores[-1][1]:.1f} %" if scores else "-",
        last(series(run.train, "tokens_per_second")),
    )
