"""Numbers and the headline as people read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def headline(results: Mapping[str, Any]) -> str:
    """`7 of 8 tasks at or above 50 % of expert`, and how many more have no score or failed."""
    summary, failed = results["summary"], len(results["failures"])
    raw = len(results["tasks"]) - summary["num_tasks"]
    if not results["tasks"] and not failed:
        scored = [name for name in ("text", "captions", "questions") if results.get(name)]
        if scored:
            return f"{', '.join(scored)} scored; no task"
    noun = "task" if summary["num_tasks"] == 1 else "tasks"
    return (
        f"{summary['num_at_least_50']} of {summary['num_tasks']} {noun} "
        f"at or above 50 % of expert{f'; {raw} more without a reference' if raw else ''}"
        f"{f'; {failed} more failed' if failed else ''}"
    )


def percent(value: float | None) -> str:
    """0.5 -> `50.0 %`; `-` where there is none."""
    return "-" if value is None else f"{100 * value:.1f} %"


def number(value: float | None) -> str:
    """Four digits; `-` where there is none."""
    return "-" if value is None else f"{value:.4g}"


def figure(value: float | None, is_share: bool) -> str:
    """A metric's value: a percentage, or four digits."""
    return percent(value) if is_share else number(value)


def signed(value: float, is_share: bool = True) -> str:
    """0.5 -> `+50.0 %`, or four digits with their sign."""
    return f"{100 * value:+.1f} %" if is_share else f"{value:+.4g}"


def figure_interval(ends: Sequence[float] | None, is_share: bool) -> str:
    """The interval of a metric's value, as `figure`."""
    if ends is None:
        return "-"
    return f"{figure(ends[0], is_share)} .. {figure(ends[1], is_share)}"


def interval(ends: Sequence[float] | None) -> str:
    """[0.1, 0.2] -> `10.0 % .. 20.0 %`; `-` where there is none."""
    return figure_interval(ends, is_share=True)


def duration(seconds: float) -> str:
    """75 -> `1 min 15 s`."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.3g} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def plain(value: Any) -> str:
    """A setting as text: yes and no for truth, `-` for none."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {plain(part)}" for key, part in value.items())
    return "-" if value is None else str(value)


def count(number: int, noun: str) -> str:
    """1 task, 2 tasks."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
