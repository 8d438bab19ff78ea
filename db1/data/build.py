"""The `data` section of a configuration -> sources, mixture and evaluation sets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from db1.data.mixture import FixedSamples, MixtureDataset
from db1.data.sources import EpisodeSource, Source, TextSource
from db1.errors import ConfigError, DataError
from db1.sequence.episode import SequenceConfig
from db1.tokens.text import TextTokenizer
from db1.tokens.vocabulary import Vocabulary


@dataclass(frozen=True, kw_only=True)
class TaskData:
    """One control task of the mixture.

    Args:
        weight: Its share of the sequences, relative to all weights.
        episodes: Demonstrations that `db1 collect --config` makes.
        action_noise: Noise on the executed (not the recorded) actions of these demonstrations.
        max_steps: Steps after which a demonstration is cut off; None: never.
    """

    weight: float = 1.0
    episodes: int = 100
    action_noise: float = 0.0
    max_steps: int | None = None


@dataclass(frozen=True, kw_only=True)
class TextData:
    """One text corpus of the mixture.

    Args:
        weight: Its share of the sequences.
        source: A built-in corpus (`kjv`) or the path of a .txt or .jsonl file.
    """

    weight: float = 1.0
    source: str = "kjv"


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where the data lies and how it is mixed.

    Args:
        root: Folder of the stores: `<root>/<suite>/<task>/` and `<root>/text/<name>/`.
        tasks: Control tasks by id.
        text: Corpora by name.
        tokenizer: Tokenizer file or folder; None: the one trained on the first corpus.
        heldout_share: Share of each task's episodes kept for the evaluation loss.
        evaluation_samples: Sequences of each source's evaluation set.
        loss_balance: b of the weight n ** -b of each of a sequence's n targets: 0 weighs all
            targets alike (Gato), 1 all sequences, so that tasks with few actions in a sequence
            are not drowned by text.
    """

    root: Path
    tasks: dict[str, TaskData] = field(default_factory=dict)
    text: dict[str, TextData] = field(default_factory=dict)
    tokenizer: Path | None = None
    heldout_share: float = 0.05
    evaluation_samples: int = 64
    loss_balance: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.loss_balance <= 1.0:
            raise ConfigError(f"loss_balance: got {self.loss_balance}, expected 0..1")
        if not self.tasks and not self.text:
            raise ConfigError("tasks and text are both empty: nothing to learn from")

    def text_folder(self, name: str) -> Path:
        """Folder of a corpus's stores and tokenizer."""
        return self.root / "text" / name

    def tokenizer_path(self) -> Path | None:
        """Where the tokenizer lies; None when the mixture has none."""
        if self.tokenizer is not None:
            return self.tokenizer
        return self.text_folder(next(iter(self.text))) if self.text else None


def load_tokenizer(config: DataConfig, vocabulary: Vocabulary) -> TextTokenizer | None:
    """Loads the mixture's tokenizer and checks that its ids fit the vocabulary."""
    path = config.tokenizer_path()
    if path is None:
        return None
    if not path.exists():
        raise DataError(f"{path}: no tokenizer; run `db1 collect --config CONFIG` first")
    tokenizer = TextTokenizer.load(path)
    if tokenizer.size > vocabulary.config.text_size:
        raise DataError(
            f"{path}: tokenizer of {tokenizer.size} ids, expected at most vocabulary.text_size "
            f"{vocabulary.config.text_size}; raise it or prepare the text anew"
        )
    return tokenizer


class SourceFactory:
    """Builds the sources of a configuration from its stores.

    Args:
        config: The `data` section.
        sequence: Shape of the sequences.
        vocabulary: Id ranges.
        seed: Seed of the text shuffles.
    """

    def __init__(
        self, config: DataConfig, sequence: SequenceConfig, vocabulary: Vocabulary, seed: int
    ) -> None:
        self._config = config
        self._sequence = sequence
        self._vocabulary = vocabulary
        self._seed = seed
        self.tokenizer = load_tokenizer(config, vocabulary)

    def task(self, task_id: str, heldout: bool = False) -> EpisodeSource:
        """Source of one control task."""
        path = self._config.root / task_id
        if not path.exists():
            raise DataError(f"{path}: no demonstrations; run `db1 collect --config CONFIG` first")
        share = self._config.heldout_share
        return EpisodeSource(path, self._vocabulary, self.tokenizer, self._sequence, heldout, share)

    def corpus(self, name: str, part: str = "train") -> TextSource:
        """Source of one corpus; `part` is train or heldout."""
        assert self.tokenizer is not None
        prefix = self._config.text_folder(name) / part
        return TextSource(
            prefix, name, self._vocabulary, self.tokenizer, self._sequence, self._seed
        )

    def mixture(self, num_samples: int) -> MixtureDataset:
        """The training stream of `num_samples` sequences."""
        sources: list[Source] = [self.task(task_id) for task_id in self._config.tasks]
        sources += [self.corpus(name) for name in self._config.text]
        parts = [*self._config.tasks.values(), *self._config.text.values()]
        weights = [part.weight for part in parts]
        balance = self._config.loss_balance
        return MixtureDataset(sources, weights, num_samples, self._seed, balance)

    def evaluation_sets(self) -> Mapping[str, FixedSamples]:
        """Held-out samples by source name."""
        sources: list[Source] = [
            self.task(task_id, heldout=True)
            for task_id in self._config.tasks
            if self._config.heldout_share
        ]
        sources += [self.corpus(name, "heldout") for name in self._config.text]
        count = self._config.evaluation_samples
        return {source.name: FixedSamples(source, count, self._seed + 1) for source in sources}
