"""An episode in the terminal, its pictures as coloured half blocks."""

from __future__ import annotations

import time

import numpy as np
from rich.bar import Bar
from rich.console import Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from db1.cli.console import Console
from db1.inspection.pictures import half_blocks
from db1.viewer.scene import Choice, Scene, Seen

_LEVELS = " ▁▂▃▄▅▆▇█"
_MAX_CHOICES = 8
_MAX_NUMBERS = 12


class Terminal:
    """Draws scenes in place.

    Args:
        console: Where.
        rate: Steps a second.
    """

    def __init__(self, console: Console, rate: float) -> None:
        self._console, self._rate = console, rate
        self._live = Live(console=console, auto_refresh=False, vertical_overflow="crop")
        self._started = False
        self._next = 0.0

    def show(self, scene: Scene) -> None:
        """See `Display`."""
        if not self._started:
            self._live.start()
            self._started = True
        time.sleep(max(0.0, self._next - time.monotonic()))
        self._next = time.monotonic() + 1 / self._rate
        self._live.update(draw_scene(scene, self._console.width, self._console.height))
        self._live.refresh()

    def close(self) -> None:
        """See `Display`."""
        if self._started:
            self._live.stop()


def draw_scene(scene: Scene, width: int, height: int) -> RenderableType:
    """A scene for a terminal of `width` x `height` characters."""
    frame_width = max(16, min(width // 2 - 4, 2 * (height - 8)))
    state = f"step {scene.step}   reward {scene.reward:.4g}   return {scene.total_reward:.6g}"
    grid = Table.grid(padding=(0, 2))
    right = [_panel("what it sees", [_seen(field, width // 2 - 8) for field in scene.seen])]
    if scene.end is None:
        right.append(_panel("what it may do", _choices(scene.choices)))
    else:
        right.append(Text(scene.end, style="bold yellow"))
    grid.add_row(Group(*half_blocks(scene.frame, frame_width)), Group(*right))
    return Group(Text(scene.title, style="bold"), Text(state), grid)


def _panel(title: str, inside: list[RenderableType]) -> Panel:
    return Panel(Group(*inside), title=title, title_align="left", expand=False)


def _seen(field: Seen, width: int) -> RenderableType:
    if field.kind == "image":
        height, across = field.value.shape[:2]
        patches = (height // 16) * (across // 16)
        lines = half_blocks(field.value, min(32, max(8, width)))
        return Group(Text(f"{field.key}: {patches} patches of 16x16", style="dim"), *lines)
    if field.kind == "text":
        return Text(f"{field.key}: {field.value}")
    values = np.asarray(field.value, dtype=np.float64).ravel()
    words = " ".join(f"{value:.3g}" for value in values[:_MAX_NUMBERS])
    more = " ..." if len(values) > _MAX_NUMBERS else ""
    return Text(f"{field.key} ({len(values)}): {words}{more}")


def _choices(choices: tuple[Choice, ...]) -> list[RenderableType]:
    """Bars of a discrete action's likeliest values; a small histogram for each number else."""
    if len(choices) == 1 and choices[0].columns is None:
        return _likely(choices[0])
    grid = Table.grid(padding=(0, 2))
    for choice in choices[:_MAX_CHOICES]:
        grid.add_row(
            Text(choice.name, style="dim"),
            Text(choice.chosen, style="yellow"),
            Text(_histogram(choice)),
        )
    rest = len(choices) - _MAX_CHOICES
    more = [Text(f"and {rest} more", style="dim")] if rest > 0 else []
    return [grid, *more]


def _likely(choice: Choice) -> list[RenderableType]:
    if not choice.likely:
        return [Text(choice.chosen, style="yellow")]
    grid = Table.grid(padding=(0, 2))
    for words, share in choice.likely:
        style = "yellow" if words == choice.chosen else "blue"
        bar = Bar(1.0, 0.0, share, width=24, color=style)
        grid.add_row(Text(words, style=style), bar, Text(f"{100 * share:.1f} %"))
    return [grid]


def _histogram(choice: Choice) -> str:
    """Probabilities over -1..1 as one line of blocks."""
    if choice.columns is None:
        return ", ".join(f"{words} {100 * share:.0f} %" for words, share in choice.likely[:3])
    largest = max(1e-9, float(choice.columns.max()))
    levels = np.round(choice.columns / largest * (len(_LEVELS) - 1)).astype(int)
    return "".join(_LEVELS[level] for level in levels)
