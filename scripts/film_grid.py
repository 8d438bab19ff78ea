"""Several films of `db1 record` as one animated WebP, for README and talks.

    db1 record runs/db1_tiny/evaluation
    python scripts/film_grid.py runs/db1_tiny/evaluation docs/films.webp --columns 4 --rows 2

Takes the median episode of each task, suites in turn, so that no suite fills the grid; episodes
whose film did not return what the evaluation says are left out.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageSequence

NUM_FRAMES = 48
MILLISECONDS = 80
GAP = 4
LABEL = 14
PAPER, INK = (24, 27, 32), (230, 233, 237)


def films(evaluation: Path, role: str) -> list[tuple[str, Path]]:
    """(task, film) of each recorded task, suites in turn."""
    by_suite: dict[str, list[tuple[str, Path]]] = {}
    for path in sorted((evaluation / "videos").glob("*/*/recording.json")):
        entry = json.loads(path.read_text(encoding="utf-8"))
        episodes = entry.get("episodes", {})
        episode = episodes.get(role, episodes.get("best"))  # one episode has one role
        if episode is not None and episode.get("same"):
            suite = entry["task"].split("/")[0]
            by_suite.setdefault(suite, []).append((entry["task"], path.parent / episode["file"]))
    turns = itertools.zip_longest(*by_suite.values())
    return [film for turn in turns for film in turn if film is not None]


def frames_of(path: Path, size: int) -> list[Image.Image]:
    """NUM_FRAMES frames of a film, spread over it evenly, in a square of `size` pixels."""
    with Image.open(path) as film:
        every = [frame.convert("RGB") for frame in ImageSequence.Iterator(film)]
    picked = [every[n * len(every) // NUM_FRAMES] for n in range(NUM_FRAMES)]
    return [_squared(frame, size) for frame in picked]


def _squared(frame: Image.Image, size: int) -> Image.Image:
    small = frame.copy()
    small.thumbnail((size, size), Image.Resampling.LANCZOS)
    square = Image.new("RGB", (size, size), PAPER)
    square.paste(small, ((size - small.width) // 2, (size - small.height) // 2))
    return square


def grid(chosen: Sequence[tuple[str, Path]], columns: int, size: int) -> Iterator[Image.Image]:
    """Frames of the whole grid, the task's name below each film."""
    reels = [frames_of(path, size) for _, path in chosen]
    rows = -(-len(chosen) // columns)
    width = columns * (size + GAP) + GAP
    height = rows * (size + LABEL + GAP) + GAP
    for number in range(NUM_FRAMES):
        page = Image.new("RGB", (width, height), PAPER)
        draw = ImageDraw.Draw(page)
        for place, ((task, _), reel) in enumerate(zip(chosen, reels, strict=True)):
            x = GAP + place % columns * (size + GAP)
            y = GAP + place // columns * (size + LABEL + GAP)
            page.paste(reel[number], (x, y))
            draw.text((x + 2, y + size + 1), fitted(draw, task, size - 4), fill=INK)
        yield page


def fitted(draw: ImageDraw.ImageDraw, text: str, width: int) -> str:
    """A task's name that fits below its film; without its suite where it is too long."""
    shown = text if draw.textlength(text) <= width else text.split("/")[-1]
    while draw.textlength(shown) > width:
        shown = shown[:-1]
    return shown


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("evaluation", type=Path, help="folder that `db1 record` filmed")
    parser.add_argument("out", type=Path, help="a .webp or .gif")
    parser.add_argument("--columns", type=int, default=4)
    parser.add_argument("--rows", type=int, default=2)
    parser.add_argument("--size", type=int, default=160, help="pixels of a film")
    parser.add_argument("--role", default="median", choices=("best", "median", "worst"))
    parser.add_argument("--quality", type=int, default=50)
    arguments = parser.parse_args()
    chosen = films(arguments.evaluation, arguments.role)[: arguments.columns * arguments.rows]
    if not chosen:
        place = arguments.evaluation
        sys.exit(f"film_grid: error: {place}: nothing is filmed there; run `db1 record {place}`")
    first, *rest = grid(chosen, arguments.columns, arguments.size)
    first.save(
        arguments.out,
        save_all=True,
        append_images=rest,
        duration=MILLISECONDS,
        loop=0,
        quality=arguments.quality,
        method=6,
    )
    print(f"{arguments.out}: {len(chosen)} films, {arguments.out.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
