"""The kinds of data that `db1 bench data` measures, as db1 reads them and as plain files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from db1.benchmarks.corpora import (
    CONTROL,
    IMAGE_SIDE,
    TaskSize,
    image_spec,
    write_documents,
    write_task,
)
from db1.benchmarks.timing import OURS
from db1.benchmarks.trajectory_files import DocumentFiles, TrajectoryFiles
from db1.data.collate import collate
from db1.data.mixture import generator_of
from db1.data.sources import EpisodeSource, Source, TextSource
from db1.errors import Db1Error
from db1.index.index import sample_index
from db1.model.vision import standardize, to_patches
from db1.sequence.episode import SequenceConfig
from db1.sequence.segment import TokenSegment
from db1.tokens.spec import PATCH_SIZE
from db1.tokens.vocabulary import Vocabulary, VocabularyConfig

LENGTH = 1_024
NUM_WINDOWS = 1_000
"""Different samples of a reference; they come again after that."""

_VOCABULARY = Vocabulary(VocabularyConfig())


@dataclass(frozen=True, kw_only=True)
class Case:
    """One kind of data.

    Args:
        name: What it is.
        sources: db1's sources by contender, `db1` among them.
        reference: The same data in plain files.
        same: db1's sample that holds what sample i of the reference does.
    """

    name: str
    sources: dict[str, Source]
    reference: TrajectoryFiles | DocumentFiles
    same: Callable[[int], TokenSegment]

    def check(self, num_samples: int = 4) -> None:
        """Raises Db1Error unless the reference's first samples hold what db1's do."""
        for i in range(num_samples):
            theirs, batch = self.reference[i], collate([self.same(i)])
            pairs = [
                (theirs[key], getattr(batch, key)[0])
                for key in ("ids", "labels", "local_positions", "loss_mask")
            ]
            for group in batch.images:
                patches = standardize(to_patches(group.pixels, PATCH_SIZE)).flatten(0, 1)
                pairs.append((theirs["patches"], patches[group.positions.flatten() < LENGTH]))
            if not all(torch.allclose(a, b, atol=1e-5) for a, b in pairs):
                raise Db1Error(f"{self.name}: sample {i} of the reference is not db1's")


def control_case(folder: Path, size: TaskSize) -> Case:
    """A Meta-World task: 39 numbers and 4 actions a step."""
    write_task(folder, CONTROL, size, {"raw": "raw"})
    return _task_case("39 numbers, 4 actions", folder, {})


def image_case(folder: Path, size: TaskSize, side: int = IMAGE_SIDE) -> Case:
    """An Atari task: a frame and a button a step; raw, and in the two compressed formats."""
    write_task(folder, image_spec(side), size, {name: name for name in ("raw", "zlib", "png")})
    compressed = {f"db1, {name} frames": folder / name for name in ("zlib", "png")}
    return _task_case(f"{side} x {side} frames", folder, compressed)


def text_case(folder: Path, num_documents: int) -> Case:
    """Documents of 50 to 1,000 tokens."""
    tokenizer, sizes = write_documents(folder, num_documents)
    config = SequenceConfig(length=LENGTH)
    ours = TextSource(folder / "book", "book", _VOCABULARY, tokenizer, config, seed=0)
    reference = DocumentFiles(folder, sample_index(sizes, LENGTH), LENGTH)
    return Case(name="text", sources={OURS: ours}, reference=reference, same=ours.stretch)


def _task_case(name: str, folder: Path, compressed: dict[str, Path]) -> Case:
    def source(store: Path, prompts: float = 0.0, noise: float = 0.0) -> EpisodeSource:
        config = SequenceConfig(length=LENGTH, prompt_probability=prompts, history_noise=noise)
        return EpisodeSource(store, _VOCABULARY, None, config, heldout_share=0.0)

    ours = source(folder / "raw")
    sources: dict[str, Source] = {
        OURS: ours,
        "db1, a quarter with prompts": source(folder / "raw", prompts=0.25),
        "db1, history noise": source(folder / "raw", noise=0.1),
    }
    sources |= {contender: source(store) for contender, store in compressed.items()}
    windows = [ours.windows.draw(generator_of(0, n)) for n in range(NUM_WINDOWS)]
    return Case(
        name=name,
        sources=sources,
        reference=TrajectoryFiles(folder / "npy", windows, _VOCABULARY, LENGTH),
        same=lambda i: ours.sample(i, generator_of(0, i)),
    )
