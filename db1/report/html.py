"""A report as one HTML file without outside addresses, for light and dark, desk, phone, paper."""

from __future__ import annotations

import base64
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import db1
from db1.pages import data_uri, page
from db1.report.blocks import (
    LEVELS,
    Cell,
    Chart,
    Column,
    Document,
    Facts,
    Film,
    FilmCard,
    Films,
    Gallery,
    Picture,
    Prose,
    Section,
    Shares,
    Strips,
    Table,
    Tiles,
)
from db1.report.charts import bar_html, chart_html, shares_html, strips_html
from db1.report.sections.tasks import anchor

_STYLE, _SCRIPT = "page.css", "page.js"


def html_page(document: Document) -> str:
    """Builds the page."""
    parts = [block_html(block) for block in document.lead]
    links = "".join(
        f'<a href="#{section.name}">{escape(section.title)}</a>' for section in document.sections
    )
    parts += [_section(section) for section in document.sections]
    title, subtitle = escape(document.title), escape(document.subtitle)
    body = (
        '<a class="skip" href="#content">Skip to the content</a>\n'
        '<header><p class="eyebrow">db1 evaluation</p>'
        f'<h1>{title}</h1><p class="subtitle">{subtitle}</p></header>\n'
        f'<nav aria-label="Sections">{links}</nav>\n<main id="content">\n'
        + "\n".join(parts)
        + f"\n</main>\n<footer>Written by db1 {escape(db1.__version__)}</footer>"
    )
    return page(
        f"{document.title} - {document.subtitle}",
        body,
        style=_asset(_STYLE),
        script=_asset(_SCRIPT),
    )


def block_html(block: Any) -> str:
    """One block."""
    return _RENDERERS[type(block)](block)


def _section(section: Section) -> str:
    inside = "\n".join(block_html(block) for block in section.blocks)
    title = escape(section.title)
    if section.is_folded:
        return (
            f'<section id="{section.name}"><details><summary><h2>{title}</h2></summary>\n{inside}'
            "</details></section>"
        )
    return f'<section id="{section.name}"><h2>{title}</h2>\n{inside}</section>'


def _tiles(tiles: Tiles) -> str:
    entries = "".join(
        f"<div><dt>{escape(tile.label)}</dt><dd><b>{escape(tile.value)}</b>"
        f"<small>{escape(tile.note)}</small></dd></div>"
        for tile in tiles.tiles
    )
    return f'<dl class="tiles">{entries}</dl>'


def _prose(prose: Prose) -> str:
    kind = ' class="warning"' if prose.is_warning else ""
    return f"<p{kind}>{escape(prose.text)}</p>"


def _facts(facts: Facts) -> str:
    pairs = "".join(
        f"<div><dt>{escape(key)}</dt><dd>{escape(value)}</dd></div>"
        for key, value in facts.pairs.items()
    )
    return f'<dl class="facts">{pairs}</dl>'


def _table(table: Table) -> str:
    heads = "".join(_head(column, table.is_searchable) for column in table.columns)
    rows = "".join(_row(table, i) for i in range(len(table.rows)))
    tools = _tools(table) if table.is_searchable else ""
    return (
        f'{tools}<table id="table-{table.name}" role="table"><caption>{escape(table.caption)}'
        f'</caption><thead role="rowgroup"><tr role="row">{heads}</tr></thead>'
        f'<tbody role="rowgroup">{rows}</tbody></table>'
        + ('<button type="button" class="more" hidden></button>' if table.is_searchable else "")
    )


def _head(column: Column, is_sortable: bool) -> str:
    title = escape(column.title)
    kind = ' class="text"' if column.is_text else ""
    inside = f'<button type="button">{title}</button>' if is_sortable else title
    return f'<th scope="col" role="columnheader"{kind}>{inside}</th>'


def _row(table: Table, number: int) -> str:
    cells = "".join(
        _cell(cell, column, i == 0)
        for i, (cell, column) in enumerate(zip(table.rows[number], table.columns, strict=True))
    )
    group = f' data-group="{escape(table.groups[number])}"' if table.groups else ""
    level = f' data-level="{escape(table.levels[number])}"' if table.levels else ""
    return f'<tr role="row"{group}{level}>{cells}</tr>'


def _cell(cell: Cell, column: Column, is_head: bool) -> str:
    key = "" if cell.key is None else f' data-key="{escape(str(cell.key))}"'
    kinds = [name for name in ("text", "main") if getattr(column, f"is_{name}")]
    if cell.text == "-":
        kinds.append("none")
    kind = f' class="{" ".join(kinds)}"' if kinds else ""
    text = escape(cell.text)
    if cell.link is not None:
        text = f'<a href="#{escape(cell.link)}">{text}</a>'
    if cell.bar is not None:
        text = f'<span class="value">{text}</span>{bar_html(cell.bar)}'
    if is_head:
        return f'<th scope="row" role="rowheader"{kind}{key}>{text}</th>'
    return f'<td role="cell" data-label="{escape(column.title)}"{kind}{key}>{text}</td>'


def _tools(table: Table) -> str:
    groups = "".join(f"<option>{escape(group)}</option>" for group in sorted(set(table.groups)))
    levels = "".join(
        f"<option>{escape(level)}</option>" for level in LEVELS if level in table.levels
    )
    orders = "".join(
        f'<option value="{i}">{escape(column.title)}</option>'
        for i, column in enumerate(table.columns)
    )
    return (
        f'<form class="tools" data-table="table-{table.name}" role="search" '
        f'aria-label="Find among {escape(table.name)}">'
        '<label>Search <input type="search" name="search" autocomplete="off" '
        'placeholder="such as reach or tsp/"></label>'
        f'<label>Suite <select name="group"><option value="">all</option>{groups}</select></label>'
        f'<label>Score <select name="level"><option value="">all</option>{levels}</select></label>'
        f'<label class="order">Sort by <select name="order">{orders}</select></label>'
        '<output name="count" aria-live="polite"></output></form>'
    )


def _gallery(gallery: Gallery) -> str:
    return f'<div class="gallery">{"".join(_picture(p) for p in gallery.pictures)}</div>'


def _picture(picture: Picture) -> str:
    lines = "".join(
        f"<div><dt>{escape(label)}</dt><dd>{escape(text)}</dd></div>"
        for label, text in picture.lines
    )
    return (
        f'<figure><img decoding="async" alt="{escape(picture.description)}" '
        f'src="{data_uri(picture.data, picture.media_type)}"><dl>{lines}</dl></figure>'
    )


def _films(films: Films) -> str:
    switch = (
        '<form class="tools films-tools"><label>Search <input type="search" name="search" '
        'autocomplete="off"></label><label class="check"><input type="checkbox" name="play"> play '
        'all that are in view</label><output name="count" aria-live="polite"></output></form>'
    )
    return f'{switch}<div class="films">{"".join(_film_card(card) for card in films.cards)}</div>'


def _film_card(card: FilmCard) -> str:
    films = "".join(_film(card, film) for film in card.films)
    note = f"<p>{escape(card.note)}</p>" if card.note else ""
    return (
        f'<article id="{anchor(card.task)}" data-task="{escape(card.task)}"><h3>{escape(card.task)}'
        f' <span>{escape(card.score)}</span></h3>{note}<div class="reel">{films}</div></article>'
    )


def _film(card: FilmCard, film: Film) -> str:
    """A still that becomes the film when pressed; the film itself waits as text, not decoded."""
    name = f"{anchor(card.task)}-{film.role}"
    lines = "".join(f"<span>{escape(line)}</span>" for line in film.lines)
    said = escape(f"{film.role} episode of {card.task}: {', '.join(film.lines)}")
    small = " small" if max(film.size) <= 100 else ""
    mark = "" if film.is_same else '<b class="differs">differs</b>'
    width, height = film.size
    return (
        f'<figure><button type="button" class="film{small}" aria-pressed="false" '
        f'data-film="{name}" aria-label="Play the {said}">'
        f'<img decoding="async" alt="" width="{width}" height="{height}" '
        f'src="{data_uri(film.poster, "image/webp")}"></button>'
        f"<figcaption><b>{escape(film.role)}</b>{mark}{lines}</figcaption>"
        f'<script type="text/plain" id="{name}">{base64.b64encode(film.data).decode()}</script>'
        "</figure>"
    )


def _asset(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


_RENDERERS: dict[type, Callable[[Any], str]] = {
    Table: _table,
    Facts: _facts,
    Prose: _prose,
    Tiles: _tiles,
    Chart: chart_html,
    Shares: shares_html,
    Strips: strips_html,
    Gallery: _gallery,
    Films: _films,
}
