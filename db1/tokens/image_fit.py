"""Image files -> pictures of one size in whole patches, with or without augmentation.

    crop      the largest centred square, resized           (cuts the longer side)
    pad       the whole picture, resized, on black          (adds bars)
    stretch   the whole picture, resized to a square        (changes its proportions)

In training, `augment` replaces the fixed square by one drawn at random. Every draw comes from the
generator that is handed in, always the same number of draws, so that a sample is a pure function
of its number. Source of the random crop: Szegedy et al. 2015, section 6.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from PIL import Image, ImageEnhance

from db1.errors import ConfigError, check_one_of
from db1.ranges import Checked, Range, Rate
from db1.tokens.image_file import ImageFile
from db1.tokens.spec import PATCH_SIZE

FITS = ("crop", "pad", "stretch")
_RESAMPLING = Image.Resampling.BICUBIC
_REDUCING_GAP = 2.0
"""Pillow shrinks by whole factors first, down to this many times the wanted size."""

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels."""


@dataclass(frozen=True, kw_only=True)
class Augmentation(Checked):
    """Random changes to training pictures.

    Args:
        min_area: The crop covers a share of the picture's area drawn uniformly from
            [min_area, 1]; 1 keeps the fixed fit.
        max_aspect: The crop's proportions are drawn from [1 / max_aspect, max_aspect], uniformly
            in the logarithm.
        flip: Mirror half the pictures, but none whose texts say left or right. Writing in
            pictures becomes wrong.
        color_jitter: Brightness, contrast and saturation are each multiplied by a number drawn
            uniformly from [1 - color_jitter, 1 + color_jitter].
    """

    min_area: Annotated[float, Range(above=0, most=1)] = 0.6
    max_aspect: Annotated[float, Range(least=1)] = 4 / 3
    flip: bool = False
    color_jitter: Rate = 0.1


def check_fit(image_size: int, fit: str) -> None:
    """Raises ConfigError for a side that is not a multiple of the patch or an unknown fit."""
    if image_size < PATCH_SIZE or image_size % PATCH_SIZE:
        raise ConfigError(
            f"image_size: got {image_size}, expected a multiple of the patch size {PATCH_SIZE}"
        )
    check_one_of("fit", fit, FITS)


def fit_image(
    file: ImageFile,
    image_size: int,
    fit: str = "crop",
    augmentation: Augmentation | None = None,
    generator: np.random.Generator | None = None,
) -> np.ndarray:
    """Decodes an image at a fixed size.

    Args:
        file: The image.
        image_size: Side of the result, a multiple of the patch size.
        fit: One of `FITS`; with an augmentation that crops, `crop` and `stretch` do the same.
        augmentation: Of training pictures; None: none.
        generator: Of its draws; needed with an augmentation.

    Returns:
        uint8 (image_size, image_size, 3).

    Raises:
        ConfigError: A size or fit that cannot be used, or an augmentation without a generator.
        DataError: The file is cut off or damaged.
    """
    check_fit(image_size, fit)
    height, width = file.info.height, file.info.width
    if augmentation is None:
        box = _centred_square(height, width) if fit == "crop" else (0.0, 0.0, width, height)
        return np.asarray(_resized(file, box, image_size, fit))
    if generator is None:
        raise ConfigError("augmentation: needs a generator")
    draws = generator.random(8)
    picture = _resized(file, _drawn_box(height, width, fit, augmentation, draws), image_size, fit)
    return np.asarray(_recolored(picture, augmentation, draws[4:]))


def _resized(file: ImageFile, box: Box, image_size: int, fit: str) -> Image.Image:
    """Decodes what the box needs and resizes the box to the square."""
    left, top, right, bottom = box
    out_width = out_height = image_size
    if fit == "pad":
        scale = image_size / max(right - left, bottom - top)
        out_width = min(image_size, max(1, round((right - left) * scale)))
        out_height = min(image_size, max(1, round((bottom - top) * scale)))
    height, width = file.info.height, file.info.width
    picture = file.decode(
        height=math.ceil(height * out_height / (bottom - top)),
        width=math.ceil(width * out_width / (right - left)),
    )
    x, y = picture.width / width, picture.height / height
    scaled = (left * x, top * y, min(right * x, picture.width), min(bottom * y, picture.height))
    size = (out_width, out_height)
    if size != picture.size or scaled != (0.0, 0.0, *size):
        picture = picture.resize(size, _RESAMPLING, scaled, _REDUCING_GAP)
    if size == (image_size, image_size):
        return picture
    square = Image.new("RGB", (image_size, image_size))
    square.paste(picture, ((image_size - out_width) // 2, (image_size - out_height) // 2))
    return square


def _centred_square(height: int, width: int) -> Box:
    side = min(height, width)
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


def _drawn_box(
    height: int, width: int, fit: str, augmentation: Augmentation, draws: np.ndarray
) -> Box:
    """A box of the drawn area and proportions, shrunk where it would not fit, placed anywhere."""
    if augmentation.min_area == 1.0:
        return _centred_square(height, width) if fit == "crop" else (0.0, 0.0, width, height)
    area = height * width * (augmentation.min_area + (1 - augmentation.min_area) * draws[0])
    aspect = augmentation.max_aspect ** (2 * draws[1] - 1)
    if fit == "pad":
        aspect *= width / height
    box_width = max(1.0, min(width, math.sqrt(area * aspect)))
    box_height = max(1.0, min(height, math.sqrt(area / aspect)))
    left, top = (width - box_width) * draws[2], (height - box_height) * draws[3]
    return left, top, left + box_width, top + box_height


def _recolored(picture: Image.Image, augmentation: Augmentation, draws: np.ndarray) -> Image.Image:
    if augmentation.flip and draws[0] < 0.5:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if augmentation.color_jitter == 0.0:
        return picture
    factors = 1 + augmentation.color_jitter * (2 * draws[1:] - 1)
    enhancers = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
    for enhancer, factor in zip(enhancers, factors.tolist(), strict=True):
        picture = enhancer(picture).enhance(factor)
    return picture
