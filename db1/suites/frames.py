"""Screens of first-person games as images in multiples of the patch, as DB1 does for DMLab."""

from __future__ import annotations

import numpy as np
from PIL import Image

from db1.tokens.spec import PATCH_SIZE


def shrunk(screen: np.ndarray, height: int, width: int) -> np.ndarray:
    """Averages a screen, uint8 (H, W, 3), down to (height, width, 3)."""
    return np.asarray(Image.fromarray(screen).resize((width, height), Image.Resampling.BOX))


def padded(screen: np.ndarray) -> np.ndarray:
    """Adds black borders, as wide at both sides, to (H, W, C) up to multiples of the patch size."""
    borders = [divmod(-size % PATCH_SIZE, 2) for size in screen.shape[:2]]
    return np.pad(screen, [*((half, half + odd) for half, odd in borders), (0, 0)])
