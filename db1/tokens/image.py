"""Patch arithmetic of images. The pixels themselves are embedded by `model/vision.py`."""

from __future__ import annotations

from db1.errors import DataError

PATCH_SIZE = 16
"""Side of an image patch in pixels (Gato; released DB1 model)."""


def num_patches(height: int, width: int, patch_size: int) -> int:
    """Number of patches of an image, row-major.

    Raises:
        DataError: When a side is not a multiple of the patch.
    """
    if height % patch_size or width % patch_size:
        raise DataError(
            f"image of {height}x{width} pixels, expected multiples of the patch size {patch_size}; "
            "let the suite resize or pad it"
        )
    return (height // patch_size) * (width // patch_size)
