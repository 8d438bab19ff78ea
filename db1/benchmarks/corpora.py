"""Demonstrations and documents to measure the loader on: the same ones as stores and as `.npy`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from db1.benchmarks.frames import drawn_frames
from db1.store.document_writer import DocumentWriter
from db1.store.episodes import EpisodeWriter, StoreHeader
from db1.tokens.spec import Episode, FieldSpec, StepSpec
from db1.tokens.text import TextTokenizer

IMAGE_SIDE = 80
"""Side of an Atari frame in db1, 25 patches."""

CONTROL = StepSpec(
    observation={"state": FieldSpec(kind="continuous", shape=(39,))},
    action=FieldSpec(kind="continuous", shape=(4,)),
)
"""A Meta-World step: 39 numbers, 4 actions."""


def image_spec(side: int = IMAGE_SIDE) -> StepSpec:
    """An Atari step: a square frame, one of 18 buttons."""
    return StepSpec(
        observation={"pixels": FieldSpec(kind="image", shape=(side, side, 3))},
        action=FieldSpec(kind="discrete", num_values=18),
    )


@dataclass(frozen=True, kw_only=True)
class TaskSize:
    """Size of a synthetic task."""

    num_episodes: int
    num_steps: int


def write_task(folder: Path, spec: StepSpec, size: TaskSize, formats: Mapping[str, str]) -> None:
    """Writes episodes of one observation field as stores and as one `.npy` file each.

    Args:
        folder: Gets `<name>/` for each store and `npy/` for the files.
        spec: Step of the task.
        size: Episodes and their length.
        formats: Image format of each store, by its name.
    """
    episodes = [_episode(spec, seed, size.num_steps) for seed in range(size.num_episodes)]
    for name, image_format in formats.items():
        header = StoreHeader(task=f"bench/{name}", spec=spec, image_format=image_format)
        with EpisodeWriter(folder / name, header) as writer:
            for episode in episodes:
                writer.append(episode)
    for kind in ("observations", "actions"):
        (folder / "npy" / kind).mkdir(parents=True)
    for i, episode in enumerate(episodes):
        (observations,) = episode.observations.values()
        np.save(folder / "npy/observations" / f"{i}.npy", observations)
        np.save(folder / "npy/actions" / f"{i}.npy", episode.actions)


def write_documents(folder: Path, num_documents: int) -> tuple[TextTokenizer, np.ndarray]:
    """Writes random documents as a store `book.bin/.idx` and as one `.npy` file each.

    Returns:
        The tokenizer that the store names, and the numbers of tokens, int64 (num_documents,).
    """
    generator = np.random.default_rng(0)
    tokenizer = TextTokenizer.train(["the quick brown fox jumps over the lazy dog"], 300)
    sizes = generator.integers(50, 1_000, num_documents)
    (folder / "documents").mkdir(parents=True)
    with DocumentWriter(
        folder / "book", np.uint16, tokenizer=tokenizer.fingerprint, text_size=tokenizer.size
    ) as writer:
        for i, size in enumerate(sizes):
            document = generator.integers(0, tokenizer.size, size).astype(np.uint16)
            writer.append(document)
            np.save(folder / "documents" / f"{i}.npy", document)
    return tokenizer, sizes


def _episode(spec: StepSpec, seed: int, num_steps: int) -> Episode:
    generator = np.random.default_rng(seed)
    ((key, field),) = spec.observation.items()
    if field.kind == "image":
        frames = drawn_frames(num_steps + seed, field.shape[0])[seed:]
        observations, actions = frames, generator.integers(0, 18, num_steps).astype(np.int32)
    else:
        observations = generator.normal(size=(num_steps, *field.shape)).astype(np.float32)
        actions = generator.uniform(-1, 1, (num_steps, *spec.action.shape)).astype(np.float32)
    return Episode(
        observations={key: observations},
        actions=actions,
        rewards=np.zeros(num_steps, np.float32),
        seed=seed,
    )
