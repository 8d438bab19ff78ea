"""Numbers, tables and sentences of blocks in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def percent(value: float | None) -> str:
    """0.5 -> `50.0 %`; `-` where there is none."""
    return "-" if value is None else f"{100 * value:.1f} %"


def digits(value: float | None) -> str:
    """Three significant digits: 1234.5 -> `1,234`, 12.345 -> `12.3`; `-` where there is none."""
    if value is None:
        return "-"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 1 else f"{value:.3g}"


def times(value: float) -> str:
    """A ratio: 1.234 -> `1.23`, 98.76 -> `99`."""
    return f"{value:,.0f}" if value >= 50 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown: names on the left, numbers right-aligned."""
    rule = ["---", *["--:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, rule, *rows]) + "\n"


def measured_by(*results: Mapping[str, Any]) -> str:
    """The line below a block: by which commands, when, and beside which load."""
    told = "; ".join(f"`{each['command']}`" for each in results)
    machines = [each["machine"] for each in results]
    dates = " to ".join(sorted({each["date"] for each in machines}))
    return f"Measured by {told} ({dates}, load at the start {between(machines, 'load')}).\n"


def between(entries: Iterable[Mapping[str, Any]], key: str) -> str:
    """The values of a key: `2.1`, or `2.1 to 3.4`."""
    values = sorted({entry[key] for entry in entries})
    return f"{values[0]}" if len(values) == 1 else f"{values[0]} to {values[-1]}"
