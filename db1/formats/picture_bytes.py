"""Pictures that lie in foreign data as the bytes of a PNG, JPEG or WEBP file."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from db1.formats.fields import BadEpisode

FORMATS = ("PNG", "JPEG", "WEBP")


def decode_rgb(content: bytes | None, where: str, *, keeps_frames: bool = False) -> np.ndarray:
    """The picture, uint8 (height, width, 3): palettes and grey become colours, alpha is dropped.

    Args:
        content: Bytes of the file; None: there are none.
        where: Names the picture in errors.
        keeps_frames: Four channels are four grey frames, as in JAT: (height, width, 4).

    Raises:
        BadEpisode: No bytes, another format, or a corrupt picture.
    """
    if not content:
        raise BadEpisode(f"{where} has no picture bytes")
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            return np.asarray(_with_8_bits(image).convert(_mode(image, keeps_frames)))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BadEpisode(f"{where} is a corrupt picture ({error})") from None


def _mode(image: Image.Image, keeps_frames: bool) -> str:
    return "RGBA" if keeps_frames and image.mode == "RGBA" else "RGB"


def _with_8_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 bits becomes grey of 8, from which `convert` would cut the low bits' overflow."""
    if not image.mode.startswith("I"):
        return image
    return Image.fromarray((np.asarray(image, np.uint32).clip(0, 65_535) >> 8).astype(np.uint8))


def decode_all(
    contents: Sequence[bytes | None], where: str, *, keeps_frames: bool = False
) -> np.ndarray:
    """The pictures of an episode's steps, uint8 (T, height, width, 3), or 4 with `keeps_frames`.

    Raises:
        BadEpisode: As `decode_rgb`, or pictures of several sizes.
    """
    pictures = np.empty((0,), np.uint8)
    for step, content in enumerate(contents):
        picture = decode_rgb(content, f"{where}: step {step}", keeps_frames=keeps_frames)
        if step == 0:
            pictures = np.empty((len(contents), *picture.shape), np.uint8)
        if picture.shape != pictures.shape[1:]:
            raise BadEpisode(
                f"{where}: step {step} is {picture.shape}, those before {pictures.shape[1:]}"
            )
        pictures[step] = picture
    return pictures
