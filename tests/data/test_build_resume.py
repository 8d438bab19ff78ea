"""A stream that is killed and goes on with other ranks and workers is the stream undisturbed."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from reading_rank import BATCH, STEPS, make_dataset, reading

from db1.data.mixture import sample_hash
from db1.store.document_writer import DocumentWriter
from db1.store.episodes import EpisodeWriter, StoreHeader
from db1.tokens.spec import Episode, FieldSpec, StepSpec
from db1.tokens.text import TextTokenizer

ACTION = FieldSpec(kind="discrete", num_values=4)
FIELDS = {
    "toy/numbers": {"x": FieldSpec(kind="continuous", shape=(2,))},
    "toy/pixels": {"eye": FieldSpec(kind="image", shape=(16, 32, 3))},
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    generator = np.random.default_rng(0)
    for task, observation in FIELDS.items():
        spec = StepSpec(observation=observation, action=ACTION)
        with EpisodeWriter(root / task, StoreHeader(task=task, spec=spec)) as writer:
            for seed in range(8):
                values = {
                    "x": generator.normal(size=(30, 2)).astype(np.float32),
                    "eye": generator.integers(0, 256, (30, 16, 32, 3), np.uint8),
                }
                writer.append(
                    Episode(
                        observations={key: values[key] for key in observation},
                        actions=generator.integers(0, 4, 30).astype(np.int32),
                        rewards=np.zeros(30, np.float32),
                        seed=seed,
                    )
                )
    tokenizer = TextTokenizer.train(["in the beginning was the word"] * 9, 300)
    folder = root / "text" / "book"
    folder.mkdir(parents=True)
    tokenizer.save(folder / "tokenizer.json")
    with DocumentWriter(
        folder / "train", np.uint16, tokenizer=tokenizer.fingerprint, text_size=300
    ) as writer:
        for length in (700, 33, 5, 3200):
            writer.append(generator.integers(0, tokenizer.size, length))
    return root


def _read(
    root: Path, first_step: int, stop_step: int, world_size: int, workers: int
) -> dict[int, str]:
    """Hashes by sample number of the steps [first_step, stop_step); then the ranks are killed."""
    hashes: dict[int, str] = {}
    with ExitStack() as stack:
        ranks = [
            stack.enter_context(reading(root, first_step, rank, world_size, workers))
            for rank in range(world_size)
        ]
        for samples in ranks:
            for number, hashed in samples:
                if number >= stop_step * BATCH:
                    break
                assert number not in hashes
                hashes[number] = hashed
    return hashes


def test_killed_twice_with_other_ranks_and_workers(root: Path) -> None:
    dataset = make_dataset(root)
    undisturbed = {n: sample_hash(dataset[n]) for n in range(STEPS * BATCH)}
    assert len(set(undisturbed.values())) > 0.9 * len(undisturbed)
    resumed: dict[int, str] = {}
    for first, stop, world_size, workers in ((0, 11, 2, 0), (11, 25, 1, 2), (25, STEPS, 3, 1)):
        part = _read(root, first, stop, world_size, workers)
        assert sorted(part) == list(range(first * BATCH, stop * BATCH))
        resumed |= part
    assert resumed == undisturbed


def test_shares_change_at_their_step(root: Path) -> None:
    dataset = make_dataset(root)
    names = [dataset[n].source for n in range(STEPS * BATCH)]
    change = 17 * BATCH
    for name, before, after in (
        ("toy/numbers", 7 / 12, 0.2),
        ("toy/pixels", 2 / 12, 0.5),
        ("book", 3 / 12, 0.3),
    ):
        assert abs(names[:change].count(name) - change * before) < 1
        assert abs(names[change:].count(name) - (STEPS * BATCH - change) * after) < 1
