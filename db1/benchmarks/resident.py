"""Cost of opening data in a fresh process. Imports nothing that would fill its memory before."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from db1.benchmarks.memory import status_megabytes
from db1.data.mixture import generator_of
from db1.data.sources import EpisodeSource
from db1.sequence.episode import SequenceConfig
from db1.tokens.vocabulary import Vocabulary, VocabularyConfig


@dataclass(frozen=True, kw_only=True)
class Opening:
    """Cost of one opening.

    Args:
        open_seconds: Opening all stores.
        first_seconds: The first sample of each.
        megabytes: Growth of resident memory over both; None where the system does not tell.
        num_steps: Steps in all stores.
    """

    open_seconds: float
    first_seconds: float
    megabytes: float | None
    num_steps: int


def open_and_draw(folders: Sequence[Path], length: int) -> Opening:
    """Opens episode stores as sources and draws a sample of `length` tokens from each."""
    config = SequenceConfig(length=length)
    vocabulary = Vocabulary(VocabularyConfig())
    before, start = status_megabytes("VmRSS"), time.perf_counter()
    sources = [EpisodeSource(folder, vocabulary, None, config) for folder in folders]
    opened = time.perf_counter()
    for n, source in enumerate(sources):
        source.sample(n, generator_of(0, n))
    drawn, after = time.perf_counter(), status_megabytes("VmRSS")
    return Opening(
        open_seconds=opened - start,
        first_seconds=drawn - opened,
        megabytes=None if before is None or after is None else after - before,
        num_steps=sum(source.store.num_steps for source in sources),
    )
