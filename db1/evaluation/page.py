"""The HTML report: one file without outside references, for light and dark, desk and phone."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

UNKNOWN = -1e300
_COLUMNS = (
    ("task", "task"),
    ("random", "random"),
    ("expert", "expert"),
    ("mean", "mean return"),
    ("normalised", "normalised"),
    ("interval", "95 % interval"),
    ("success", "success"),
    ("episodes", "episodes"),
)

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --bar: #3465a4; }
body { font: 15px/1.45 system-ui, sans-serif; max-width: 62rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; border-bottom: 1px solid var(--line); text-align: right; }
th:first-child, td:first-child { text-align: left; }
th button { all: unset; cursor: pointer; font-weight: 600; white-space: nowrap; }
th button:focus-visible { outline: 2px solid var(--bar); }
th[aria-sort=ascending] button::after { content: " \\25B2"; }
th[aria-sort=descending] button::after { content: " \\25BC"; }
figure { margin: 1rem 0; } img { max-width: 100%; height: auto; background: #fff; }
dl { display: grid; grid-template-columns: minmax(8rem, auto) 1fr; gap: .2rem 1rem; }
dt { opacity: .75; } dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 40rem) { dl { grid-template-columns: 1fr; } dd { margin-bottom: .5rem; } }
"""

_SCRIPT = """
const table = document.querySelector("table.sortable");
if (table) for (const button of table.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const head = button.parentElement, column = head.cellIndex, body = table.tBodies[0];
    const down = head.getAttribute("aria-sort") !== "descending";
    for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = row => row.cells[column].dataset.value;
    const order = (a, b) => isNaN(key(a)) || isNaN(key(b))
      ? key(a).localeCompare(key(b)) : key(a) - key(b);
    const rows = [...body.rows].sort((a, b) => down ? order(b, a) : order(a, b));
    body.append(...rows);
  });
}
"""


def html_page(
    headline: str,
    rows: Sequence[Mapping[str, Any]],
    facts: Mapping[str, Mapping[str, str]],
    plots: Mapping[str, bytes],
) -> str:
    """Builds the page.

    Args:
        headline: First line.
        rows: One mapping a task (`report.task_rows`).
        facts: Small tables by title (`report.facts`).
        plots: PNG bytes by file name.
    """
    parts = [f"<h1>{escape(headline)}</h1>"]
    if rows:
        parts.append(_task_table(rows))
    parts += [_figure(name, png) for name, png in plots.items()]
    parts += [_facts(title, group) for title, group in facts.items()]
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(headline)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"{body}\n<script>{_SCRIPT}</script>\n</body>\n</html>\n"
    )


def _task_table(rows: Sequence[Mapping[str, Any]]) -> str:
    head = "".join(
        f'<th scope="col"><button type="button">{name}</button></th>' for _, name in _COLUMNS
    )
    lines = "\n".join(f"<tr>{_cells(row)}</tr>" for row in rows)
    return (
        f'<div class="scroll"><table class="sortable">\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{lines}\n</tbody></table></div>"
    )


def _cells(row: Mapping[str, Any]) -> str:
    """Each cell shows rounded text and carries the exact value to sort by."""
    low, high = row["low"], row["high"]
    interval = "-" if low is None else f"{_percent(low)} .. {_percent(high)}"
    shown = {
        "task": (row["task"], row["task"]),
        **{key: (_number(row[key]), _key(row[key])) for key in ("random", "expert", "mean")},
        **{key: (_percent(row[key]), _key(row[key])) for key in ("normalised", "success")},
        "interval": (interval, _key(low)),
        "episodes": (str(row["episodes"]), row["episodes"]),
    }
    return "".join(
        f'<td data-value="{escape(str(shown[key][1]))}">{escape(str(shown[key][0]))}</td>'
        for key, _ in _COLUMNS
    )


def _figure(name: str, png: bytes) -> str:
    title = name.removesuffix(".png").replace("_", " ")
    data = base64.b64encode(png).decode("ascii")
    return f'<figure><img alt="{escape(title)}" src="data:image/png;base64,{data}"></figure>'


def _facts(title: str, group: Mapping[str, str]) -> str:
    pairs = "".join(f"<dt>{escape(k)}</dt><dd>{escape(str(v))}</dd>" for k, v in group.items())
    return f"<section><h2>{escape(title)}</h2><dl>{pairs}</dl></section>"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _key(value: float | None) -> float:
    """What a cell is sorted by: nothing comes below every number."""
    return UNKNOWN if value is None else value
