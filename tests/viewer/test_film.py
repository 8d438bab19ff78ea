from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from db1.errors import ConfigError
from db1.viewer.film import FrameKeeper, shrunk, write_film


@pytest.mark.parametrize("limit", [2, 4, 7])
@pytest.mark.parametrize("length", [1, 3, 4, 5, 9, 100])
@pytest.mark.parametrize("expected", [0, 9, 1000])
def test_kept_frames_are_few_and_even(limit: int, length: int, expected: int) -> None:
    keeper = FrameKeeper(limit, expected)
    for step in range(length + 1):
        if keeper.wants(step) or step == length:
            keeper.add(step, step)
    kept = keeper.frames
    assert kept[0] == 0 and kept[-1] == length and len(kept) <= limit + 1
    assert set(np.diff(kept[:-1])) <= {keeper.stride}
    assert 0 < kept[-1] - kept[-2] <= keeper.stride
    if not expected and length > limit:
        assert len(kept) > limit // 2  # no more thrown away than needed


def test_the_example_of_the_docstring() -> None:
    keeper = FrameKeeper(4)
    for step in range(10):
        if keeper.wants(step):
            keeper.add(step, step)
    assert keeper.frames == [0, 4, 8]


@pytest.mark.parametrize("ending", [".webp", ".gif", ".mp4"])
def test_a_film_can_be_read_back(tmp_path: Path, ending: str) -> None:
    if ending == ".mp4":
        pytest.importorskip("imageio_ffmpeg", reason='needs pip install "db1[video]"')
    frames = [
        shrunk(np.full((300, 155, 3), (value, 0, 255 - value), np.uint8), 150)
        for value in (0, 120, 250)
    ]
    assert frames[0].size == (78, 150)
    path = tmp_path / "deep" / f"film{ending}"
    write_film(path, frames, 100)
    if ending == ".mp4":
        import imageio_ffmpeg

        count, seconds = imageio_ffmpeg.count_frames_and_secs(str(path))
        assert count == 3 and seconds == pytest.approx(0.3, abs=0.05)
    else:
        with Image.open(path) as film:
            assert film.n_frames == 3 and film.size == (78, 150)
            film.seek(2)
            red, _, blue = film.convert("RGB").getpixel((40, 70))
            assert red > 220 and blue < 40
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_another_ending_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\.webp, \.gif, \.mp4"):
        write_film(tmp_path / "film.avi", [Image.new("RGB", (8, 8))], 100)
