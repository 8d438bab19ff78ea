"""Displays of scenes: a window, a film, or lines of text. (`db1/cli` has the terminal's images.)"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from db1.errors import DataError, MissingExtra
from db1.failures import make_folder
from db1.rollout.episode import StopWatching
from db1.viewer.film import FrameKeeper, Mp4Writer, check_format, write_film
from db1.viewer.panel import HEIGHT, WIDTH, draw_panel
from db1.viewer.scene import Choice, Scene

MAX_FILM_FRAMES = 240
"""Of WebP and GIF, which are kept in memory; MP4 has no limit."""


class Display(Protocol):
    """Shows scenes one after the other."""

    def show(self, scene: Scene) -> None:
        """Shows a scene; StopWatching when nobody looks any more."""
        ...

    def close(self) -> None:
        """The episode is over."""
        ...


class Lines:
    """One line of text a step.

    Args:
        write: Takes a line.
    """

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._started = False

    def show(self, scene: Scene) -> None:
        """See `Display`."""
        if not self._started:
            self._write(scene.title)
            self._started = True
        if scene.end is not None:
            self._write(scene.end)
            return
        actions = ", ".join(_said(choice) for choice in scene.choices)
        self._write(
            f"step {scene.step}  return {scene.total_reward:.6g}  reward {scene.reward:.4g}  "
            f"{actions}"
        )

    def close(self) -> None:
        """See `Display`."""


def _said(choice: Choice) -> str:
    """The chosen value with its probability, and the runner-up."""
    shares = dict(choice.likely)
    share = shares.pop(choice.chosen, None)
    if share is None:
        return choice.chosen
    words = f"{choice.chosen} {100 * share:.0f} %"
    if shares and choice.columns is None:
        other = next(iter(shares))
        words += f" ({other} {100 * shares[other]:.0f} %)"
    return words


class FilmDisplay:
    """A film of the panels; nothing is left behind when watching is cut off by an error.

    Args:
        path: Ends with .mp4, .webp or .gif.
        rate: Steps a second.
    """

    def __init__(self, path: Path, rate: float) -> None:
        check_format(path)
        make_folder(path.parent)
        self._path, self._rate = path, rate
        self._mp4 = None
        if path.suffix.lower() == ".mp4":
            self._mp4 = Mp4Writer(path, (WIDTH, HEIGHT), rate)
        self._keeper = FrameKeeper(MAX_FILM_FRAMES)

    def show(self, scene: Scene) -> None:
        """See `Display`."""
        if self._mp4 is not None:
            self._mp4.add(draw_panel(scene))
            if scene.end is not None:
                for _ in range(int(self._rate)):
                    self._mp4.add(draw_panel(scene))
        elif self._keeper.wants(scene.step) or scene.end is not None:
            self._keeper.add(scene.step, draw_panel(scene))

    def close(self) -> None:
        """See `Display`."""
        if self._mp4 is not None:
            self._mp4.close()
        elif self._keeper.frames:
            milliseconds = max(20, round(1000 * self._keeper.stride / self._rate))
            write_film(self._path, self._keeper.frames, min(1000, milliseconds))

    def give_up(self) -> None:
        """Leaves no half film behind."""
        if self._mp4 is not None:
            self._mp4.give_up()


class Window:
    """A window: space pauses, the right arrow makes one step, + and - change the speed, q ends.

    Args:
        title: Of the window.
        rate: Steps a second.

    Raises:
        MissingExtra: Without pygame.
        DataError: When no window can be opened.
    """

    def __init__(self, title: str, rate: float) -> None:
        try:
            import pygame
        except ImportError:
            raise MissingExtra("pygame-ce", "window", "a window") from None
        self._pygame: Any = pygame
        self._rate, self._paused = rate, False
        try:
            pygame.display.init()
            self._screen = pygame.display.set_mode((WIDTH, HEIGHT), pygame.RESIZABLE)
        except pygame.error as error:
            raise DataError(
                f"no window can be opened here ({error}); use --show terminal or --out FILE"
            ) from error
        pygame.display.set_caption(f"{title} - space: pause, right: step, +/-: speed, q: quit")

    def show(self, scene: Scene) -> None:
        """See `Display`."""
        pygame = self._pygame
        pixels = np.asarray(draw_panel(scene)).transpose(1, 0, 2)
        surface = pygame.surfarray.make_surface(pixels)
        until = time.monotonic() + (2.0 if scene.end is not None else 1 / self._rate)
        while True:
            size = self._screen.get_size()
            self._screen.blit(pygame.transform.smoothscale(surface, size), (0, 0))
            pygame.display.flip()
            if self._wants_next() or (not self._paused and time.monotonic() >= until):
                return
            time.sleep(min(0.03, 1 / self._rate))

    def _wants_next(self) -> bool:
        """Handles keys; True for one step on."""
        pygame = self._pygame
        for event in pygame.event.get():
            if event.type == pygame.QUIT:
                raise StopWatching
            if event.type != pygame.KEYDOWN:
                continue
            if event.key in (pygame.K_q, pygame.K_ESCAPE):
                raise StopWatching
            if event.key == pygame.K_SPACE:
                self._paused = not self._paused
            elif event.key == pygame.K_RIGHT:
                return True
            elif event.unicode in ("+", "-"):
                self._rate = max(0.5, self._rate * (1.5 if event.unicode == "+" else 1 / 1.5))
        return False

    def close(self) -> None:
        """See `Display`."""
        self._pygame.display.quit()
