"""Foreign pictures -> the images that db1 stores: uint8 (H, W, 3), sides multiples of 16.

Channels, C of the source:

    1            repeated three times
    3            kept
    2, 4 and more   consecutive grey frames, the newest last: `frames` "newest" repeats the newest
                 one (what db1's own Atari tasks show), "stack" takes the newest three, oldest first
    4            with "rgba": colours, the alpha is dropped
    6, 9, ...    with "colour": consecutive colour frames, the newest is kept

Four channels after the pixels may be either, and so may multiples of three and two: there the user
must say. An axis in front of (H, W, C) counts frames; the newest is kept.

`frames` "grey" makes colours grey, "grey-max" also takes the brighter of a step's and the step
before's frame, pixel by pixel: games draw some objects in every other frame only, and db1's Atari
tasks show grey maxima. Grey is the luma of ITU-R BT.601, as the Arcade Learning Environment has it.

Sides: with a size, resized to it (bilinear, antialiased); else filled with zeros on the right and
below up to the next multiple of 16, which loses nothing (84x84 becomes 96x96).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from db1.errors import DataError
from db1.tokens.spec import PATCH_SIZE

FRAMES = ("newest", "stack", "grey", "grey-max")
CHANNELS = ("grey", "colour", "rgba")
GREY = ("grey", "grey-max")
_LUMA = np.array([0.299, 0.587, 0.114])
MIN_IMAGE_SIDE = 32
"""Smaller uint8 arrays are grids of numbers (as of MiniGrid), not pictures."""
_CHANNELS = 3


@dataclass(frozen=True, kw_only=True)
class Picture:
    """Storage of one image.

    Args:
        height: Of the source in pixels.
        width: Of the source in pixels.
        channels: Of the source.
        stored_shape: (height, width, 3) of the stored image.
        is_resized: Resized rather than filled with zeros.
        channels_first: The source has (C, H, W).
        frames: What four or more channels become: one of FRAMES, "colour" or "rgba".
        is_stack: The source has (F, H, W, C): F frames, the newest last.
    """

    height: int
    width: int
    channels: int
    stored_shape: tuple[int, int, int]
    is_resized: bool = False
    channels_first: bool = False
    frames: str = FRAMES[0]
    is_stack: bool = False

    @classmethod
    def of(
        cls, shape: tuple[int, ...], *, image_size: int | None, frames: str | None, where: str
    ) -> Picture:
        """The conversion of pictures of a shape: (H, W), (H, W, C), (C, H, W) or (F, H, W, C).

        Args:
            shape: Of the source.
            image_size: Pixels a side of the stored image; None: filled up to multiples of 16.
            frames: One of FRAMES, "colour" or "rgba"; None: "newest" where channels can be nothing
                else.
            where: Names the pictures in errors.

        Raises:
            DataError: Channels that may be several things, or not what `frames` says.
        """
        if len(shape) == 4:
            inner = cls.of(shape[1:], image_size=image_size, frames=frames, where=where)
            return replace(inner, is_stack=True)
        channels_first = len(shape) == 3 and shape[0] < MIN_IMAGE_SIDE
        height, width = shape[1:] if channels_first else shape[:2]
        channels = 1 if len(shape) == 2 else shape[0 if channels_first else 2]
        frames = _checked_frames(frames, channels, channels_first, where)
        picture = cls(
            height=height, width=width, channels=channels, channels_first=channels_first,
            frames=frames, stored_shape=(_filled(height), _filled(width), _CHANNELS),
        )  # fmt: skip
        return picture if image_size is None else picture.resized(image_size, image_size)

    def resized(self, height: int, width: int) -> Picture:
        """Stored with another size; DataError when that is not a multiple of 16."""
        if height % PATCH_SIZE or width % PATCH_SIZE or height <= 0 or width <= 0:
            raise DataError(
                f"image size {height}x{width}, expected multiples of {PATCH_SIZE} pixels"
            )
        is_same = (height, width) == (self.height, self.width)
        return replace(self, stored_shape=(height, width, _CHANNELS), is_resized=not is_same)

    @property
    def is_reversible(self) -> bool:
        """Tells whether the source's image can be restored from the stored one."""
        is_grey = self.frames in GREY and self.channels == _CHANNELS
        is_one = self.channels in (1, _CHANNELS) and not self.is_stack
        return is_one and not self.is_resized and not is_grey


def _checked_frames(frames: str | None, channels: int, channels_first: bool, where: str) -> str:
    """Decides about channels; raises DataError where that must be said, or cannot be."""
    needed = {"stack": channels >= _CHANNELS, "rgba": channels == 4, "colour": channels % 3 == 0}
    if not needed.get(frames or "", True):
        raise DataError(
            f"{where}: pictures of {channels} channels cannot be {frames}; see --channels"
        )
    is_stack_of_colours = channels > _CHANNELS and channels % _CHANNELS == 0
    is_unclear = is_stack_of_colours or (channels in (2, 4) and not channels_first)
    if frames is None and is_unclear:
        other = {2: "grey with alpha", 4: "colours with alpha (--channels rgba)"}.get(
            channels, "colour frames (--channels colour)"
        )
        raise DataError(
            f"{where}: pictures of {channels} channels may be grey frames (--channels grey) or "
            f"{other}; say which"
        )
    return frames or FRAMES[0]


def convert_pictures(pictures: np.ndarray, picture: Picture) -> np.ndarray:
    """uint8 (T, *source shape) -> uint8 (T, *stored shape)."""
    if picture.is_stack:
        pictures = pictures[:, -1]
    if pictures.ndim == 3:
        pictures = pictures[..., None]
    if picture.channels_first:
        pictures = pictures.transpose(0, 2, 3, 1)
    if picture.frames == "rgba":
        pictures = pictures[..., :_CHANNELS]
    elif picture.channels != _CHANNELS:
        keeps_three = picture.frames in ("stack", "colour")
        newest = pictures[..., -_CHANNELS:] if keeps_three else pictures[..., -1:]
        pictures = np.broadcast_to(newest, (*pictures.shape[:3], _CHANNELS))
    elif picture.frames in GREY:
        pictures = _grey(pictures)
    if picture.frames == "grey-max" and len(pictures) > 1:
        pictures = np.concatenate([pictures[:1], np.maximum(pictures[1:], pictures[:-1])])
    height, width, _ = picture.stored_shape
    if not picture.is_resized:
        bottom, right = height - picture.height, width - picture.width
        return np.pad(pictures, ((0, 0), (0, bottom), (0, right), (0, 0)))
    stored = np.empty((len(pictures), *picture.stored_shape), dtype=np.uint8)
    for i, pixels in enumerate(pictures):
        image = Image.fromarray(np.ascontiguousarray(pixels))
        stored[i] = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
    return stored


def _grey(pictures: np.ndarray) -> np.ndarray:
    """uint8 (T, H, W, 3) -> the luma in all three channels, picture by picture."""
    grey = np.empty_like(pictures)
    for i, pixels in enumerate(pictures):
        grey[i] = np.rint(pixels @ _LUMA).astype(np.uint8)[..., None]
    return grey


def restore_pictures(images: np.ndarray, picture: Picture, shape: tuple[int, ...]) -> np.ndarray:
    """Undoes `convert_pictures` where `is_reversible`: uint8 (T, *source shape)."""
    pictures = images[:, : picture.height, : picture.width]
    if picture.channels == 1:
        pictures = pictures[..., :1]
    if picture.channels_first:
        pictures = pictures.transpose(0, 3, 1, 2)
    return pictures.reshape(len(images), *shape)


def _filled(side: int) -> int:
    return -(-side // PATCH_SIZE) * PATCH_SIZE
