"""The `data` section of a configuration -> sources, mixture and evaluation sets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction

from db1.data.config import DataConfig, SuiteData, TaskData, TextData
from db1.data.mixture import FixedSamples, MixtureDataset
from db1.data.pair_config import PairData
from db1.data.pairs import PairSource
from db1.data.schedule import MixtureSchedule
from db1.data.sources import EpisodeSource, Source, TextSource
from db1.data.weights import resolve_weights
from db1.errors import DataError
from db1.index.index_cache import IndexCache
from db1.sequence.episode import SequenceConfig
from db1.tokens.number_patch import PatchSizes
from db1.tokens.text import TextTokenizer
from db1.tokens.vocabulary import Vocabulary

__all__ = [
    "DataConfig",
    "PairData",
    "SourceFactory",
    "SuiteData",
    "TaskData",
    "TextData",
    "load_tokenizer",
]


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
            f"{vocabulary.config.text_size}; raise it or prepare the text again"
        )
    return tokenizer


class SourceFactory:
    """Builds the sources of a configuration from its stores.

    Args:
        config: The `data` section.
        sequence: Shape of the sequences.
        vocabulary: Id ranges.
        seed: Seed of the text shuffles.
        patches: Sizes of image and number patches (`ModelConfig.patches`).
    """

    def __init__(
        self,
        config: DataConfig,
        sequence: SequenceConfig,
        vocabulary: Vocabulary,
        seed: int,
        patches: PatchSizes | None = None,
    ) -> None:
        self._config = config
        self._sequence = sequence
        self._vocabulary = vocabulary
        self._seed = seed
        self._patches = patches or PatchSizes()
        self.tokenizer = load_tokenizer(config, vocabulary)
        if sequence.instruction and self.tokenizer is None:
            raise DataError(
                f"{config.instruction_tokenizer_path}: sequence.instruction needs a tokenizer; run "
                "`db1 collect --config CONFIG` first"
            )

    def task(self, task_id: str, heldout: bool = False) -> EpisodeSource:
        """Source of one control task."""
        path = self._config.root / task_id
        given = self._config.named_tasks().get(task_id)
        few = None if heldout or given is None else given.learn_from
        if not path.exists():
            raise DataError(
                f"{path}: no demonstrations; run {self._collecting(task_id, few)} first"
            )
        source = EpisodeSource(
            path,
            self._vocabulary,
            self.tokenizer,
            self._sequence,
            heldout,
            self._config.heldout_share,
            few,
            self._seed,
            self._patches,
        )
        if source.name != task_id:
            raise DataError(
                f"{path}: holds episodes of {source.name!r}, expected {task_id!r}; "
                f"move it to {self._config.root / source.name}"
            )
        return source

    def _collecting(self, task_id: str, few: int | None) -> str:
        """The command that makes a task's demonstrations."""
        if few is None:
            return "`db1 collect --config CONFIG`"
        share = self._config.heldout_share
        count = few + max(1, math.ceil(few * share / (1 - share))) if 0 < share < 1 else few
        return f"`db1 collect {task_id} --episodes {count} --out {self._config.root}`"

    def chosen(self) -> dict[str, list[int]]:
        """Numbers of the episodes that few-shot tasks learn from, by task."""
        named = self._config.named_tasks().items()
        few = sorted(task for task, data in named if data.learn_from is not None)
        return {task: list(self.task(task).windows.numbers) for task in few}

    def corpus(self, name: str, part: str = "train") -> TextSource:
        """Source of one corpus; `part` is train or heldout."""
        assert self.tokenizer is not None
        prefix = self._config.text_folder(name) / part
        return TextSource(
            prefix, name, self._vocabulary, self.tokenizer, self._sequence, self._seed
        )

    def pairs(self, name: str, heldout: bool = False) -> PairSource:
        """Source of one set of images with texts."""
        assert self.tokenizer is not None
        return PairSource(
            self._config.pairs_folder(name),
            name,
            self._vocabulary,
            self.tokenizer,
            self._config.pairs[name],
            self._sequence,
            self._seed,
            heldout,
            self._config.heldout_share,
            self._patches.image,
        )

    def shares(self) -> list[tuple[str, Fraction]]:
        """Every dataset of the mixture and its share (see `resolve_weights`)."""
        return resolve_weights(self._config)

    def source(self, name: str) -> Source:
        """Training source of a task id, a corpus, or a set of images with texts."""
        if name in self._config.text:
            return self.corpus(name)
        return self.pairs(name) if name in self._config.pairs else self.task(name)

    def mixture(
        self,
        num_samples: int,
        schedule: MixtureSchedule | None = None,
        samples_per_step: int = 1,
    ) -> MixtureDataset:
        """The training stream.

        Args:
            num_samples: Sequences in the run.
            schedule: Weights by step; None: those of the configuration all the way.
            samples_per_step: Sequences in a step; only a schedule with changes needs it.

        Raises:
            ConfigError: Weights that cannot be used, or fewer sequences than datasets.
            DataError: A store is missing, broken, or does not go with the others.
        """
        if schedule is None:
            schedule = MixtureSchedule.plan(self.shares(), num_samples)
        sources = [self.source(name) for name in schedule.names]
        cache = IndexCache(self._config.root)
        order = schedule.order(num_samples, samples_per_step, cache)
        return MixtureDataset(sources, order, self._seed, self._config.loss_balance)

    def evaluation_sets(self) -> Mapping[str, FixedSamples]:
        """Held-out samples by source name."""
        sources = [self._heldout(name) for name, _ in self.shares()]
        count = self._config.evaluation_samples
        return {
            source.name: FixedSamples(source, count, self._seed + 1)
            for source in sources
            if source is not None
        }

    def _heldout(self, name: str) -> Source | None:
        """Held-out source of one dataset; None where nothing is held out."""
        config = self._config
        if name in config.text:
            return self.corpus(name, "heldout")
        if name in config.pairs:
            has_split = config.pairs[name].heldout_split is not None
            return self.pairs(name, heldout=True) if has_split or config.heldout_share else None
        return self.task(name, heldout=True) if config.heldout_share else None
