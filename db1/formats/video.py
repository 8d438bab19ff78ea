"""Frames of videos at given times, read forward: one open file, one decoded frame at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from db1.errors import DataError, MissingExtra
from db1.formats.fields import BadEpisode

_SEEK_SECONDS = 5.0
"""A jump ahead by more than this goes to the nearest key frame instead of decoding up to it."""
_FIRST_WITH_THREADS = 17
"""Version of PyAV."""


class VideoReader:
    """Frames of one video file after the other.

    Stays where it is between calls, so that the episodes of a long file are decoded once.
    """

    def __init__(self) -> None:
        self._path: Path | None = None
        self._container: Any = None
        self._frames: Iterator[Any] = iter(())
        self._last: Any = None
        self._convert: Any = None

    def frames(self, path: Path, times: Sequence[float], spacing: float) -> np.ndarray:
        """The frames shown at some times.

        Args:
            path: The video.
            times: Seconds from its begin, ascending.
            spacing: Seconds between two frames of the data; a frame may be off by less than half.

        Returns:
            uint8 (len(times), height, width, 3).

        Raises:
            MissingExtra: PyAV is not installed.
            DataError: No readable video.
            BadEpisode: It ends early, has a gap, or is corrupt there.
        """
        self._open(path)
        pictures = np.empty((0,), np.uint8)
        try:
            if times:
                self._move(times[0])
            for number, time in enumerate(times):
                picture = self._to_rgb(self._frame(time, spacing))
                if number == 0:
                    pictures = np.empty((len(times), *picture.shape), np.uint8)
                pictures[number] = picture
        except self._errors() as error:
            self.close()
            raise BadEpisode(f"{path}: cannot be decoded ({error})") from None
        return pictures

    def close(self) -> None:
        """Lets the file go."""
        if self._container is not None:
            self._container.close()
        self._path = self._container = self._last = None

    def _errors(self) -> tuple[type[Exception], ...]:
        import av

        return (av.error.FFmpegError, ValueError)

    def _open(self, path: Path) -> None:
        if self._path == path and self._container is not None:
            return
        self.close()
        try:
            import av
        except ImportError:
            raise MissingExtra("av", "import", f"reading {path}") from None
        try:
            self._container = av.open(str(path))
            stream = self._container.streams.video[0]
        except (av.error.FFmpegError, OSError, IndexError) as error:
            self.close()
            raise DataError(f"{path}: not a readable video, or truncated ({error})") from None
        stream.thread_type = "AUTO"
        self._path = path
        self._frames = self._container.decode(stream)

    def _to_rgb(self, frame: Any) -> np.ndarray:
        """A frame in colours, uint8 (height, width, 3).

        One converter on one thread serves all frames: each frame's own would be made, threads
        and all, for that frame, which takes longer than decoding it.
        """
        if self._convert is None:
            import av
            from av.video.reformatter import VideoReformatter

            has_threads = int(av.__version__.split(".")[0]) >= _FIRST_WITH_THREADS
            options = {"threads": 1} if has_threads else {}
            self._convert = partial(VideoReformatter().reformat, format="rgb24", **options)
        return self._convert(frame).to_ndarray()

    def _move(self, time: float) -> None:
        """Goes to the key frame before a time where that saves decoding."""
        at = None if self._last is None else self._last.time
        if at is None and time <= _SEEK_SECONDS:
            return
        if at is None or time < at or time > at + _SEEK_SECONDS:
            stream = self._container.streams.video[0]
            start = stream.start_time or 0
            self._container.seek(start + int(time / stream.time_base), stream=stream)
            self._frames, self._last = self._container.decode(stream), None

    def _frame(self, time: float, spacing: float) -> Any:
        """The first frame that lies less than half a spacing before `time`, or after that."""
        while self._last is None or self._last.time <= time - spacing / 2:
            following = next(self._frames, None)
            if following is None or following.time is None:
                raise BadEpisode(f"{self._path}: no frame at {time:.3f} s; the video is too short")
            self._last = following
        if self._last.time > time + spacing / 2:
            raise BadEpisode(
                f"{self._path}: no frame at {time:.3f} s, the next one is at {self._last.time:.3f}"
            )
        return self._last
