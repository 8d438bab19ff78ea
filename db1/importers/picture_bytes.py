"""Pictures that lie in foreign data as the bytes of a PNG, JPEG or WEBP file."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from db1.importers.fields import BadEpisode

FORMATS = ("PNG", "JPEG", "WEBP")


def decode_rgb(content: bytes | None, where: str) -> np.ndarray:
    """The picture, uint8 (height, width, 3): palettes and grey become colours, alpha is dropped.

    Args:
        content: Bytes of the file; None: there are none.
        where: Names the picture in errors.

    Raises:
        BadEpisode: No bytes, another format, or a corrupt picture.
    """
    if not content:
        raise BadEpisode(f"{where} has no picture bytes")
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BadEpisode(f"{where} is a corrupt picture ({error})") from None
