"""Draws one training sequence as an SVG for pages and talks: a coloured block a token.

    step 0     the text       an image in patches       numbers  SEP  action
    0..26     [go][ to]...   [#][#][#][#][#][#][#][#]   [3]     SEP  [left]
               0    1          8  9  10 ...              24

Numbers below the blocks are positions in the step, bars show where the loss falls. Colours follow
the reader's choice of light or dark.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TypeAlias

import numpy as np

from db1.inspection.describe import Description, Token
from db1.inspection.page import escape
from db1.inspection.pictures import png_uri
from db1.inspection.render_html import class_of, face
from db1.inspection.walk import PATCH
from db1.tokens.spec import PATCH_SIZE

WIDTH = 880
"""Of the drawing, in pixels at its own size."""
_MARGIN, _LABEL, _GAP = 16, 96, 3
_BLOCK, _LINE, _ROW_GAP = 26, 44, 8
_CHARACTER = 7.3
"""Width of a character of the blocks' font, in pixels."""
_TOP, _LEGEND_LINE = 56, 24

_STYLE = """
svg { --bg: #fff; --fg: #1b1f24; --dim: #5b6470; --line: #d0d5db; --loss: #b3261e; --text: #bfe8c4;
  --patch: #eac5ee; --number: #bde5ee; --discrete: #c6d2f7; --separator: #d8d8de;
  --action: #fbe29a; --padding: #f0f0f2; }
@media (prefers-color-scheme: dark) { svg { --bg: #14171b; --fg: #e4e7ea; --dim: #9aa4b0;
  --line: #333a42; --loss: #ff8a80; --text: #1f5a2b; --patch: #5f2c66; --number: #155563;
  --discrete: #2e3f80; --separator: #40444b; --action: #6d5310; --padding: #22262b; } }
.bg { fill: var(--bg); stroke: var(--line); }
text { font: 12px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: var(--fg);
  white-space: pre; }
.title { font: 600 15px system-ui, sans-serif; }
.name, .legend { font: 12px system-ui, sans-serif; }
.dim, .position { fill: var(--dim); } .position { font-size: 9px; }
.loss { fill: var(--loss); } image { image-rendering: pixelated; }
.k-text { fill: var(--text); } .k-image-patch { fill: var(--patch); }
.k-number, .k-number-patch { fill: var(--number); } .k-discrete-value { fill: var(--discrete); }
.k-separator { fill: var(--separator); } .k-padding { fill: var(--padding); }
.k-action-number, .k-action-value { fill: var(--action); }
"""

Place: TypeAlias = tuple[float, float]
"""Left and upper end of a block, in pixels."""


@dataclass
class _Pen:
    """Place of the next block; lines break at the right margin."""

    x: float = _MARGIN + _LABEL
    y: float = _TOP
    parts: list[str] = field(default_factory=list)

    def room(self, width: float) -> Place:
        """Takes the place of a block."""
        if self.x + width > WIDTH - _MARGIN and self.x > _MARGIN + _LABEL:
            self.new_line()
        place = (self.x, self.y)
        self.x += width + _GAP
        return place

    def new_line(self) -> None:
        """Goes on below."""
        self.x, self.y = _MARGIN + _LABEL, self.y + _LINE


def sequence_svg(description: Description, title: str) -> str:
    """The drawing of one sequence, a file of its own.

    Args:
        description: The sequence; padding is left out.
        title: Which one it is.
    """
    pen = _Pen()
    tokens = [token for token in description.tokens if token.part != "padding"]
    for (part, step), group in groupby(tokens, lambda t: (t.part, t.step)):
        _draw_step(pen, part, step, list(group))
    legend = _legend(tokens, pen.y + _LEGEND_LINE / 2)
    height = pen.y + 2 * _LEGEND_LINE
    said = f"{title}: {len(tokens)} tokens, the loss falls on {description.num_targets} of them"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {_n(height)}" '
        f'width="{WIDTH}" height="{_n(height)}" role="img" aria-label="{escape(said)}">'
        f"<title>{escape(said)}</title><style>{_STYLE}</style>"
        f"<defs>{''.join(_pictures(description, tokens))}</defs>"
        f'<rect class="bg" x=".5" y=".5" width="{WIDTH - 1}" height="{_n(height - 1)}" rx="8"/>'
        f'<text class="title" x="{_MARGIN}" y="30">{escape(title)}</text>\n'
        + "\n".join([*pen.parts, *legend])
        + "\n</svg>\n"
    )


def _draw_step(pen: _Pen, part: str, step: int | None, tokens: Sequence[Token]) -> None:
    name = part if step is None else f"{part}, step {step}" if part == "prompt" else f"step {step}"
    span = f"{tokens[0].index}..{tokens[-1].index}"
    pen.parts.append(
        f'<text class="name" x="{_MARGIN}" y="{_n(pen.y + 12)}">{escape(name)}</text>'
        f'<text class="name dim" x="{_MARGIN}" y="{_n(pen.y + 27)}">{span}</text>'
    )
    for token in tokens:
        shown = face(token)
        width = _BLOCK if token.kind == PATCH else 10 + _CHARACTER * max(1, len(shown))
        pen.parts.append(_block(token, shown, pen.room(width), width))
    pen.new_line()
    pen.y += _ROW_GAP


def _block(token: Token, shown: str, place: Place, width: float) -> str:
    x, y = place
    middle = x + width / 2
    parts = [
        f'<rect class="{class_of(token.kind)}" x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" '
        f'height="{_BLOCK}" rx="3"/>'
    ]
    if token.kind == PATCH and token.image is not None and token.field_index is not None:
        parts.append(_patch(token.image, token.field_index, place))
    else:
        parts.append(f'<text x="{_n(x + 5)}" y="{_n(y + 17)}">{escape(shown)}</text>')
    if token.is_target:
        parts.append(
            f'<rect class="loss" x="{_n(x)}" y="{_n(y + _BLOCK + 1)}" width="{_n(width)}" '
            'height="3" rx="1"/>'
        )
    if token.local_position is not None:
        parts.append(
            f'<text class="position" text-anchor="middle" x="{_n(middle)}" '
            f'y="{_n(y + _BLOCK + 13)}">{token.local_position}</text>'
        )
    return "".join(parts)


def _patch(image: int, index: tuple[int, ...], place: Place) -> str:
    """The pixels of a patch inside of its block."""
    row, column = index
    size = PATCH_SIZE
    inside = _BLOCK - 4
    return (
        f'<svg x="{_n(place[0] + 2)}" y="{_n(place[1] + 2)}" width="{inside}" height="{inside}" '
        f'viewBox="{column * size} {row * size} {size} {size}"><use href="#image-{image}"/></svg>'
    )


def _pictures(description: Description, tokens: Sequence[Token]) -> Iterator[str]:
    """Each image that a patch shows, once."""
    for number in sorted({token.image for token in tokens if token.image is not None}):
        pixels = np.asarray(description.sample.images[number])
        height, width = pixels.shape[:2]
        yield (
            f'<image id="image-{number}" width="{width}" height="{height}" '
            f'href="{png_uri(pixels)}"/>'
        )


def _legend(tokens: Sequence[Token], y: float) -> Iterator[str]:
    """A chip for each kind that occurs, and for the loss."""
    x = float(_MARGIN)
    kinds = list(dict.fromkeys(token.kind for token in tokens))
    for kind in kinds:
        yield (
            f'<rect class="{class_of(kind)}" x="{_n(x)}" y="{_n(y)}" width="14" height="14" '
            'rx="3"/>'
            f'<text class="legend" x="{_n(x + 20)}" y="{_n(y + 11)}">{escape(kind)}</text>'
        )
        x += 20 + _CHARACTER * len(kind) + 18
    yield (
        f'<rect class="loss" x="{_n(x)}" y="{_n(y + 6)}" width="14" height="3" rx="1"/>'
        f'<text class="legend" x="{_n(x + 20)}" y="{_n(y + 11)}">the loss falls here; numbers: '
        "place in the step</text>"
    )


def _n(value: float) -> str:
    """A number as short as it may be."""
    return f"{value:.1f}".rstrip("0").rstrip(".")
