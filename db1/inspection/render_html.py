"""Draws one training sequence as a page: a coloured cell a token, details on hover or tap."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby

from db1.inspection.describe import Description, Token
from db1.inspection.findings import Finding
from db1.inspection.page import SEQUENCE_SCRIPT, escape, page
from db1.inspection.pictures import png_uri
from db1.inspection.render_report import findings_html
from db1.inspection.render_text import place_of, shown
from db1.inspection.walk import PADDING, PATCH, SEPARATOR, TEXT

SCALE = 2
"""Size of an image on the page, in pixels of the screen for one of its own."""


def sequence_page(description: Description, title: str, findings: Sequence[Finding]) -> str:
    """The page of one sequence.

    Args:
        description: The sequence.
        title: Which one it is.
        findings: What was found in it.
    """
    sample = description.sample
    facts = (
        f"{len(description.tokens)} tokens, the last of them only a label; loss on "
        f"{description.num_targets}, weight {sample.target_weight:.4g} each; prompt of "
        f"{sample.prompt_length} tokens. Red border: the loss falls on it. Dotted underline: "
        "another value is to be predicted than is read back."
    )
    rows = [
        _row(part, step, list(group), description)
        for (part, step), group in groupby(description.tokens, lambda t: (t.part, t.step))
    ]
    content = json.dumps([asdict(token) for token in description.tokens])
    body = (
        f'<p class="dim">{escape(facts)}</p>{findings_html(findings)}{_tools(description)}'
        f'{"".join(rows)}<div id="tip" role="tooltip"></div>'
        f'<script type="application/json" id="tokens">{content.replace("<", chr(92) + "u003c")}'
        "</script>"
    )
    return page(title, body, SEQUENCE_SCRIPT)


def _tools(description: Description) -> str:
    boxes = "".join(
        f'<label><input type="checkbox" value="{escape(kind)}" checked> '
        f'<span class="{class_of(kind)}">&nbsp;{escape(kind)}&nbsp;</span> {count}</label>'
        for kind, count in description.counts.items()
    )
    return (
        '<div class="tools"><input type="search" id="search" '
        'placeholder="search id, value, field ..." aria-label="search">'
        f'{boxes}<label><input type="checkbox" value="" id="only-loss"> only with loss</label>'
        '<span id="count" class="dim"></span></div>'
    )


def _row(part: str, step: int | None, tokens: Sequence[Token], description: Description) -> str:
    name = part if step is None else f"{part}, step {step}"
    span = f"{tokens[0].index}..{tokens[-1].index}"
    cells = []
    for (kind, image), run in groupby(tokens, lambda t: (t.kind, t.image)):
        if kind == PATCH and image is not None:
            cells.append(_image(description, image))
        cells += [_cell(token) for token in run]
    return (
        f'<div class="step {part}"><div class="name">{escape(name)}<br>{span}</div>'
        f'<div class="cells">{"".join(cells)}</div></div>\n'
    )


def _image(description: Description, number: int) -> str:
    image = description.sample.images[number]
    height, width = image.shape[:2]
    return (
        f'<img src="{png_uri(image)}" width="{width * SCALE}" height="{height * SCALE}" '
        f'alt="image {number}, {height}x{width} pixels">'
    )


def _cell(token: Token) -> str:
    classes = ["cell", class_of(token.kind)]
    classes += ["loss"] * token.is_target + ["changed"] * (token.label is not None)
    return (
        f'<span class="{" ".join(classes)}" data-n="{token.index}" tabindex="0">'
        f"{escape(face(token))}</span>"
    )


def face(token: Token) -> str:
    """Text on a cell."""
    if token.kind == SEPARATOR:
        return "SEP"
    if token.kind == PADDING:
        return "\u00b7"
    if token.kind == PATCH:
        index = token.field_index
        return "p" if index is None else "p" + ",".join(map(str, index))
    if token.kind == TEXT and isinstance(token.value, str):
        return token.value.replace("\n", "\u21b5")
    return shown(token.value) or place_of(token) or str(token.id)


def class_of(kind: str) -> str:
    """Class of a kind of token in pages and drawings."""
    return "k-" + kind.replace(" ", "-")
