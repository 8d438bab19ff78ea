"""Tables that fit a terminal of 80 columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich import box
from rich.table import Table

ELLIPSIS = "…"


def narrow_table(*columns: str, title: str | None = None) -> Table:
    """A table without lines between columns: names on the left, numbers right-aligned.

    Args:
        columns: Heads; the first is of the names.
        title: Over it.
    """
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False)
    for place, column in enumerate(columns):
        justify = "right" if place else "left"
        table.add_column(column, justify=justify, no_wrap=place == 0)
    return table


def fit_names(names: Sequence[str], width: int) -> list[str]:
    """Names in at most `width` characters, shortened in the middle, no two the same.

    Args:
        names: Different from each other.
        width: Characters; at least 5.

    Returns:
        One a name. Where two cannot be told apart in `width` characters, they stay whole.

    Example: fit_names(["metaworld/drawer-close-v3"], 20) gives `metaworld/…-close-v3`.
    """
    room = width - len(ELLIPSIS)
    longer = [name for name in names if len(name) > width]
    shown = {name: name for name in names}
    for head in sorted(range(1, room), key=lambda head: abs(head - (room + 1) // 2)):
        taken = set(shown.values())
        waiting = [name for name in longer if shown[name] == name]
        short = {name: name[:head] + ELLIPSIS + name[len(name) - room + head :] for name in waiting}
        uses = Counter(short.values())
        shown |= {n: text for n, text in short.items() if text not in taken and uses[text] == 1}
    return [shown[name] for name in names]


def name_width(table_width: int, others: Sequence[Sequence[str]], least: int = 16) -> int:
    """Characters that are left for names beside columns of numbers.

    Args:
        table_width: Of the terminal.
        others: The texts of each other column, its head among them.
        least: The fewest that names get.
    """
    taken = sum(3 + max(len(text) for text in column) for column in others)
    return max(least, table_width - taken - 3)
