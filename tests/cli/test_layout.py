"""Names shortened in the middle."""

from __future__ import annotations

import io

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from db1.cli.console import Console
from db1.cli.layout import fit_names, name_width, narrow_table

NAMES = ["metaworld/drawer-close-v3", "metaworld/drawer-open-v3", "tsp/uniform20"]


def test_names_are_shortened_in_the_middle() -> None:
    assert fit_names(NAMES, 30) == NAMES
    shown = fit_names(NAMES, 20)
    assert shown[2] == NAMES[2] and len(set(shown)) == 3
    assert all(len(name) <= 20 for name in shown)
    for name, short in zip(NAMES[:2], shown, strict=False):
        head, _, tail = short.partition("…")
        assert name.startswith(head) and name.endswith(tail) and head and tail


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.text("ab/", min_size=1, max_size=20), unique=True, max_size=8), st.integers(5, 20)
)
def test_no_two_are_the_same(names: list[str], width: int) -> None:
    shown = fit_names(names, width)
    assert len(set(shown)) == len(names)
    pairs = zip(names, shown, strict=True)
    assert all(short == name or len(short) <= width for name, short in pairs)


def test_a_table_fits() -> None:
    out = io.StringIO()
    console = Console(file=out, width=60)
    cells = ["100.0 %", "12.5 .. 13.5", "99"]
    table = narrow_table("task", "score", "interval", "n")
    columns = [[head, cell] for head, cell in zip(("score", "interval", "n"), cells, strict=True)]
    for name in fit_names(NAMES, name_width(60, columns)):
        table.add_row(name, *cells)
    console.print(table)
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 60
    assert sum("12.5 .. 13.5" in line for line in lines) == 3
