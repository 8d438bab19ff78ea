"""Episode stores: appending episodes and reading windows, against one file an episode.

    db1             the store; image frames as `zlib`
    db1 raw, png    the same with other image formats
    npz             one NumPy archive an episode, compressed for images: a window reads all of it
    npy             one uncompressed NumPy file a field and episode, memory-mapped

All hold the same episodes, and their windows are compared before the clock runs. The clock counts
processor time and the files stay in the page cache: the disk's speed plays no part.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from db1.benchmarks.frames import drawn_frames
from db1.benchmarks.timing import OURS, Comparison, Contender, compare
from db1.errors import Db1Error
from db1.store.episodes import EpisodeStore, EpisodeWriter, StoreHeader
from db1.tokens.spec import Episode, FieldSpec, StepSpec

Progress = Callable[[str, int, int], None]
Window = Mapping[str, np.ndarray]

CONTROL_STEPS, IMAGE_STEPS = 24, 27
"""Steps of a window: what fills 1,024 tokens with 39 + 4 numbers, with 36 patches."""

_PIXELS = "pixels"


@dataclass(frozen=True, kw_only=True)
class _Way:
    """One way to store episodes.

    Args:
        name: Of the contender.
        append: Stores all episodes in an empty folder.
        open: Returns what reads a window (episode, start, stop) from that folder.
    """

    name: str
    append: Callable[[Path], None]
    open: Callable[[Path], Callable[[int, int, int], Window]]


def bench_store(
    quick: bool = False,
    *,
    frames: np.ndarray | None = None,
    frames_name: str = "drawn game",
    progress: Progress | None = None,
) -> list[Comparison]:
    """Measures appending and window reads of control steps and of images.

    Args:
        quick: A few episodes and rounds; a second or two.
        frames: Images to store, uint8 (N, H, W, C), N at least 2; None draws some.
        frames_name: What they show.
        progress: Called with (work, finished rounds, all rounds).

    Returns:
        Four comparisons; the notes hold the bytes a step of each way.

    Raises:
        Db1Error: Two ways did not give the same window.
    """
    num_episodes, num_steps, rounds = (4, 100, 3) if quick else (20, 500, 7)
    control = [_control_episode(seed, num_steps) for seed in range(num_episodes)]
    frames = drawn_frames(200) if frames is None else frames
    games = [_image_episode(frames, seed, num_steps) for seed in range(max(2, num_episodes // 4))]
    images = {"db1": "zlib", "db1 raw": "raw", "db1 png": "png"}
    cases = [
        ("control steps of 39 + 4 numbers", control, {"db1": "raw"}, CONTROL_STEPS),
        (f"frames {_shape(frames)} of a {frames_name}", games, images, IMAGE_STEPS),
    ]
    comparisons: list[Comparison] = []
    for name, episodes, formats, steps in cases:
        ways = [_store(way, episodes, image_format) for way, image_format in formats.items()]
        ways += [_archive(episodes, compressed=len(formats) > 1), _arrays(episodes)]
        comparisons += _measure(name, episodes, ways, steps, rounds, progress)
    return comparisons


def _measure(
    name: str,
    episodes: Sequence[Episode],
    ways: Sequence[_Way],
    steps: int,
    rounds: int,
    progress: Progress | None,
) -> list[Comparison]:
    num_steps = sum(map(len, episodes))
    with tempfile.TemporaryDirectory() as folder:
        paths = {way.name: Path(folder) / way.name for way in ways}
        for way in ways:
            way.append(paths[way.name])
        sizes = {way.name: _bytes(paths[way.name]) / num_steps for way in ways}
        readers = {way.name: way.open(paths[way.name]) for way in ways}
        places = _places(episodes, steps, num_windows=100)
        _check_equal(readers, places[:10])
        fresh = (Path(folder) / f"again {i}" for i in itertools.count())
        append = compare(
            f"append {name}",
            "step",
            [
                Contender(name=w.name, run=lambda w=w: w.append(next(fresh)), amount=num_steps)
                for w in ways
            ],
            rounds=rounds,
            notes={f"bytes a step, {way}": size for way, size in sizes.items()},
            clock=time.process_time,
            progress=progress,
        )
        read = compare(
            f"read {steps} steps: {name}",
            "window",
            [
                Contender(
                    name=way, run=lambda r=r: [r(*place) for place in places], amount=len(places)
                )
                for way, r in readers.items()
            ],
            rounds=rounds,
            clock=time.process_time,
            progress=progress,
        )
    return [append, read]


def _store(name: str, episodes: Sequence[Episode], image_format: str) -> _Way:
    first = episodes[0]
    observation = {key: _field(values) for key, values in first.observations.items()}
    header = StoreHeader(
        task="benchmark/store",
        spec=StepSpec(observation=observation, action=_field(first.actions)),
        image_format=image_format,
    )

    def append(path: Path) -> None:
        with EpisodeWriter(path, header) as writer:
            for episode in episodes:
                writer.append(episode)

    def opened(path: Path) -> Callable[[int, int, int], Window]:
        store = EpisodeStore(path)

        def read(episode: int, start: int, stop: int) -> Window:
            observations, actions = store.read_window(episode, start, stop)
            return {**observations, "actions": actions}

        return read

    return _Way(name=name, append=append, open=opened)


def _archive(episodes: Sequence[Episode], *, compressed: bool) -> _Way:
    save = np.savez_compressed if compressed else np.savez

    def append(path: Path) -> None:
        path.mkdir()
        for number, episode in enumerate(episodes):
            save(path / f"{number}.npz", **_columns(episode))

    def opened(path: Path) -> Callable[[int, int, int], Window]:
        def read(episode: int, start: int, stop: int) -> Window:
            with np.load(path / f"{episode}.npz") as archive:
                return {key: archive[key][start:stop] for key in _read_keys(archive)}

        return read

    return _Way(name="npz", append=append, open=opened)


def _arrays(episodes: Sequence[Episode]) -> _Way:
    def append(path: Path) -> None:
        path.mkdir()
        for number, episode in enumerate(episodes):
            for key, values in _columns(episode).items():
                np.save(path / f"{number}.{key}.npy", values)

    def opened(path: Path) -> Callable[[int, int, int], Window]:
        keys = _read_keys(_columns(episodes[0]))

        def read(episode: int, start: int, stop: int) -> Window:
            files = {key: path / f"{episode}.{key}.npy" for key in keys}
            maps = {key: np.load(file, mmap_mode="r") for key, file in files.items()}
            return {key: np.array(values[start:stop]) for key, values in maps.items()}

        return read

    return _Way(name="npy", append=append, open=opened)


def _columns(episode: Episode) -> dict[str, np.ndarray]:
    return {**episode.observations, "actions": episode.actions, "rewards": episode.rewards}


def _read_keys(columns: Mapping[str, np.ndarray]) -> list[str]:
    return [key for key in columns if key != "rewards"]


def _check_equal(
    readers: Mapping[str, Callable[[int, int, int], Window]], places: Sequence[tuple[int, int, int]]
) -> None:
    for place in places:
        want = readers[OURS](*place)
        for name, reader in readers.items():
            got = reader(*place)
            if any(not np.array_equal(got[key], want[key]) for key in want):
                raise Db1Error(f"{name} and {OURS} read different steps at {place}")


def _places(
    episodes: Sequence[Episode], steps: int, num_windows: int
) -> list[tuple[int, int, int]]:
    rng = np.random.default_rng(0)
    numbers = rng.integers(len(episodes), size=num_windows).tolist()
    starts = [int(rng.integers(len(episodes[n]) - steps + 1)) for n in numbers]
    return [(n, start, start + steps) for n, start in zip(numbers, starts, strict=True)]


def _control_episode(seed: int, num_steps: int) -> Episode:
    rng = np.random.default_rng(seed)
    return Episode(
        observations={"state": rng.normal(size=(num_steps, 39)).astype(np.float32)},
        actions=rng.uniform(-1, 1, (num_steps, 4)).astype(np.float32),
        rewards=rng.normal(size=num_steps).astype(np.float32),
    )


def _image_episode(frames: np.ndarray, seed: int, num_steps: int) -> Episode:
    first = int(np.random.default_rng(seed).integers(len(frames)))
    order = np.arange(first, first + num_steps) % len(frames)
    return Episode(
        observations={_PIXELS: frames[order]},
        actions=(order % 4).astype(np.int32),
        rewards=np.zeros(num_steps, np.float32),
    )


def _field(values: np.ndarray) -> FieldSpec:
    shape = values.shape[1:]
    if values.dtype == np.uint8:
        return FieldSpec(kind="image", shape=shape)
    if values.dtype == np.int32:
        return FieldSpec(kind="discrete", shape=shape, num_values=4)
    return FieldSpec(kind="continuous", shape=shape)


def _bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in path.iterdir())


def _shape(frames: np.ndarray) -> str:
    return "x".join(map(str, frames.shape[1:]))
