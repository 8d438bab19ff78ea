"""One rank's share of a training stream in a process that can be killed, for test_build_resume."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from multiprocessing.connection import Connection
from pathlib import Path

from db1.data.build import DataConfig, SourceFactory, TaskData, TextData
from db1.data.loader import make_loader
from db1.data.mixture import MixtureDataset, sample_hash
from db1.data.schedule import MixtureSchedule
from db1.sequence.episode import SequenceConfig
from db1.sequence.segment import TokenSegment
from db1.tokens.vocabulary import Vocabulary, VocabularyConfig

STEPS, BATCH = 40, 6


class Labelled:
    """Samples that carry their number and hash through the loader, in the name of their source."""

    def __init__(self, dataset: MixtureDataset) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, n: int) -> TokenSegment:
        sample = self._dataset[n]
        return replace(sample, source=f"{n} {sample_hash(sample)}")


def make_dataset(root: Path) -> MixtureDataset:
    """Two tasks and a corpus whose shares change at step 17."""
    config = DataConfig(
        root=root,
        tasks={"toy/numbers": TaskData(weight=0.7), "toy/pixels": TaskData(weight=0.2)},
        text={"book": TextData(weight=0.3)},
        loss_balance=0.5,
    )
    sequence = SequenceConfig(length=32, prompt_probability=0.5, history_noise=0.5)
    vocabulary = Vocabulary(VocabularyConfig(text_size=300))
    factory = SourceFactory(config, sequence, vocabulary, seed=3)
    turned = dict(zip(dict(factory.shares()), map(Fraction, ("1/5", "1/2", "3/10")), strict=True))
    schedule = MixtureSchedule.plan(factory.shares(), STEPS * BATCH)
    schedule = schedule.resumed(17, list(turned.items()), (STEPS - 17) * BATCH)
    return factory.mixture(STEPS * BATCH, schedule, BATCH)


@contextmanager
def reading(
    root: Path, first_step: int, rank: int, world_size: int, workers: int
) -> Iterator[Iterator[tuple[int, str]]]:
    """Numbers and hashes of the samples that leave a rank's loader; it is killed at the end."""
    processes = multiprocessing.get_context("fork")
    ours, theirs = processes.Pipe(duplex=False)
    arguments = (root, first_step, rank, world_size, workers, theirs)
    process = processes.Process(target=_read, args=arguments)
    process.start()
    theirs.close()
    try:
        yield iter(ours.recv, None)
    finally:
        process.kill()
        process.join()
        ours.close()


def _read(
    root: Path, first_step: int, rank: int, world_size: int, workers: int, to: Connection
) -> None:
    batches = make_loader(
        Labelled(make_dataset(root)),
        first_step=first_step,
        num_steps=STEPS,
        global_batch_size=BATCH,
        micro_batch_size=1,
        rank=rank,
        world_size=world_size,
        num_workers=workers,
    )
    for batch in batches:
        for source in batch.sources:
            number, hashed = source.split()
            to.send((int(number), hashed))
    to.send(None)
