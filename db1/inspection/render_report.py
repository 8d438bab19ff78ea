"""Tables, histograms and findings, in the terminal and as a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from db1.inspection.findings import ERROR, INFO, WARNING, Finding, by_severity
from db1.inspection.page import escape, page
from db1.inspection.runs import Overview
from db1.inspection.store_report import Histogram, StoreReport

STYLES = {ERROR: "bold red", WARNING: "yellow", INFO: "blue"}
BAR = 40
_BLOCKS = " ▏▎▍▌▋▊▉█"


@dataclass(frozen=True, kw_only=True)
class Section:
    """A table with a title; numbers stand to the right where `numeric`."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    numeric: bool = False


@dataclass(frozen=True, kw_only=True)
class Document:
    """Output of `db1 inspect` for one subject: tables, then histograms, then findings."""

    title: str
    sections: Sequence[Section]
    histograms: Sequence[Histogram] = field(default_factory=tuple)
    findings: Sequence[Finding] = field(default_factory=tuple)

    def show(self, console: Console) -> None:
        """Prints it."""
        console.print(Text(self.title, style="bold"), soft_wrap=True)
        for section in self.sections:
            console.print(_table(section))
        for drawn in self.histograms:
            console.print(_bars(drawn))
        show_findings(self.findings, console)

    def to_html(self) -> str:
        """A page of it."""
        parts = [findings_html(self.findings)]
        parts += [_table_html(section) for section in self.sections]
        parts += [_bars_html(drawn) for drawn in self.histograms]
        return page(self.title, "\n".join(parts))


def show_findings(findings: Sequence[Finding], console: Console) -> None:
    """Prints findings, errors first; one line when there is none."""
    if not findings:
        console.print("findings: none", highlight=False)
    for finding in by_severity(findings):
        line = Text(f"{finding.severity} [{finding.code}] ", style=STYLES[finding.severity])
        line.append(f"{finding.where}: {finding.what}", style="not bold default")
        line.append(f"\n    {finding.fix}", style="not bold bright_black")
        console.print(line, soft_wrap=True)


def findings_html(findings: Sequence[Finding]) -> str:
    """A list of findings."""
    if not findings:
        return '<p class="dim">findings: none</p>'
    items = "".join(
        f'<li class="{f.severity}"><b>{f.severity}</b> [{escape(f.code)}] {escape(f.where)}: '
        f'{escape(f.what)}<br><span class="dim">{escape(f.fix)}</span></li>'
        for f in by_severity(findings)
    )
    return f"<h2>findings</h2><ul>{items}</ul>"


def overview_document(overview: Overview) -> Document:
    """A run's mixture as a table."""
    columns = ("dataset", "share", "samples", "size", "steps or tokens", "epochs", "targets",
               "padding", "bins unused")  # fmt: skip
    rows = []
    for row in overview.rows:
        drawn = row.statistics
        dead = [f.dead_share for f in drawn.fields] if drawn else []
        rows.append(
            (
                row.name,
                f"{100 * row.share:.2f} %",
                f"{row.expected:,}",
                "" if row.size is None else f"{row.size:,}",
                "" if row.steps is None else f"{row.steps:,}",
                "" if row.epochs is None else f"{row.epochs:,.2f}",
                f"{100 * drawn.target_share:.1f} %" if drawn else "",
                f"{100 * drawn.padding_share:.1f} %" if drawn else "",
                f"{100 * min(dead):.0f} %..{100 * max(dead):.0f} %" if dead else "",
            )
        )
    title = f"{overview.name}: {overview.num_samples:,} sequences of {overview.length} tokens"
    section = Section(title="mixture", columns=columns, rows=rows, numeric=True)
    return Document(title=title, sections=[section], findings=overview.findings)


def store_document(report: StoreReport) -> Document:
    """One store."""
    facts = [(name.replace("_", " "), value_text(v)) for name, v in report.facts.items()]
    sections = [Section(title=report.kind, columns=("what", "value"), rows=facts)]
    if report.fields:
        names = list(dict.fromkeys(key for row in report.fields.values() for key in row))
        rows = [
            (name, *(value_text(row.get(key)) for key in names))
            for name, row in report.fields.items()
        ]
        columns = ("part" if report.kind == "text" else "field", *names)
        shown = [column.replace("_", " ") for column in columns]
        sections.append(Section(title="values", columns=shown, rows=rows))
    return Document(
        title=f"{report.path}: {_state(report)}",
        sections=sections,
        histograms=report.histograms,
        findings=report.findings,
    )


def stores_document(reports: Sequence[StoreReport], title: str) -> Document:
    """Several stores, a row each."""
    columns = ("store", "kind", "state", "entries", "items", "MiB", "mean return", "normalised",
               "errors", "warnings")  # fmt: skip
    rows = []
    for report in reports:
        summary = report.summary
        severities = [finding.severity for finding in report.findings]
        size = summary.get("num_bytes")
        rows.append(
            (
                str(report.path),
                report.kind,
                _state(report),
                value_text(summary.get("entries")),
                value_text(summary.get("items")),
                "" if size is None else f"{size / 2**20:,.2f}",
                value_text(summary.get("mean")),
                "" if summary.get("score") is None else f"{100 * summary['score']:.0f} %",
                str(severities.count(ERROR)),
                str(severities.count(WARNING)),
            )
        )
    note = "entries: episodes, documents or pairs; items: steps, tokens or images"
    section = Section(title=note, columns=columns, rows=rows, numeric=True)
    findings = [finding for report in reports for finding in report.findings]
    return Document(title=title, sections=[section], findings=findings)


def value_text(value: Any) -> str:
    """A figure in few characters; `-` for None."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {value_text(item)}" for key, item in value.items()) or "-"
    if isinstance(value, list | tuple):
        return ", ".join(value_text(item) for item in value) or "-"
    return str(value)


def _state(report: StoreReport) -> str:
    if report.kind == "broken":
        return "broken"
    return "valid" if report.checked else "not verified"


def _table(section: Section) -> Table:
    table = Table(*section.columns, title=section.title, title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right" if section.numeric else "left"
        column.overflow = "fold"
    table.columns[0].no_wrap = True
    for row in section.rows:
        table.add_row(*map(Text, row))
    return table


def _table_html(section: Section) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in section.columns)
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(value)}</td>" for value in row) + "</tr>"
        for row in section.rows
    )
    return (
        f'<h2>{escape(section.title)}</h2><div class="scroll"><table><tr>{head}</tr>{rows}'
        "</table></div>"
    )


def _bars(drawn: Histogram) -> Group:
    """One line a bar: its range, the bar, its count, and the marks that lie in it."""
    most = max(1, *drawn.counts)
    lines = [Text(drawn.title, style="bold")]
    for low, high, count, marks in _bars_of(drawn):
        eighths = round(count / most * BAR * 8)
        bar = "█" * (eighths // 8) + _BLOCKS[eighths % 8].strip()
        line = Text(f"{low:>10.4g} .. {high:<10.4g} ")
        line.append(f"{bar:<{BAR}}", style="cyan")
        line.append(f" {count:>7,}")
        line.append(f"  <- {marks}" if marks else "", style="yellow")
        lines.append(line)
    return Group(*lines)


def _bars_html(drawn: Histogram) -> str:
    most = max(1, *drawn.counts)
    rows = "".join(
        f"<tr><td>{low:.4g} .. {high:.4g}</td><td>{count:,}</td>"
        f'<td class="wide"><div class="bar" style="width:{count / most:.1%}"></div></td>'
        f"<td>{escape(marks)}</td></tr>"
        for low, high, count, marks in _bars_of(drawn)
    )
    return f'<h2>{escape(drawn.title)}</h2><div class="scroll"><table class="bars" ' + (
        f'style="width:100%">{rows}</table></div>'
    )


def _bars_of(drawn: Histogram) -> list[tuple[float, float, int, str]]:
    """Range, count and marks of each bar."""
    last = len(drawn.counts) - 1
    bars = []
    for i, count in enumerate(drawn.counts):
        low, high = drawn.edges[i], drawn.edges[i + 1]
        inside = [
            f"{name} {value:.4g}"
            for name, value in drawn.marks.items()
            if low <= value < high or (i == last and value == high)
        ]
        bars.append((low, high, count, ", ".join(inside)))
    return bars
