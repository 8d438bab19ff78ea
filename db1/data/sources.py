"""What a mixture draws from: the episodes of one task, or the documents of one corpus.

A source turns (sample number inside the source, random generator) into one `Sample` of exactly
T + 1 tokens. It opens its store lazily in each process, so it can be sent to loader workers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np

from db1.errors import DataError
from db1.sequence.episode import SequenceConfig, disturb_history, encode_episode, fit, join
from db1.sequence.sample import Sample
from db1.sequence.step import StepCodec
from db1.sequence.text import encode_text
from db1.store.documents import DocumentStore
from db1.store.episodes import EpisodeStore
from db1.store.index import sample_index, window_index
from db1.tokens.text import TextTokenizer
from db1.tokens.vocabulary import Vocabulary


class Source(Protocol):
    """One component of a mixture."""

    name: str

    def sample(self, number: int, generator: np.random.Generator) -> Sample:
        """Returns the sequence that is number `number` of this source, T + 1 tokens."""
        ...


class EpisodeSource:
    """Windows of one task's episodes, some behind a prompt from another episode.

    Every window of consecutive steps that fills a sequence is equally likely.

    Args:
        path: Folder of the task's episode store.
        vocabulary: Id ranges.
        tokenizer: For text fields of the task.
        config: Shape of the sequences.
        heldout: Draw from the held-out last episodes instead of the others.
        heldout_share: Share of the episodes that is held out, at least one where there are two.

    Raises:
        DataError: When the store is broken or holds no episode.
    """

    def __init__(
        self,
        path: Path,
        vocabulary: Vocabulary,
        tokenizer: TextTokenizer | None,
        config: SequenceConfig,
        heldout: bool = False,
        heldout_share: float = 0.05,
    ) -> None:
        self.store = EpisodeStore(path)
        self.name = self.store.header.task
        self.config = config
        self.codec = StepCodec(self.store.spec, vocabulary, tokenizer)
        self._pad_id = vocabulary.separator
        self._heldout = heldout
        self._first, stop = _split(self.store.num_episodes, heldout, heldout_share)
        if stop <= self._first:
            raise DataError(
                f"{path}: {self.store.num_episodes} episodes leave none for "
                f"{'held-out' if heldout else 'training'} data; collect more"
            )
        self._lengths = np.asarray(self.store.lengths[self._first : stop], dtype=np.int64)
        self._window = -(-(config.length + 1) // self.codec.min_step_tokens)
        self._windows = window_index(self._lengths, self._window)

    def sample(self, number: int, generator: np.random.Generator) -> Sample:
        """Draws a window (and a prompt); `number` plays no part."""
        flat = int(generator.integers(self._windows[-1]))
        local = int(np.searchsorted(self._windows, flat, side="right")) - 1
        start = flat - int(self._windows[local])
        stop = min(start + self._window, int(self._lengths[local]))
        prompt = None
        prompt_steps = int((stop - start) * self.config.prompt_steps_share)
        if generator.random() < self.config.prompt_probability and prompt_steps > 0:
            prompt = self._prompt(local, prompt_steps, generator)
            start += prompt_steps
        noise = 0.0 if self._heldout else self.config.history_noise
        body = disturb_history(self.codec, self._encode(local, start, stop), noise, generator)
        sample = join(prompt, body)
        return fit(sample, self.config.length + 1, self._pad_id)

    def _prompt(self, body: int, steps: int, generator: np.random.Generator) -> Sample:
        others = len(self._lengths) - 1
        other = body if others == 0 else (body + 1 + int(generator.integers(others))) % (others + 1)
        last_start = max(0, int(self._lengths[other]) - steps)
        goal = generator.random() < self.config.prompt_goal_share
        start = last_start if goal else int(generator.integers(last_start + 1))
        return self._encode(other, start, min(start + steps, int(self._lengths[other])))

    def _encode(self, local: int, start: int, stop: int) -> Sample:
        episode = self.store.read(self._first + local, start, stop)
        return encode_episode(self.codec, episode, self.name)


class TextSource:
    """Consecutive stretches of a corpus, each once an epoch, shuffled anew every epoch.

    Args:
        prefix: Path of the `.bin/.idx` pair without its ending.
        name: Name of the corpus in losses.
        vocabulary: Id ranges.
        tokenizer: The tokenizer that must have made the store.
        config: Shape of the sequences.
        seed: Seed of the shuffles.

    Raises:
        DataError: When the store is broken, made by another tokenizer, or shorter than a sequence.
    """

    def __init__(
        self,
        prefix: Path,
        name: str,
        vocabulary: Vocabulary,
        tokenizer: TextTokenizer,
        config: SequenceConfig,
        seed: int,
    ) -> None:
        self.name = name
        self.store = DocumentStore(prefix, tokenizer_fingerprint=tokenizer.fingerprint)
        self._vocabulary = vocabulary
        self._length = config.length
        self._seed = seed
        self._index = sample_index(self.store.sizes, config.length)
        self._shuffle: tuple[int, np.ndarray] = (-1, np.empty(0, np.int64))
        if len(self._index) < 2:
            raise DataError(
                f"{prefix}: {int(np.sum(self.store.sizes))} tokens, fewer than one sequence of "
                f"{config.length + 1}; use more text or a shorter sequence.length"
            )

    def __len__(self) -> int:
        """Number of different sequences."""
        return len(self._index) - 1

    def sample(self, number: int, generator: np.random.Generator) -> Sample:
        """Returns stretch `number` of the endless shuffled stream."""
        epoch, place = divmod(number, len(self))
        return self.stretch(int(self._order(epoch)[place]))

    def stretch(self, index: int) -> Sample:
        """Returns stretch `index` in corpus order."""
        (document, offset), (last, end) = self._index[index], self._index[index + 1]
        parts = []
        for d in range(int(document), int(last) + 1):
            begin = int(offset) if d == document else 0
            stop = int(end) + 1 if d == last else int(self.store.sizes[d])
            parts.append(self.store.read(d, begin, stop - begin))
        return encode_text(np.concatenate(parts), self._vocabulary, self.name)

    def _order(self, epoch: int) -> np.ndarray:
        if self._shuffle[0] != epoch:
            generator = np.random.default_rng([self._seed, epoch])
            self._shuffle = (epoch, generator.permutation(len(self)))
        return self._shuffle[1]


def _split(num_episodes: int, heldout: bool, share: float) -> tuple[int, int]:
    """First and one-past-last episode of the training or the held-out part."""
    num_heldout = min(max(1, round(num_episodes * share)), num_episodes - 1) if share else 0
    boundary = num_episodes - max(num_heldout, 0)
    return (boundary, num_episodes) if heldout else (0, boundary)
