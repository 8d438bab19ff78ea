"""A report as Markdown, with the plots beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from db1.report.blocks import (
    Chart,
    Document,
    Facts,
    Films,
    Gallery,
    Prose,
    Shares,
    Strips,
    Table,
    Tiles,
)


def markdown(document: Document, plots: tuple[str, ...] = ()) -> str:
    """The text of report.md.

    Args:
        document: The report.
        plots: Names of image files beside it.
    """
    parts = [f"# {document.title}", document.subtitle]
    parts += [block_markdown(block) for block in document.lead]
    parts += [f"![{name.removesuffix('.png')}]({name})" for name in plots]
    for section in document.sections:
        parts += [f"## {section.title}"]
        parts += [block_markdown(block) for block in section.blocks]
    return "\n\n".join(part for part in parts if part) + "\n"


def block_markdown(block: Any) -> str:
    """One block; empty for what only a page can show."""
    return _RENDERERS[type(block)](block)


def _tiles(tiles: Tiles) -> str:
    lines = []
    for tile in tiles.tiles:
        note = f" ({_plain(tile.note)})" if tile.note else ""
        lines.append(f"- {_plain(tile.label)}: {_plain(tile.value)}{note}")
    return "\n".join(lines)


def _prose(prose: Prose) -> str:
    return f"**{_plain(prose.text)}**" if prose.is_warning else _plain(prose.text)


def _facts(facts: Facts) -> str:
    return "\n".join(f"- {_plain(key)}: {_plain(value)}" for key, value in facts.pairs.items())


def _table(table: Table) -> str:
    heads = " | ".join(_inside(column.title) for column in table.columns)
    rules = "|".join("---" if column.is_text else "--:" for column in table.columns)
    rows = [" | ".join(_inside(cell.text) for cell in row) for row in table.rows]
    return "\n".join([f"| {heads} |", f"|{rules}|", *(f"| {row} |" for row in rows)])


def _chart(chart: Chart) -> str:
    return f"{_plain(chart.title)}. {_plain(chart.summary)}"


def _shares(shares: Shares) -> str:
    parts = ", ".join(f"{name}: {number}" for name, number in shares.parts)
    return f"{_plain(shares.title)}: {_plain(parts)}."


def _gallery(gallery: Gallery) -> str:
    lines = []
    for picture in gallery.pictures:
        words = "; ".join(f"{label}: {text}" for label, text in picture.lines)
        shown = f"![{_plain(picture.description)}]({picture.path}) " if picture.path else ""
        lines.append(f"- {shown}{_plain(picture.description)}: {_plain(words)}")
    return "\n".join(lines)


def _films(films: Films) -> str:
    lines = ["| task | episode | what | film |", "|---|---|---|---|"]
    for card in films.cards:
        for film in card.films:
            what = _inside(", ".join(film.lines))
            lines.append(f"| {_inside(card.task)} | {film.role} | {what} | ![film]({film.path}) |")
    return "\n".join(lines)


def _plain(text: str) -> str:
    """On one line, and no tag."""
    return " ".join(text.split()).replace("<", "&lt;") if text.strip() else text


def _inside(text: str) -> str:
    """In a cell of a table."""
    return _plain(text).replace("|", "\\|")


_RENDERERS: dict[type, Callable[[Any], str]] = {
    Table: _table,
    Facts: _facts,
    Prose: _prose,
    Tiles: _tiles,
    Chart: _chart,
    Shares: _shares,
    Strips: lambda _: "",
    Gallery: _gallery,
    Films: _films,
}
