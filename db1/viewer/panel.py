"""A scene as one picture, for the window and for films.

+---------------------------+--------------------+
| title                               step, return |
+---------------------------+--------------------+
|                           | what it sees       |
|          frame            +--------------------+
|                           | what it may do     |
+---------------------------+--------------------+
"""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from db1.suites.base import as_rgb
from db1.viewer.scene import Choice, Scene, Seen

WIDTH, HEIGHT = 880, 500
_LEFT, _TOP, _MARGIN = 452, 44, 12
_PAPER, _INK, _DIM, _BAR, _CHOSEN = "#13161a", "#e6e9ed", "#9aa4b0", "#3f6fb0", "#eda25f"
_TRACK = "#262c34"
_LINE = 16
_MAX_CHOICES = 8


def draw_panel(scene: Scene) -> Image.Image:
    """RGB (880 x 500) of a scene."""
    panel = Image.new("RGB", (WIDTH, HEIGHT), _PAPER)
    pen = _Pen(panel)
    pen.text(_MARGIN, 12, scene.title, size=15)
    state = f"step {scene.step}   reward {scene.reward:.4g}   return {scene.total_reward:.6g}"
    pen.text(WIDTH - _MARGIN, 12, state, size=15, right=True)
    room = (_LEFT - 2 * _MARGIN, HEIGHT - _TOP - _MARGIN)
    frame = _fitted(scene.frame, room)
    left = _MARGIN + (room[0] - frame.width) // 2
    panel.paste(frame, (left, _TOP + (room[1] - frame.height) // 2))
    bottom = _draw_seen(pen, scene.seen, _LEFT, _TOP)
    if scene.end is not None:
        pen.text(_LEFT, bottom + 12, scene.end, size=15, colour=_CHOSEN)
    else:
        _draw_choices(pen, scene.choices, _LEFT, bottom + 12)
    return panel


class _Pen:
    """Draws texts and boxes."""

    def __init__(self, panel: Image.Image) -> None:
        self.panel = panel
        self.draw = ImageDraw.Draw(panel)

    def text(
        self,
        x: float,
        y: float,
        words: str,
        *,
        size: int = 12,
        colour: str = _INK,
        right: bool = False,
    ) -> None:
        """One line; `right`: it ends at x."""
        font: Any = ImageFont.load_default(size)
        while len(words) > 4 and not right and x + self.draw.textlength(words, font) > WIDTH:
            words = words[: -max(4, len(words) // 12)] + "..."
        self.draw.text((x, y), words, fill=colour, font=font, anchor="ra" if right else "la")

    def box(self, x: float, y: float, width: float, height: float, colour: str) -> None:
        """A filled rectangle, at least a pixel in both ways."""
        right, bottom = x + max(1.0, width) - 1, y + max(1.0, height) - 1
        self.draw.rectangle([x, y, right, bottom], fill=colour)


def _fitted(frame: np.ndarray, room: tuple[int, int]) -> Image.Image:
    """A frame as large as there is room; small ones keep their pixels."""
    image = Image.fromarray(np.ascontiguousarray(frame))
    factor = min(room[0] / image.width, room[1] / image.height)
    way = Image.Resampling.NEAREST if factor >= 2 else Image.Resampling.LANCZOS
    return image.resize((int(image.width * factor), int(image.height * factor)), way)


def _draw_seen(pen: _Pen, seen: tuple[Seen, ...], x: int, y: int) -> int:
    """The observation; returns where it ends."""
    pen.text(x, y, "what it sees", size=13, colour=_DIM)
    y += 20
    limit = _TOP + 200
    for field in seen:
        if y > limit:
            pen.text(x, y, "...", colour=_DIM)
            return y + _LINE
        if field.kind == "image":
            y = _draw_image(pen, field, x, y)
        elif field.kind == "text":
            pen.text(x, y, f"{field.key}: {field.value}")
            y += _LINE + 2
        else:
            y = _draw_numbers(pen, field, x, y)
    return y


def _draw_image(pen: _Pen, field: Seen, x: int, y: int) -> int:
    """An image with the borders of its patches."""
    image = _fitted(as_rgb(field.value), (260, 150))
    pen.panel.paste(image, (x, y))
    height, width = field.value.shape[:2]
    scale, side = image.width / width, field.patch_size
    for column in range(side, width, side):
        pen.box(x + column * scale, y, 1, image.height, _PAPER)
    for row in range(side, height, side):
        pen.box(x, y + row * scale, image.width, 1, _PAPER)
    patches = (height // side) * (width // side)
    pen.text(x + image.width + 8, y, f"{field.key}", colour=_DIM)
    pen.text(x + image.width + 8, y + _LINE, f"{patches} patches", colour=_DIM)
    return y + image.height + 6


def _draw_numbers(pen: _Pen, field: Seen, x: int, y: int) -> int:
    """Numbers as small columns up and down, with the first few written out."""
    values = np.asarray(field.value, dtype=np.float64).ravel()
    words = " ".join(f"{value:.4g}" for value in values[:10])
    more = " ..." if len(values) > 10 else ""
    pen.text(x, y, f"{field.key} ({len(values)}): {words}{more}")
    y += _LINE
    shown = np.sign(values) * np.log1p(np.abs(values))
    largest, width = max(1e-9, float(np.abs(shown).max(initial=0.0))), WIDTH - _MARGIN - x
    step = min(16.0, width / max(1, len(values)))
    for i, value in enumerate(shown):
        height = 14 * abs(value) / largest
        top = y + 14 - height if value >= 0 else y + 14
        pen.box(x + i * step, top, step - (1 if step > 2 else 0), max(1.0, height), _BAR)
    return y + 34


def _draw_choices(pen: _Pen, choices: tuple[Choice, ...], x: int, y: int) -> None:
    pen.text(x, y, "what it may do", size=13, colour=_DIM)
    y += 20
    if len(choices) == 1 and choices[0].columns is None:
        _draw_likely(pen, choices[0], x, y)
        return
    room = HEIGHT - _MARGIN - y
    rows = max(1, min(len(choices), _MAX_CHOICES, room // 30))
    for choice in choices[:rows]:
        _draw_columns(pen, choice, x, y, min(56, room // rows) - 4)
        y += min(56, room // rows)
    if len(choices) > rows:
        pen.text(WIDTH - _MARGIN, HEIGHT - 16, f"first {rows} of {len(choices)}", right=True)


def _draw_likely(pen: _Pen, choice: Choice, x: int, y: int) -> None:
    """The likeliest values of a discrete action."""
    if not choice.likely:
        pen.text(x, y, choice.chosen, size=15, colour=_CHOSEN)
        return
    width = WIDTH - _MARGIN - x - 190
    for words, share in choice.likely:
        if y > HEIGHT - _LINE - 4:
            return
        colour = _CHOSEN if words == choice.chosen else _BAR
        pen.text(x, y, words)
        pen.box(x + 130, y + 2, width, 11, _TRACK)
        pen.box(x + 130, y + 2, share * width, 11, colour)
        pen.text(WIDTH - _MARGIN, y, f"{100 * share:.1f} %", right=True)
        y += _LINE + 3


def _draw_columns(pen: _Pen, choice: Choice, x: int, y: int, height: int) -> None:
    """The distribution of one number over -1..1, or just the number."""
    pen.text(x, y, choice.name, colour=_DIM)
    pen.text(x, y + 13, choice.chosen, colour=_CHOSEN)
    left, width = x + 100, WIDTH - _MARGIN - x - 100
    pen.box(left, y + height - 1, width, 1, _TRACK)
    if choice.columns is None:
        if choice.likely:
            words = ", ".join(f"{word} {100 * share:.0f} %" for word, share in choice.likely[:4])
            pen.text(left, y + 6, words)
        return
    step, largest = width / len(choice.columns), max(1e-9, float(choice.columns.max()))
    for i, share in enumerate(choice.columns):
        tall = (height - 2) * share / largest
        if tall >= 0.5:
            pen.box(left + i * step, y + height - 1 - tall, step - 1, tall, _BAR)
    pen.box(left + (choice.chosen_value + 1) / 2 * width - 1, y, 2, height, _CHOSEN)
