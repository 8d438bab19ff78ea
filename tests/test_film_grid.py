"""Films side by side in one animation."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from PIL import Image

SCRIPT = Path(__file__).parents[1] / "scripts" / "film_grid.py"


def _film(folder: Path, task: str, colour: tuple[int, int, int], same: bool = True) -> None:
    place = folder / "videos" / task
    place.mkdir(parents=True)
    frames = [Image.new("RGB", (40, 30), tuple(c // (n + 1) for c in colour)) for n in range(5)]
    frames[0].save(place / "median.webp", save_all=True, append_images=frames[1:], lossless=True)
    episodes = {"median": {"file": "median.webp", "same": same}}
    content = {"task": task, "stamp": {"results": None}, "episodes": episodes}
    (place / "recording.json").write_text(json.dumps(content))


def _run(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, SCRIPT, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_suites_take_turns_and_films_that_differ_are_left_out(tmp_path: Path) -> None:
    _film(tmp_path, "a/one", (240, 0, 0))
    _film(tmp_path, "a/two", (0, 240, 0))
    _film(tmp_path, "b/one", (0, 0, 240))
    _film(tmp_path, "b/two", (240, 240, 0), same=False)
    out = tmp_path / "grid.webp"
    done = _run(tmp_path, out, "--columns", 2, "--rows", 2, "--size", 64, "--quality", 90)
    assert done.returncode == 0, done.stderr
    assert "3 films" in done.stdout
    with Image.open(out) as grid:
        assert grid.size == (2 * 68 + 4, 2 * 82 + 4) and grid.n_frames > 1
        first = grid.convert("RGB")
    middles = [first.getpixel((4 + 32 + 68 * column, 4 + 32)) for column in (0, 1)]
    assert middles[0][0] > 200 and middles[1][2] > 200  # a/one beside b/one


def test_nothing_filmed(tmp_path: Path) -> None:
    done = _run(tmp_path, tmp_path / "grid.webp")
    assert done.returncode == 1 and "nothing is filmed there" in done.stderr
