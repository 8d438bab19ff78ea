"""The tables of a report in LaTeX, for papers: booktabs, and longtable where they are long."""

from __future__ import annotations

import re

from db1.report.blocks import Document, Table, Tiles

LONG = 40
"""Tables with more rows may break across pages."""
_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "·": r"\(\cdot\)",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}
_NEGATIVE = re.compile(r"(?<![\w.-])-(?=\d)")
_RANGE = re.compile(r"(\S+) \\% \.\. (\S+) \\%")
_SHRUNK = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"
"""Opens a box that is as wide as the line at most."""


def latex(document: Document) -> str:
    """All tables of a report, to be read with `\\input`."""
    blocks = [*document.lead, *(b for section in document.sections for b in section.blocks)]
    tables = [block for block in blocks if isinstance(block, Table)]
    parts = [
        f"% {' '.join(document.title.split())} ({' '.join(document.subtitle.split())})",
        "% \\usepackage[T1]{fontenc}\n% \\usepackage{booktabs,graphicx,longtable}",
    ]
    parts += [_tiles(block) for block in document.lead if isinstance(block, Tiles)]
    parts += [latex_table(table) for table in tables if table.rows]
    return "\n\n".join(parts) + "\n"


def latex_table(table: Table) -> str:
    """One table."""
    kept = [i for i, column in enumerate(table.columns) if not column.is_minor]
    columns = [table.columns[i] for i in kept]
    spec = "".join("l" if column.is_text else "r" for column in columns)
    head = " & ".join(escape_latex(column.title) for column in columns) + r" \\"
    rows = [" & ".join(escape_latex(row[i].text) for i in kept) + r" \\" for row in table.rows]
    caption = f"\\caption{{{escape_latex(table.caption)}}}\\label{{tab:{table.name}}}"
    if len(rows) > LONG:
        return _long(spec, head, rows, caption)
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering\footnotesize\setlength{\tabcolsep}{4pt}",
            caption,
            _SHRUNK,
            f"\\begin{{tabular}}{{@{{}}{spec}@{{}}}}",
            r"\toprule",
            head,
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}}",
            r"\end{table}",
        ]
    )


def _long(spec: str, head: str, rows: list[str], caption: str) -> str:
    return "\n".join(
        [
            r"{\scriptsize\setlength{\tabcolsep}{4pt}",
            f"\\begin{{longtable}}{{@{{}}{spec}@{{}}}}",
            caption + r" \\",
            r"\toprule",
            head,
            r"\midrule",
            r"\endfirsthead",
            r"\toprule",
            head,
            r"\midrule",
            r"\endhead",
            r"\bottomrule",
            r"\endfoot",
            *rows,
            r"\end{longtable}}",
        ]
    )


def _tiles(tiles: Tiles) -> str:
    rows = [
        f"{escape_latex(tile.label)} & {escape_latex(tile.value)} & {escape_latex(tile.note)} \\\\"
        for tile in tiles.tiles
    ]
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering\footnotesize",
            r"\caption{Summary}\label{tab:summary}",
            r"\begin{tabular}{@{}lrl@{}}",
            r"\toprule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
    )


def escape_latex(text: str) -> str:
    """Plain text -> LaTeX: signs with a meaning, minus signs, intervals as [a, b]."""
    escaped = "".join(_SPECIAL.get(sign, sign) for sign in " ".join(text.split()))
    return _RANGE.sub(r"[\1, \2]", _NEGATIVE.sub("$-$", escaped))
