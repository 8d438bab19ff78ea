"""One picture of a state: the task's own, or where it has none its numbers as bars."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from db1.errors import DataError
from db1.suites import TaskEnv

WIDTH, HEIGHT = 240, 240
_MAX_ROWS = 40
_INK, _PAPER, _BAR, _AXIS = "#dfe5ec", "#151a21", "#5b9bd5", "#3a4552"


class Painter:
    """Draws an episode's states; remembers why it had to draw numbers.

    Attributes:
        reason: Why the pictures are not the task's own; None as long as they are.
    """

    def __init__(self) -> None:
        self.reason: str | None = None

    def picture(self, env: TaskEnv, observation: Mapping[str, Any]) -> np.ndarray:
        """uint8 (H, W, 3) of the state that `env` is in."""
        if self.reason is None:
            try:
                return np.asarray(env.render_frame(), dtype=np.uint8)
            except (DataError, ImportError) as error:
                self.reason = str(error)
        return draw_numbers(observation)


def draw_numbers(observation: Mapping[str, Any]) -> np.ndarray:
    """Every number of an observation as a bar from 0 (texts above), uint8 (240, 240, 3)."""
    picture = Image.new("RGB", (WIDTH, HEIGHT), _PAPER)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(11)
    top = 4
    for value in observation.values():
        if isinstance(value, str):
            draw.text((6, top), value[:44], fill=_INK, font=font)
            top += 16
    numbers = [
        np.asarray(value, dtype=np.float64).ravel()
        for value in observation.values()
        if not isinstance(value, str)
    ]
    values = np.concatenate(numbers) if numbers else np.zeros(0)
    _bars(draw, values[:_MAX_ROWS], top)
    if len(values) > _MAX_ROWS:
        draw.text((6, HEIGHT - 14), f"first {_MAX_ROWS} of {len(values)} numbers", _INK, font)
    return np.asarray(picture)


def _bars(draw: ImageDraw.ImageDraw, values: np.ndarray, top: int) -> None:
    """One horizontal bar a number; large ones are squashed, so that all are seen."""
    middle, room = WIDTH / 2, HEIGHT - 18 - top
    draw.line([(middle, top), (middle, top + room)], fill=_AXIS)
    height = min(14.0, room / max(1, len(values)))
    for row, value in enumerate(np.sign(values) * np.log1p(np.abs(values))):
        y, length = top + row * height, float(np.clip(value / 3, -1, 1)) * (middle - 8)
        low, high = sorted((middle, middle + length))
        draw.rectangle([low, y + 1, high, y + max(1.5, height - 1)], fill=_BAR)
