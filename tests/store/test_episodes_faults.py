"""Episode stores survive kills, cuts and full disks, and tell every damaged bit."""

from __future__ import annotations

import dataclasses
import logging
import multiprocessing
import os
import resource
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from toy_episodes import HEADER, assert_holds, assert_same, flip, make_episode, write

from db1.errors import DataError
from db1.store.episodes import EpisodeStore, EpisodeWriter
from db1.store.records import RECORD
from db1.tokens.spec import Episode

HEADERS = {name: dataclasses.replace(HEADER, image_format=name) for name in ("raw", "zlib", "png")}
IMAGES = {
    "raw": ["observations.image.bin"],
    "zlib": ["observations.image.frames", "observations.image.ends.bin"],
}
IMAGES["png"] = IMAGES["zlib"]
STRINGS = ["strings.jsonl", "strings.ends.bin"]
ROWS = [
    "observations.mission.bin",
    "observations.place%2Fx.bin",
    "observations.state.bin",
    "actions.bin",
    "rewards.bin",
]


def files_in_order(image_format: str) -> list[str]:
    """Every file that an append grows, in the order of the writes."""
    return [*STRINGS, *IMAGES[image_format], *ROWS, "metadata.jsonl", "episodes.bin"]


@pytest.mark.parametrize("image_format", ["raw", "zlib"])
def test_every_cut_of_the_last_append_is_recovered(tmp_path: Path, image_format: str) -> None:
    """Replays the append's writes in order and cuts after each, mid-write included."""
    path, header = tmp_path / "s", HEADERS[image_format]
    write(path, range(3), header)
    before = {p.name: p.stat().st_size for p in path.iterdir()}
    write(path, range(3, 4), header)
    after = {p.name: p.read_bytes() for p in path.iterdir()}
    order = files_in_order(image_format)
    assert set(order) | {"header.json"} == set(after)
    for number, name in enumerate(order):
        grown = len(after[name]) - before[name]
        assert grown > 1
        for part in {1, grown // 2, grown - 1, grown}:
            if name == "episodes.bin" and part == grown:
                continue
            for i, other in enumerate(order):
                end = len(after[other]) if i < number else before[other]
                (path / other).write_bytes(after[other][: end + (part if i == number else 0)])
            assert_holds(path, range(3))
            write(path, range(3, 5), header)
            assert_holds(path, range(5))


@pytest.mark.parametrize("image_format", ["raw", "zlib"])
def test_a_cut_file_is_refused_or_leaves_valid_episodes(tmp_path: Path, image_format: str) -> None:
    """A file that lost its end (a bad copy): whatever opens is complete; repair keeps as much."""
    header = HEADERS[image_format]
    whole = write(tmp_path / "s", range(6), header)
    num_refused = 0
    for name in files_in_order(image_format):
        size = (whole / name).stat().st_size
        for cut in {0, 1, 7, 8, size // 3, size // 2, size - 9, size - 8, size - 1}:
            path = tmp_path / "cut"
            shutil.copytree(whole, path)
            os.truncate(path / name, cut)
            try:
                count = EpisodeStore(path).num_episodes
            except DataError:
                num_refused += 1
                with pytest.raises(DataError):
                    EpisodeWriter(path, header)
                with EpisodeWriter(path, header, repair=True) as writer:
                    count = writer.num_episodes
            assert_holds(path, range(count))
            write(path, range(count, 7), header)
            assert_holds(path, range(7))
            shutil.rmtree(path)
    assert num_refused > 40


def _append_for_ever(path: Path, image_format: str) -> None:
    with EpisodeWriter(path, HEADERS[image_format]) as writer:
        while True:
            writer.append(make_episode(writer.num_episodes))


def _start(path: Path, image_format: str) -> multiprocessing.Process:
    context = multiprocessing.get_context("fork")
    child = context.Process(target=_append_for_ever, args=(path, image_format))
    child.start()
    return child


def _wait_for(path: Path, num_bytes: int) -> None:
    deadline = time.monotonic() + 20
    while not path.exists() or path.stat().st_size < num_bytes:
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.mark.parametrize("image_format", ["raw", "zlib"])
def test_writers_killed_at_random_moments(tmp_path: Path, image_format: str) -> None:
    path, delays = tmp_path / "s", np.random.default_rng(0).uniform(0, 0.02, 15)
    count = 0
    for delay in delays:
        child = _start(path, image_format)
        _wait_for(path / "episodes.bin", count * RECORD.itemsize + 1)
        time.sleep(delay)
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        store = EpisodeStore(path)
        assert store.num_episodes > count
        for i in range(count, store.num_episodes):
            assert_same(store.read(i), make_episode(i))
        count = store.verify().num_episodes
    write(path, range(count, count + 2), HEADERS[image_format])
    assert EpisodeStore(path).verify().num_episodes == count + 2
    assert_same(EpisodeStore(path).read(count + 1), make_episode(count + 1))


def test_readers_beside_a_writer_see_complete_episodes(tmp_path: Path) -> None:
    path, seen = tmp_path / "s", []
    child = _start(path, "zlib")
    try:
        _wait_for(path / "episodes.bin", RECORD.itemsize)
        for _ in range(60):
            store = EpisodeStore(path)
            seen.append(store.num_episodes)
            for i in range(max(0, seen[-1] - 2), seen[-1]):
                assert_same(store.read(i), make_episode(i))
        assert store.verify().num_episodes == seen[-1]
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.join()
    assert seen == sorted(seen) and seen[-1] > seen[0]


@pytest.mark.parametrize("image_format", ["raw", "zlib"])
@pytest.mark.parametrize("limit", [100, 200, 500, 1_000, 6_000])
def test_full_disk_keeps_what_is_complete(tmp_path: Path, image_format: str, limit: int) -> None:
    """A file size limit stands for the full disk: the kernel writes a part, then refuses.

    The smaller the limit, the more files it hits; the small ones let no episode in at all.
    """
    writer = EpisodeWriter(tmp_path / "s", HEADERS[image_format])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(DataError, match=r"episode (\d+): .*the \1 episodes before it are com"):
            while True:
                writer.append(make_episode(writer.num_episodes))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, previous)
    count = writer.num_episodes
    assert_holds(tmp_path / "s", range(count))
    writer.append(make_episode(count))
    writer.close()
    assert_holds(tmp_path / "s", range(count + 1))


def test_interrupt_in_the_middle_of_an_append(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with EpisodeWriter(tmp_path / "s", HEADERS["zlib"]) as writer:
        writer.append(make_episode(0))
        with monkeypatch.context() as patch:
            patch.setattr(Episode, "total_reward", property(_interrupt))
            with pytest.raises(KeyboardInterrupt):
                writer.append(make_episode(3))
        writer.append(make_episode(1))
    assert_holds(tmp_path / "s", range(2))


def _interrupt(episode: Episode) -> float:
    raise KeyboardInterrupt


@pytest.mark.parametrize("name", [*IMAGES["raw"], *ROWS])
def test_truncated_column(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "s", range(8))
    file = path / name
    os.truncate(file, file.stat().st_size // 3)
    with pytest.raises(DataError, match="truncated or damaged: the first . of 8 episodes"):
        EpisodeStore(path)
    with pytest.raises(DataError, match="repair"):
        EpisodeWriter(path, HEADER)
    with EpisodeWriter(path, HEADER, repair=True) as writer:
        count = writer.num_episodes
    assert 0 < count < 8
    assert_holds(path, range(count))


def test_a_column_cut_under_a_reader_is_an_error_not_a_crash(tmp_path: Path) -> None:
    store = EpisodeStore(write(tmp_path / "s", range(8)))
    assert_same(store.read(7), make_episode(7))
    os.truncate(tmp_path / "s" / "actions.bin", 10)
    with pytest.raises(DataError, match=r"actions.bin: 10 bytes, expected at least 5.."):
        store.read(7)


def test_damaged_last_record_is_left_out_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "s", range(4))
    flip(path / "episodes.bin", -30)
    with caplog.at_level(logging.WARNING):
        assert EpisodeStore(path).num_episodes == 3
    assert "left out 1 incomplete episode" in caplog.text
    write(path, range(3, 5))
    assert_holds(path, range(5))


def test_damaged_middle_record_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "s", range(4))
    flip(path / "episodes.bin", RECORD.itemsize + 3)
    with pytest.raises(DataError, match="the first 1 of 4 episodes are complete"):
        EpisodeStore(path)


@pytest.mark.parametrize("image_format", ["raw", "zlib", "png"])
def test_every_flipped_bit_is_told(
    tmp_path: Path, image_format: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Any bit of any file: an error, or a warning where it may be the last append cut short."""
    path, rng = write(tmp_path / "s", range(5), HEADERS[image_format]), np.random.default_rng(0)
    num_errors = num_warnings = 0
    for name in files_in_order(image_format):
        content = (path / name).read_bytes()
        for position in rng.integers(0, len(content), 25).tolist():
            flip(path / name, position, int(rng.integers(8)))
            caplog.clear()
            try:
                assert EpisodeStore(path).verify().num_episodes == 4
                assert "left out 1 incomplete episode" in caplog.text
                num_warnings += 1
            except DataError as error:
                assert "damaged" in str(error)
                num_errors += 1
            (path / name).write_bytes(content)
    assert num_errors > 8 * num_warnings
    assert_holds(path, range(5))


@pytest.mark.parametrize("image_format", ["zlib", "png"])
def test_reading_damaged_frames_never_gives_other_shapes(tmp_path: Path, image_format: str) -> None:
    """Without `verify`, a damaged frame is an error or wrong pixels, never anything else."""
    path, rng = write(tmp_path / "s", range(5), HEADERS[image_format]), np.random.default_rng(1)
    want, num_errors = make_episode(4), 0
    for name in IMAGES[image_format]:
        content = (path / name).read_bytes()
        for position in rng.integers(0, len(content), 120).tolist():
            flip(path / name, position, int(rng.integers(8)))
            try:
                for i in range(5):
                    got = EpisodeStore(path).read(i)
                assert got.observations["image"].shape == want.observations["image"].shape
            except DataError as error:
                assert "damaged" in str(error)
                num_errors += 1
            (path / name).write_bytes(content)
    assert num_errors > 50
