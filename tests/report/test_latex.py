from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from db1.report import write_report
from db1.report.blocks import Cell, Column, Table
from db1.report.latex import LONG, escape_latex, latex_table


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a_b & 50 % #1 $", r"a\_b \& 50 \% \#1 \$"),
        ("{x} ~ ^ \\", r"\{x\} \textasciitilde{} \textasciicircum{} \textbackslash{}"),
        ("-0.5 % .. 3 %", "[$-$0.5, 3]"),
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


@pytest.mark.slow
def test_tables_compile(folder: Path, write_evaluation: Callable[..., Path]) -> None:
    """LaTeX takes them, short and long, without a complaint."""
    if shutil.which("pdflatex") is None:
        pytest.skip("needs pdflatex: apt-get install -y texlive-latex-recommended")
    many = write_evaluation("many", {f"a_b/c#{i}": [float(i), 1.0] for i in range(LONG + 20)})
    for place in (folder, many):
        write_report(place, latex_file=place / "tables.tex")
        (place / "main.tex").write_text(
            "\\documentclass{article}\\usepackage[T1]{fontenc}\\usepackage{booktabs,graphicx,"
            "longtable}\\begin{document}\\input{tables}\\end{document}"
        )
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "main.tex"]
        done = subprocess.run(command, cwd=place, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-2000:]
        assert (place / "main.pdf").is_file()
