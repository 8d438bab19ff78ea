"""Charts as HTML around an SVG that stretches: lines scale with the page, text keeps its size."""

from __future__ import annotations

from html import escape

from db1.report.axes import Axis, axis
from db1.report.blocks import Bar, Chart, Line, Shares, Strips

_MAX_HINTS = 120
LOWEST, HIGHEST = -0.25, 1.25
"""Scores outside are drawn at the edge."""


def chart_html(chart: Chart) -> str:
    """Lines over axes, with a legend where there are several."""
    xs = [x for line in chart.lines for x, _ in line.points]
    ys = [y for line in chart.lines for _, y in line.points]
    across = axis(min(xs), max(xs), 6, is_round=False)
    top = max(ys) if chart.y_top is None else chart.y_top
    low = 0.0 if chart.y_from_zero else min(ys)
    up = axis(low, top, 5, is_round=chart.y_top is None, is_whole=chart.y_whole)
    grid = "".join(
        f'<line class="grid" x1="0" x2="100" y1="{_n(100 - up.share(y))}" '
        f'y2="{_n(100 - up.share(y))}"/>'
        for y in up.ticks
    )
    places = [_n(across.share(x)) for x in chart.x_marks]
    marks = "".join(f'<line class="mark" x1="{x}" x2="{x}" y1="0" y2="100"/>' for x in places)
    lines = "".join(
        f'<polyline class="line c{i}" points="{_points(line, across, up)}"/>'
        for i, line in enumerate(chart.lines)
    )
    y_labels = "".join(
        f'<span style="bottom:{_n(up.share(y))}%">{_label(y)}</span>' for y in up.ticks
    )
    x_labels = "".join(
        f'<span style="left:{_n(across.share(x))}%">{_label(x)}</span>' for x in across.ticks
    )
    return (
        f'<figure class="chart"><figcaption>{escape(chart.title)}</figcaption>'
        f'<div class="plot" role="img" aria-label="{escape(chart.title)}. {escape(chart.summary)}">'
        f'<div class="ytitle" aria-hidden="true">{escape(chart.y_title)}</div>'
        f'<div class="y" aria-hidden="true">{y_labels}</div>'
        '<svg viewBox="0 0 100 100" preserveAspectRatio="none" aria-hidden="true">'
        f"{grid}{marks}{lines}{_hints(chart, across)}</svg>"
        f'<div class="x" aria-hidden="true">{x_labels}</div>'
        f'<div class="xtitle" aria-hidden="true">{escape(chart.x_title)}</div></div>'
        f'{_legend(chart.lines)}<p class="said">{escape(chart.summary)}</p></figure>'
    )


def _points(line: Line, across: Axis, up: Axis) -> str:
    places: list[str] = []
    y_before = None
    for x, y in line.points:
        px, py = _n(across.share(x)), _n(100 - up.share(y))
        if line.is_stepped and y_before is not None:
            places.append(f"{px},{y_before}")
        places.append(f"{px},{py}")
        y_before = py
    return " ".join(places)


def _hints(chart: Chart, across: Axis) -> str:
    """Invisible stripes that tell the values under the pointer."""
    first = chart.lines[0].points
    if len(first) > _MAX_HINTS:
        return ""
    width = 100 / max(1, len(first) - 1)
    stripes = []
    for x, y in first:
        values = [(chart.lines[0].name, y)]
        values += [(line.name, dict(line.points).get(x)) for line in chart.lines[1:]]
        words = ", ".join(f"{name}: {value:g}" for name, value in values if value is not None)
        if len(chart.lines) == 1:
            words = f"{y:g}"
        stripes.append(
            f'<rect class="hint" x="{_n(across.share(x) - width / 2)}" y="0" width="{_n(width)}" '
            f'height="100"><title>{x:g}{escape(chart.x_unit)}: {escape(words)}</title></rect>'
        )
    return "".join(stripes)


def _legend(lines: tuple[Line, ...]) -> str:
    if len(lines) < 2:
        return ""
    entries = "".join(
        f'<li><i class="key c{i}"></i>{escape(line.name)}</li>' for i, line in enumerate(lines)
    )
    return f'<ul class="legend">{entries}</ul>'


def bar_html(bar: Bar) -> str:
    """A score as a bar with the whisker of its interval, purely in CSS."""
    kind = "good" if bar.value >= 0.5 else "poor"
    start, end = sorted((place(0.0), place(bar.value)))
    style = f"--a:{_n(start)}%;--w:{_n(end - start)}%"
    whisker = ""
    if bar.low is not None and bar.high is not None:
        low, high = place(bar.low), place(bar.high)
        whisker = f'<i class="whisker" style="left:{_n(low)}%;width:{_n(high - low)}%"></i>'
    return f'<span class="bar {kind}" style="{style}">{whisker}</span>'


def place(score: float) -> float:
    """Position of a score on a bar, in percent of its width."""
    return 100 * (min(HIGHEST, max(LOWEST, score)) - LOWEST) / (HIGHEST - LOWEST)


def strips_html(strips: Strips) -> str:
    """A bar for each row's mean and a dot for each of its tasks."""
    rows = []
    for row in strips.rows:
        dots = "".join(
            f'<i class="dot" style="left:{_n(place(value))}%" title="{escape(label)}"></i>'
            for label, value in row.dots
        )
        said = f"{100 * row.mean.value:.1f} %"
        rows.append(
            f'<li><div class="who"><b>{escape(row.name)}</b> <span>{escape(row.note)}</span></div>'
            f'<div class="track">{bar_html(row.mean)}{dots}</div>'
            f'<div class="said">{said}</div></li>'
        )
    ends = "".join(
        f'<span style="left:{_n(place(at))}%">{text}</span>'
        for at, text in ((0.0, "random"), (0.5, "50 %"), (1.0, "expert"))
    )
    return (
        f'<figure class="strips"><figcaption>{escape(strips.title)}</figcaption>'
        f'<ul>{"".join(rows)}<li class="ends" aria-hidden="true"><div></div>'
        f'<div class="track">{ends}</div><div></div></li></ul></figure>'
    )


def shares_html(shares: Shares) -> str:
    """One stacked bar with its legend."""
    total = sum(number for _, number in shares.parts) or 1
    parts = "".join(
        f'<i class="s{i}" style="flex-grow:{number}" title="{escape(name)}: {number}"></i>'
        for i, (name, number) in enumerate(shares.parts)
        if number
    )
    legend = "".join(
        f'<li><i class="key s{i}"></i>{escape(name)} <b>{number}</b></li>'
        for i, (name, number) in enumerate(shares.parts)
    )
    said = ", ".join(f"{name}: {number}" for name, number in shares.parts)
    return (
        f'<figure class="shares"><figcaption>{escape(shares.title)}</figcaption>'
        f'<div class="stack" role="img" aria-label="{escape(said)} of {total}">{parts}</div>'
        f'<ul class="legend">{legend}</ul></figure>'
    )


def _n(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _label(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"
