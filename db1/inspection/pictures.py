"""Images of a sequence: as coloured half blocks in the terminal, as PNG in a page."""

from __future__ import annotations

import numpy as np
from rich.style import Style
from rich.text import Text

from db1.pages import image_uri
from db1.suites.base import as_rgb

_HALF = "\u2580"


def png_uri(image: np.ndarray) -> str:
    """uint8 (H, W, C) -> a `data:` address of its PNG."""
    from PIL import Image

    return image_uri(Image.fromarray(np.ascontiguousarray(as_rgb(image))))


def half_blocks(image: np.ndarray, width: int = 24) -> list[Text]:
    """Draws an image, two pixels a character: the upper one in front, the lower one behind.

    Args:
        image: uint8 (H, W, C).
        width: Most characters of a line.
    """
    pixels = _shrunk(as_rgb(image), width)
    if len(pixels) % 2:
        pixels = np.concatenate([pixels, pixels[-1:]])
    lines = []
    for upper, lower in zip(pixels[::2].tolist(), pixels[1::2].tolist(), strict=True):
        line = Text()
        for front, behind in zip(upper, lower, strict=True):
            style = Style(
                color="rgb({},{},{})".format(*front), bgcolor="rgb({},{},{})".format(*behind)
            )
            line.append(_HALF, style)
        lines.append(line)
    return lines


def _shrunk(image: np.ndarray, width: int) -> np.ndarray:
    """Means over blocks, so that at most `width` columns are left."""
    factor = -(-image.shape[1] // width)
    rows, columns = (-(-n // factor) for n in image.shape[:2])
    padded = np.pad(
        image,
        ((0, rows * factor - image.shape[0]), (0, columns * factor - image.shape[1]), (0, 0)),
        mode="edge",
    )
    blocks = padded.reshape(rows, factor, columns, factor, 3)
    return blocks.mean(axis=(1, 3)).astype(np.uint8)
