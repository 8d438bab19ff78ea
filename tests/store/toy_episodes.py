"""A small task with a field of each kind, and stores of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from db1.store.episodes import EpisodeStore, EpisodeWriter, StoreHeader
from db1.tokens.spec import Episode, FieldSpec, StepSpec

SPEC = StepSpec(
    observation={
        "mission": FieldSpec(kind="text"),
        "image": FieldSpec(kind="image", shape=(16, 16, 3)),
        "place/x": FieldSpec(kind="discrete", shape=(2,), num_values=7),
        "state": FieldSpec(kind="continuous", shape=(3,)),
    },
    action=FieldSpec(kind="continuous", shape=(2,)),
)
HEADER = StoreHeader(task="toy/line", spec=SPEC, environment={"id": "line-v0", "horizon": 9})


def make_episode(seed: int, length: int | None = None, with_metadata: bool = True) -> Episode:
    """An episode that is a function of its seed; the odd ones have metadata."""
    rng = np.random.default_rng(seed)
    length = int(rng.integers(1, 12)) if length is None else length
    words = ["go to the red ball", "line\nbreak \u2028 and 😀", f"seed {seed}", ""]
    mission = np.array([words[i] for i in rng.integers(0, 4, length)], dtype=object)
    return Episode(
        observations={
            "mission": mission,
            "image": rng.integers(0, 256, (length, 16, 16, 3), dtype=np.uint8),
            "place/x": rng.integers(0, 7, (length, 2), dtype=np.int32),
            "state": rng.normal(size=(length, 3)).astype(np.float32),
        },
        actions=rng.uniform(-1, 1, (length, 2)).astype(np.float32),
        rewards=rng.normal(size=length).astype(np.float32),
        seed=seed,
        terminated=bool(seed % 2),
        success=(None, False, True)[seed % 3],
        metadata={"source": f"é {seed}", "score": [seed, 0.5, None]}
        if with_metadata and seed % 2
        else {},
    )


def write(path: Path, seeds: range, header: StoreHeader = HEADER, **kwargs: object) -> Path:
    """Appends the episodes of these seeds."""
    with EpisodeWriter(path, header, **kwargs) as writer:
        for seed in seeds:
            writer.append(make_episode(seed))
    return path


def assert_same(got: Episode, want: Episode) -> None:
    """Equal values and dtypes."""
    for key in SPEC.observation:
        assert got.observations[key].dtype == want.observations[key].dtype
        np.testing.assert_array_equal(got.observations[key], want.observations[key])
    np.testing.assert_array_equal(got.actions, want.actions)
    np.testing.assert_array_equal(got.rewards, want.rewards)
    assert (got.seed, got.terminated, got.success) == (want.seed, want.terminated, want.success)
    assert got.metadata == want.metadata


def assert_holds(path: Path, seeds: range) -> None:
    """The store has the episodes of these seeds and nothing else."""
    store = EpisodeStore(path)
    assert store.num_episodes == len(seeds)
    for i, seed in enumerate(seeds):
        assert_same(store.read(i), make_episode(seed))
    assert store.verify().num_episodes == len(seeds)


def flip(file: Path, position: int, bit: int = 2) -> None:
    """Flips one bit of a file."""
    content = bytearray(file.read_bytes())
    content[position] ^= 1 << bit
    file.write_bytes(content)
