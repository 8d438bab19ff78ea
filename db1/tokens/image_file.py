"""Compressed images (JPEG, PNG, WebP, GIF) -> RGB pictures, without trusting the file.

What a file may hold, and what becomes of it:

    grey, black and white       the same value in three channels
    16-bit grey                 scaled to 8 bits
    palette, alpha, tRNS        laid over a white background
    CMYK, YCCK                  converted (Adobe's inverted ones too); colour profiles are ignored
    EXIF orientation            turned upright; unreadable EXIF data counts as none
    several frames (GIF)        the first

A JPEG whose reader needs less than half its sides is decoded at 1/2, 1/4 or 1/8 by its decoder.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass

import numpy as np
from PIL import Image

from db1.errors import DataError

IMAGE_FILE_FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
"""Formats of Pillow that are read; a JPEG of several pictures (MPO) counts as JPEG."""

MAX_PIXELS = 64_000_000
"""Larger images are refused before they are decoded (a decompression bomb, or a mistake)."""

_EXIF_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_BACKGROUND = (255, 255, 255)


@dataclass(frozen=True, kw_only=True)
class ImageFileInfo:
    """Content of an image file's header.

    Args:
        format: One of `IMAGE_FILE_FORMATS`.
        height: In pixels, as seen upright.
        width: In pixels, as seen upright.
    """

    format: str
    height: int
    width: int


class ImageFile:
    """An image file in memory: its header is read and checked at once, its pixels on demand.

    Args:
        content: Bytes of the file.
        where: Named in errors: a path, or a place in a store.
        max_pixels: More pixels are an error.

    Raises:
        DataError: No image, another format, or too many pixels.
    """

    def __init__(self, content: bytes, where: str, max_pixels: int = MAX_PIXELS) -> None:
        self._where = where
        if not content:
            raise DataError(f"{where}: an empty file, expected an image")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                self._image = Image.open(io.BytesIO(content), formats=IMAGE_FILE_FORMATS)
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            raise self._too_large(str(error), max_pixels) from None
        except Image.UnidentifiedImageError:
            raise DataError(
                f"{where}: starts with {content[:8]!r}, which is not one of the image formats "
                f"{', '.join(IMAGE_FILE_FORMATS)}; convert the file"
            ) from None
        except Exception as error:  # Pillow's plugins raise anything on broken headers
            raise self._broken(error) from None
        width, height = self._image.size
        if width * height > max_pixels:
            raise self._too_large(f"{width} x {height} pixels", max_pixels)
        self._orientation = _orientation(self._image)
        if self._orientation >= 5:
            width, height = height, width
        image_format = self._image.format or "JPEG"
        self.info = ImageFileInfo(
            format="JPEG" if image_format == "MPO" else image_format, height=height, width=width
        )

    def decode(self, height: int = 0, width: int = 0) -> Image.Image:
        """Decodes to RGB, upright; may be called once.

        Args:
            height: What the caller needs at least; a JPEG may be handed out with smaller sides,
                but none below these. 0: all there is.
            width: As `height`.

        Raises:
            DataError: The file is cut off or damaged.
        """
        if self._orientation >= 5:
            height, width = width, height
        try:
            if height and width:
                self._image.draft(None, (width, height))
            self._image.load()
            picture = _to_rgb(self._image)
        except Exception as error:  # as above
            raise self._broken(error) from None
        turn = _UPRIGHT.get(self._orientation)
        return picture if turn is None else picture.transpose(turn)

    def notes(self) -> tuple[str, ...]:
        """Notes for a person on how the file is read; call it before `decode`.

        Raises:
            DataError: The file is cut off or damaged.
        """
        found = []
        try:
            if getattr(self._image, "is_animated", False):
                found.append("only the first of its frames is used")
        except Exception as error:  # as above
            raise self._broken(error) from None
        if self._image.mode == "CMYK":
            found.append("converted from CMYK without its colour profile")
        return tuple(found)

    def _broken(self, error: Exception) -> DataError:
        return DataError(
            f"{self._where}: cannot decode the image ({str(error) or type(error).__name__}); it is "
            "cut off or damaged, get the file again or leave it out"
        )

    def _too_large(self, what: str, max_pixels: int) -> DataError:
        return DataError(
            f"{self._where}: an image of {what}, expected at most {max_pixels} pixels; shrink it"
        )


def _orientation(image: Image.Image) -> int:
    try:
        orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:  # Pillow raises struct.error, SyntaxError and others on broken EXIF data
        return 1
    return orientation if orientation in _UPRIGHT else 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        return Image.fromarray(_eight_bits(np.asarray(image))).convert("RGB")
    has_alpha = image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info
    if not has_alpha:
        return image.convert("RGB")
    picture = image.convert("RGBA")
    background = Image.new("RGBA", picture.size, (*_BACKGROUND, 255))
    return Image.alpha_composite(background, picture).convert("RGB")


def _eight_bits(grey: np.ndarray) -> np.ndarray:
    """16-bit values -> uint8, 65,535 -> 255."""
    return ((np.clip(grey, 0, 65_535).astype(np.uint32) + 128) // 257).astype(np.uint8)
