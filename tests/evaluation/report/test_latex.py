from __future__ import annotations

import pytest

from db1.evaluation.report.blocks import Cell, Column, Table
from db1.evaluation.report.latex import LONG, escape_latex, latex_table


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a_b & 50 % #1 $", r"a\_b \& 50 \% \#1 \$"),
        ("{x} ~ ^ \\", r"\{x\} \textasciitilde{} \textasciicircum{} \textbackslash{}"),
        ("-0.5 % .. 3 %", r"$-$0.5 \%\,\ldots\,3 \%"),
        ("reach-v3, 1e-9", "reach-v3, 1e-9"),
        ("a\nb <c>", r"a b \textless{}c\textgreater{}"),
    ],
)
def test_escape(text: str, expected: str) -> None:
    assert escape_latex(text) == expected


@pytest.mark.parametrize("count", [3, LONG + 1])
def test_long_tables_may_break(count: int) -> None:
    table = Table(
        name="t",
        caption="50 % of tasks",
        columns=(Column(title="task", is_text=True), Column(title="score")),
        rows=tuple((Cell(text=f"a/{i}"), Cell(text=str(i))) for i in range(count)),
    )
    text = latex_table(table)
    assert ("longtable" in text) == (count > LONG)
    assert r"\caption{50 \% of tasks}\label{tab:t}" in text and "@{}lr@{}" in text
    assert text.count(r"a/") == count
    for word in ("begin", "end"):
        assert text.count(rf"\{word}{{") == (1 if count > LONG else 2)
