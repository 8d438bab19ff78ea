"""Frames of an episode -> a short film: thinned out, made small, written as WebP, GIF or MP4."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from PIL import Image

from db1.errors import ConfigError, MissingExtra
from db1.failures import make_folder
from db1.files import atomic_write_bytes
from db1.options import option
from db1.ranges import Checked, Range

FORMATS = (".webp", ".gif", ".mp4")
_QUALITY = 60


@dataclass(frozen=True, kw_only=True)
class FilmConfig(Checked):
    """Settings of films.

    Args:
        frames: Most frames per film.
        size: Pixels of its longer side at most.
    """

    frames: Annotated[int, Range(least=16, most=100_000)] = option(80, "Most frames per film.")
    size: Annotated[int, Range(least=16, most=16_384)] = option(
        240, "Pixels of a film's longer side."
    )


class FrameKeeper:
    """Keeps frames of an episode of unknown length, evenly spread, `limit` at most.

    When there are too many, every other one goes and from then on half as many come in:
    limit 4, steps 0 .. 9 -> 0 1 2 3 -> 0 2 4 6 -> 0 4 8.

    Args:
        limit: The most frames that are kept, besides the last one.
        expected_steps: Length of the episode, where it is known.
    """

    def __init__(self, limit: int, expected_steps: int = 0) -> None:
        if limit < 2:
            raise ConfigError(f"frames: got {limit}, expected at least 2")
        self._limit = limit
        self.stride = max(1, -(-expected_steps // limit))
        self._frames: list[tuple[int, Any]] = []

    def wants(self, step: int) -> bool:
        """Tells whether the frame of this step is to be drawn."""
        return step % self.stride == 0

    def add(self, step: int, frame: Any) -> None:
        """Takes a frame; the last one of an episode may come out of turn."""
        self._frames.append((step, frame))
        while len(self._frames) > self._limit + 1:
            self.stride *= 2
            last = self._frames[-1]
            self._frames = [pair for pair in self._frames if pair[0] % self.stride == 0]
            if self._frames[-1] is not last:
                self._frames.append(last)

    @property
    def frames(self) -> list[Any]:
        """The frames in order."""
        return [frame for _, frame in self._frames]


def shrunk(frame: np.ndarray, size: int) -> Image.Image:
    """A frame (H, W, 3) as an image whose longer side has at most `size` pixels."""
    image = Image.fromarray(np.ascontiguousarray(frame))
    image.thumbnail((size, size), Image.Resampling.BOX)
    return image


def still(image: Image.Image) -> bytes:
    """WebP of one image."""
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=_QUALITY, method=4)
    return buffer.getvalue()


def check_format(path: Path) -> None:
    """Raises ConfigError for a file name that no film can have, MissingExtra without its writer."""
    if path.suffix.lower() not in FORMATS:
        raise ConfigError(f"{path}: expected a name that ends with one of {', '.join(FORMATS)}")
    if path.suffix.lower() == ".mp4":
        _ffmpeg()


def write_film(path: Path, frames: Sequence[Image.Image], milliseconds: int) -> None:
    """Writes an endless film; the last frame stays a second.

    Args:
        path: Ends with .webp, .gif or .mp4.
        frames: At least one, all of one size.
        milliseconds: How long a frame is seen.

    Raises:
        ConfigError: For another ending.
        MissingExtra: For .mp4 without imageio-ffmpeg.
    """
    check_format(path)
    make_folder(path.parent)
    if path.suffix.lower() == ".mp4":
        writer = Mp4Writer(path, frames[0].size, 1000 / milliseconds)
        try:
            for frame in frames:
                writer.add(frame)
        except BaseException:
            writer.give_up()
            raise
        writer.close()
        return
    atomic_write_bytes(path, film_bytes(frames, milliseconds, path.suffix[1:].upper()))


def film_bytes(frames: Sequence[Image.Image], milliseconds: int, kind: str = "WEBP") -> bytes:
    """An animated WebP or GIF."""
    durations = [milliseconds] * (len(frames) - 1) + [max(1000, milliseconds)]
    options: dict[str, Any] = {"save_all": True, "append_images": frames[1:], "loop": 0}
    if kind.upper() == "WEBP":
        options |= {"quality": _QUALITY, "method": 4, "minimize_size": True}
    buffer = io.BytesIO()
    frames[0].save(buffer, kind, duration=durations if len(frames) > 1 else 1000, **options)
    return buffer.getvalue()


class Mp4Writer:
    """Writes an MP4 frame by frame; nothing is there before `close`.

    Args:
        path: Ends with .mp4.
        size: Width and height of the frames.
        rate: Frames a second.

    Raises:
        MissingExtra: Without imageio-ffmpeg.
    """

    def __init__(self, path: Path, size: tuple[int, int], rate: float) -> None:
        self._path, self._temporary = path, path.with_name(f".{path.stem}.tmp.mp4")
        self._size = tuple(side + side % 2 for side in size)  # H.264 wants even sides
        self._writer = _ffmpeg().write_frames(
            str(self._temporary), self._size, fps=rate, quality=7, macro_block_size=2
        )
        self._writer.send(None)

    def add(self, frame: Image.Image) -> None:
        """Appends a frame."""
        canvas = Image.new("RGB", self._size)
        canvas.paste(frame)
        self._writer.send(canvas.tobytes())

    def close(self) -> None:
        """Ends the film and puts it in its place."""
        self._writer.close()
        self._temporary.replace(self._path)

    def give_up(self) -> None:
        """Leaves nothing behind."""
        self._writer.close()
        self._temporary.unlink(missing_ok=True)


def _ffmpeg() -> Any:
    try:
        import imageio_ffmpeg
    except ImportError:
        raise MissingExtra("imageio-ffmpeg", "video", "a film as MP4") from None
    return imageio_ffmpeg
