"""Sources of a mixture: the episodes of one task, or the documents of one corpus.

A source turns (sample number inside the source, random generator) into one `TokenSegment` of
exactly T + 1 tokens. It pickles without its store, which a reader process opens when it first
needs it.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from db1.data.few_shot import chosen_episodes
from db1.errors import DataError
from db1.index.index import window_index
from db1.index.permutation import Permutation
from db1.sequence.episode import (
    SequenceConfig,
    disturb_history,
    fit_instruction,
    instruct,
)
from db1.sequence.segment import TokenSegment, fit, join
from db1.sequence.step import StepCodec
from db1.sequence.text import encode_text
from db1.store.documents import DocumentStore
from db1.store.episodes import EpisodeStore
from db1.store.instructions import read_instruction
from db1.tokens.instruction import EPISODE_KEY, Instruction
from db1.tokens.number_patch import NumberPatches, PatchSizes
from db1.tokens.text import TextTokenizer
from db1.tokens.vocabulary import Vocabulary

Opened = TypeVar("Opened")


class Source(Protocol):
    """One component of a mixture."""

    name: str

    def sample(self, number: int, generator: np.random.Generator) -> TokenSegment:
        """Returns the sequence that is number `number` of this source, T + 1 tokens."""
        ...


class OnDemand(Generic[Opened]):
    """Something that pickles as a note of how to open it again, and is opened when asked for.

    A mixture of thousands of stores reaches a spawned reader process in milliseconds; the process
    then opens those that it draws from.

    Args:
        opened: What is open in this process.
    """

    def __init__(self, opened: Opened) -> None:
        self._opened: Opened | None = opened
        self._pickled = b""

    def __call__(self) -> Opened:
        """Returns what is open."""
        if self._opened is None:
            self._opened = pickle.loads(self._pickled)
        return self._opened

    def __getstate__(self) -> dict[str, Any]:
        pickled = self._pickled if self._opened is None else pickle.dumps(self._opened)
        return {"_opened": None, "_pickled": pickled}


class EpisodeWindows:
    """All windows of consecutive steps in some episodes of a store.

    Args:
        store: Holds the episodes.
        numbers: Of the episodes in the store.
        window: Steps of a window; an episode with fewer is one window.
        starts: Which windows are drawn, see `SequenceConfig.window_starts`.

    Attributes:
        numbers: Of the episodes in the store.
        lengths: int64 (num_episodes,), their steps.
    """

    def __init__(
        self,
        store: EpisodeStore,
        numbers: range | tuple[int, ...],
        window: int,
        starts: str = "inside",
    ) -> None:
        self.store = store
        self.numbers = numbers
        is_range = isinstance(numbers, range)
        picks = slice(numbers.start, numbers.stop) if is_range else list(numbers)
        self.lengths = np.asarray(store.lengths[picks], dtype=np.int64)
        self._arguments = (store, numbers, window, starts)
        self._window = window
        self._clipped = starts == "clipped"
        grown = self.lengths + 2 * (window - 1) if self._clipped else self.lengths
        self._counts = window_index(grown, window)
        self._num_windows = int(self._counts[-1])

    def draw(self, generator: np.random.Generator) -> tuple[int, int, int]:
        """Draws a window: episode (from 0), first step, one past the last.

        All windows are equally likely, or with `clipped` starts all starts.
        """
        number = int(generator.integers(self._num_windows))
        episode = int(self._counts.searchsorted(number, side="right")) - 1
        start = number - int(self._counts[episode])
        length = int(self.lengths[episode])
        if self._clipped:
            start = min(max(0, start - self._window + 1), max(0, length - self._window))
        return episode, start, min(start + self._window, length)

    def read(self, episode: int, start: int, stop: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Reads observations and actions of the steps [start, stop) of an episode (from 0)."""
        return self.store.read_window(self.numbers[episode], start, stop)

    def __reduce__(self) -> tuple[Any, ...]:
        return EpisodeWindows, self._arguments


class EpisodeSource:
    """Windows of one task's episodes, some after a prompt from another episode.

    Every window of consecutive steps that fills a sequence is equally likely.

    Args:
        path: Folder of the task's episode store.
        vocabulary: Id ranges.
        tokenizer: For text fields of the task.
        config: Shape of the sequences.
        heldout: Draw from the held-out last episodes instead of the others.
        heldout_share: Share of the episodes that is held out, at least one where there are two.
        few: Learn from this many of the episodes that are not held out; None: all.
        seed: Chooses them, see few_shot.py.
        patches: Sizes of image and number patches.

    Raises:
        DataError: When the store is broken, holds no episode, or fewer than `few`.
    """

    def __init__(
        self,
        path: Path,
        vocabulary: Vocabulary,
        tokenizer: TextTokenizer | None,
        config: SequenceConfig,
        heldout: bool = False,
        heldout_share: float = 0.05,
        few: int | None = None,
        seed: int = 0,
        patches: PatchSizes | None = None,
    ) -> None:
        store = EpisodeStore(path)
        self.name = store.header.task
        self.config = config
        self.instruction: Instruction | None = None
        if config.instruction:
            self.instruction = read_instruction(path, self.name)
        spoken = self.instruction.field if self.instruction else None
        self.codec = StepCodec(store.spec, vocabulary, tokenizer, patches, spoken)
        self._has_own_words = (
            self.instruction is not None
            and store.num_episodes > 0
            and EPISODE_KEY in store.metadata(0)
        )
        self._pad_id = vocabulary.separator
        self._history_noise = 0.0 if heldout else config.history_noise
        first, stop = _split(store.num_episodes, heldout, heldout_share)
        if stop <= first:
            raise DataError(
                f"{path}: {store.num_episodes} episodes leave none for "
                f"{'held-out' if heldout else 'training'} data; collect more"
            )
        window = -(-(config.length + 1) // self.codec.min_step_tokens)
        numbers: range | tuple[int, ...] = range(first, stop)
        if few is not None:
            _check_enough(path, self.name, few, store.num_episodes, stop)
            numbers = chosen_episodes(stop, few, seed)
        self._windows = OnDemand(EpisodeWindows(store, numbers, window, config.window_starts))

    @property
    def windows(self) -> EpisodeWindows:
        """Windows that are drawn from."""
        return self._windows()

    @property
    def store(self) -> EpisodeStore:
        """The task's episodes."""
        return self.windows.store

    def sample(self, number: int, generator: np.random.Generator) -> TokenSegment:
        """Draws a window (and a prompt); `number` plays no part.

        Raises:
            DataError: Names the task, the episode and the steps that could not be read or encoded.
        """
        episode, start, stop = self.windows.draw(generator)
        prompt = None
        prompt_steps = int((stop - start) * self.config.prompt_steps_share)
        if generator.random() < self.config.prompt_probability and prompt_steps > 0:
            prompt = self._encode(*self._draw_prompt(episode, prompt_steps, generator))
            start += prompt_steps
        body = self._encode(episode, start, stop)
        body = disturb_history(self.codec, body, self._history_noise, generator)
        sample = join(prompt, body)
        if self.instruction is not None:
            sample = instruct(self._words(episode, start), sample)
        return fit(sample, self.config.length + 1, self._pad_id)

    def number_patches(self, episodes: int) -> Iterator[NumberPatches]:
        """Number patches of some episodes, spread evenly; none where numbers are tokens.

        Raises:
            DataError: An episode is broken.
        """
        if self.codec.patches.numbers == 1:
            return
        numbers = self.windows.numbers
        chosen = np.unique(np.linspace(0, len(numbers) - 1, num=episodes).astype(int))
        for index in chosen.tolist():
            patches = self.codec.number_patches(self.store.read(numbers[index]).observations)
            if patches is not None:
                yield patches

    def _words(self, episode: int, step: int) -> np.ndarray:
        """Ids of what an episode (from 0) is to do, int32 (n,)."""
        assert self.instruction is not None
        text, key = self.instruction.text, self.instruction.field
        number = self.windows.numbers[episode]
        if key is not None:
            text = str(self.store.read_field(number, key, step, step + 1)[0])
        elif self._has_own_words:
            text = str(self.store.metadata(number).get(EPISODE_KEY) or text)
        words = self.codec.encode_instruction(text)
        try:
            cut = self.config.long_instruction == "cut"
            return fit_instruction(words, text, self.config.max_instruction, cut)
        except DataError as error:
            raise DataError(f"{self.name} episode {number}: {error}") from None

    def _draw_prompt(
        self, body: int, steps: int, generator: np.random.Generator
    ) -> tuple[int, int, int]:
        """Draws another episode than `body` (where there is one) and `steps` of its steps."""
        lengths = self.windows.lengths
        others = len(lengths) - 1
        other = body if others == 0 else (body + 1 + int(generator.integers(others))) % (others + 1)
        last_start = max(0, int(lengths[other]) - steps)
        goal = generator.random() < self.config.prompt_goal_share
        start = last_start if goal else int(generator.integers(last_start + 1))
        return other, start, min(start + steps, int(lengths[other]))

    def _encode(self, episode: int, start: int, stop: int) -> TokenSegment:
        try:
            return self.codec.encode_steps(*self.windows.read(episode, start, stop), self.name)
        except DataError as error:
            number = self.windows.numbers[episode]
            raise DataError(
                f"{self.name} episode {number}, steps {start}..{stop - 1}: {error}"
            ) from None


class TextSource:
    """Consecutive stretches of a corpus, each once an epoch, shuffled again every epoch.

    Documents lie end to end; stretch i of T tokens has the tokens [i T, i T + T], the last of
    which is only a label.

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
        store = DocumentStore(prefix, tokenizer_fingerprint=tokenizer.fingerprint)
        self._store = OnDemand(store)
        self._vocabulary = vocabulary
        self._length = config.length
        self._seed = seed
        self._num_stretches = (store.num_tokens - 1) // config.length
        self._order = (0, Permutation(seed, 0, max(1, self._num_stretches)))
        if self._num_stretches < 1:
            raise DataError(
                f"{prefix}: {store.num_tokens} tokens, fewer than one sequence of "
                f"{config.length + 1}; use more text or a shorter sequence.length"
            )

    @property
    def store(self) -> DocumentStore:
        """The corpus."""
        return self._store()

    def __len__(self) -> int:
        """Number of different sequences."""
        return self._num_stretches

    def sample(self, number: int, generator: np.random.Generator) -> TokenSegment:
        """Returns stretch `number` of the endless shuffled stream."""
        epoch, place = divmod(number, self._num_stretches)
        if self._order[0] != epoch:
            self._order = (epoch, Permutation(self._seed, epoch, self._num_stretches))
        return self.stretch(self._order[1][place])

    def stretch(self, index: int) -> TokenSegment:
        """Returns stretch `index` in corpus order.

        Raises:
            DataError: Names the corpus and the stretch that could not be read or encoded.
        """
        first = index * self._length
        try:
            tokens = self._store().read_tokens(first, first + self._length + 1)
            return encode_text(tokens, self._vocabulary, self.name)
        except DataError as error:
            raise DataError(f"{self.name}, stretch {index}: {error}") from None


def _check_enough(path: Path, task: str, few: int, stored: int, available: int) -> None:
    if few > available:
        raise DataError(
            f"{path}: {stored} episodes, of which {stored - available} held out for the evaluation "
            f"loss, leave {available}, and {few} are asked for; run `db1 collect {task} --episodes "
            f"{few + max(1, stored - available)} --out {path.parents[1]}`, or set "
            "data.heldout_share=0"
        )


def _split(num_episodes: int, heldout: bool, share: float) -> tuple[int, int]:
    """First and one-past-last episode of the training or the held-out part."""
    num_heldout = min(max(1, round(num_episodes * share)), num_episodes - 1) if share else 0
    boundary = num_episodes - max(num_heldout, 0)
    return (boundary, num_episodes) if heldout else (0, boundary)
