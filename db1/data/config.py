"""The `data` section of a configuration: which stores are mixed, and in what proportions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from db1.config import build
from db1.data.pair_config import PairData
from db1.errors import ConfigError, nearest
from db1.ranges import Checked, Count, Natural, NonNegative, Positive, Rate, Share, Weight
from db1.splits import tasks_of_splits
from db1.untrusted import check_name, check_relative

MODALITIES = ("control", "text", "pairs")
"""Names that `modalities` may have: tasks and suites; corpora; images with texts."""

WEIGHTS_BY = ("given", "size")

Part = TypeVar("Part")


@dataclass(frozen=True, kw_only=True)
class TaskData(Checked):
    """One control task of the mixture.

    Args:
        weight: Its share of the sequences, relative to its neighbours (see weights.py).
        episodes: Demonstrations that `db1 collect --config` makes.
        action_noise: Noise on the executed (not the recorded) actions of these demonstrations.
        max_steps: Steps after which a demonstration is cut off; None: never.
        learn_from: Stored episodes that are learned from, chosen by the run's seed (few-shot);
            None: all that are not held out.
    """

    weight: Weight = 1.0
    episodes: Count = 100
    action_noise: NonNegative = 0.0
    max_steps: Count | None = None
    learn_from: Count | None = None


@dataclass(frozen=True, kw_only=True)
class SuiteData(Checked):
    """All stored tasks of one suite.

    Args:
        weight: Share of the suite, relative to its neighbours.
        tasks: Tasks, by name without the suite: a number is a weight relative to the suite's
            other tasks, a mapping has the keys of `TaskData`.
        others: Weight of each task that is stored and not named in `tasks`; 0 leaves them out.
    """

    weight: Weight = 1.0
    tasks: Mapping[str, Any] = field(default_factory=dict)
    others: NonNegative = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "tasks", _parts(TaskData, self.tasks, "tasks"))


@dataclass(frozen=True, kw_only=True)
class TextData(Checked):
    """One text corpus of the mixture.

    Args:
        weight: Its share of the sequences, relative to its neighbours.
        source: A built-in corpus (`kjv`) or the path of a .txt or .jsonl file.
    """

    weight: Weight = 1.0
    source: str = "kjv"


@dataclass(frozen=True, kw_only=True)
class DataConfig(Checked):
    """Location of the data and their mixture; weights.py says what the weights mean.

    Args:
        root: Folder of the stores: `<root>/<suite>/<task>/`, `<root>/text/<name>/` and
            `<root>/pairs/<name>/`.
        tasks: Control tasks by id.
        suites: Suites by name: all their stored tasks. A number is a weight, a mapping has the
            keys of `SuiteData`.
        text: Corpora by name.
        pairs: Images with texts by name.
        modalities: Share of `control`, `text` and `pairs` in all sequences, each modality that
            has data named; empty: their parts compete by weight.
        temperature: Flattens weights to weight ** (1 / temperature): 1 leaves them as they are,
            towards infinity all are equal.
        weights_by: `given`, or `size`: each weight is multiplied by the size of the data (steps of
            episodes, tokens of text, pairs).
        tokenizer: Tokenizer file or folder; None: the one trained on the first corpus, without a
            corpus on the texts of the pairs.
        heldout_share: Share of each task's episodes kept for the evaluation loss.
        evaluation_samples: Sequences of each source's evaluation set.
        loss_balance: b of the weight n ** -b of each of a sequence's n targets: 0 weighs all
            targets alike (Gato), 1 all sequences, so that tasks with few actions in a sequence
            are not drowned by text.
        held_out: Named splits (`db1.splits`) whose tasks are not learned: one that is named in
            `tasks` or a suite is an error; one that is stored of a suite is left out.
    """

    root: Path
    tasks: dict[str, TaskData] = field(default_factory=dict)
    suites: Mapping[str, Any] = field(default_factory=dict)
    text: dict[str, TextData] = field(default_factory=dict)
    pairs: dict[str, PairData] = field(default_factory=dict)
    modalities: dict[str, NonNegative] = field(default_factory=dict)
    temperature: Positive = 1.0
    weights_by: str = "given"
    tokenizer: Path | None = None
    heldout_share: Rate = 0.05
    evaluation_samples: Natural = 64
    loss_balance: Share = 0.0
    held_out: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "suites", _parts(SuiteData, self.suites, "suites"))
        for section in ("text", "pairs", "suites"):
            for name in getattr(self, section):
                check_name(name, section, ConfigError)
        for name in self.named_tasks():
            check_relative(name, "tasks", ConfigError)
        self._check_held_out()
        if not (self.tasks or self.suites or self.text or self.pairs):
            raise ConfigError("tasks, suites, text and pairs are all empty: nothing to learn from")
        if self.weights_by not in WEIGHTS_BY:
            raise ConfigError(
                f"weights_by: got {self.weights_by!r}, expected one of {list(WEIGHTS_BY)}"
            )
        self._check_modalities()
        for suite, part in self.suites.items():
            for task in part.tasks:
                if f"{suite}/{task}" in self.tasks:
                    raise ConfigError(f"{suite}/{task} is named in tasks and in suites.{suite}")

    def _check_held_out(self) -> None:
        """Raises ConfigError for an unknown split, or a named task of one."""
        kept = self.held_out_tasks()
        for task, data in self.named_tasks().items():
            if task in kept and data.weight:
                raise ConfigError(
                    f"{task} is in the mixture and in held_out: {kept[task]}; remove it from "
                    "data.tasks or data.suites, or the split from data.held_out"
                )

    def held_out_tasks(self) -> dict[str, str]:
        """Tasks that are not learned, and the split that says so."""
        return tasks_of_splits(self.held_out)

    def _check_modalities(self) -> None:
        present = {
            "control": bool(self.tasks or self.suites),
            "text": bool(self.text),
            "pairs": bool(self.pairs),
        }
        for name, share in self.modalities.items():
            if name not in present:
                raise ConfigError(
                    f"modalities: unknown key {name!r}, expected some of {list(MODALITIES)}"
                    f"{nearest(name, MODALITIES)}"
                )
            if share and not present[name]:
                raise ConfigError(f"modalities.{name}: got {share}, and there is no such data")
        missing = [name for name in MODALITIES if present[name] and name not in self.modalities]
        if self.modalities and missing:
            raise ConfigError(
                f"modalities: {missing[0]} has data and no share; add {missing[0]}: 0 to leave "
                "it out"
            )
        if self.weights_by == "size" and not self.modalities and sum(present.values()) > 1:
            raise ConfigError(
                "weights_by: size counts steps of control, tokens of text and pairs, which do "
                "not compare; give modalities their shares"
            )

    def named_tasks(self) -> dict[str, TaskData]:
        """The tasks that the configuration names, by id, those of its suites too."""
        named = dict(self.tasks)
        for suite, part in self.suites.items():
            named |= {f"{suite}/{task}": data for task, data in part.tasks.items()}
        return named

    def text_folder(self, name: str) -> Path:
        """Folder of a corpus's stores and tokenizer."""
        return self.root / "text" / name

    def pairs_folder(self, name: str) -> Path:
        """Folder of a set of images with texts."""
        return self.root / "pairs" / name

    def tokenizer_path(self) -> Path | None:
        """Path of the tokenizer; None when the mixture has none.

        A mixture of control tasks alone has one where its instructions were learned from.
        """
        if self.tokenizer is not None:
            return self.tokenizer
        if self.text:
            return self.text_folder(next(iter(self.text)))
        if self.pairs:
            return self.pair_tokenizer_path
        own = self.instruction_tokenizer_path
        return own if own.is_file() else None

    @property
    def instruction_tokenizer_path(self) -> Path:
        """Tokenizer of the instructions, for a mixture of control tasks alone."""
        return self.root / "instruction_tokenizer.json"

    @property
    def pair_tokenizer_path(self) -> Path:
        """Tokenizer of the texts of all pairs, for a mixture without a corpus."""
        return self.root / "pairs" / "tokenizer.json"


def _parts(cls: type[Part], values: Mapping[str, Any], where: str) -> dict[str, Part]:
    """Builds parts from numbers (weights) and mappings."""
    parts = {}
    for key, value in values.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            value = {"weight": value}
        if not isinstance(value, cls):
            value = build(cls, value, f"{where}.{key}")
        parts[str(key)] = value
    return parts
