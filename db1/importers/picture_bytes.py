"""Pictures that lie in foreign data as the bytes of a PNG, JPEG or WEBP file."""

from __future__ import annotations

import io
from collections.abc import Sequence

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


def decode_all(contents: Sequence[bytes | None], where: str) -> np.ndarray:
    """The pictures of an episode's steps, uint8 (T, height, width, 3).

    Raises:
        BadEpisode: As `decode_rgb`, or pictures of several sizes.
    """
    pictures = np.empty((0,), np.uint8)
    for step, content in enumerate(contents):
        picture = decode_rgb(content, f"{where}: step {step}")
        if step == 0:
            pictures = np.empty((len(contents), *picture.shape), np.uint8)
        if picture.shape != pictures.shape[1:]:
            raise BadEpisode(
                f"{where}: step {step} is {picture.shape}, those before {pictures.shape[1:]}"
            )
        pictures[step] = picture
    return pictures
