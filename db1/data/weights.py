"""Weights of a configuration -> the share that each dataset has of all training sequences.

The weights form a tree, and each node's share is divided among its children in proportion to
their weights:

    all sequences
      control | text | pairs            by `modalities`, where given; else one level with the next
        tasks, suites | corpora | sets  by their weights
          a suite's tasks               by their weights inside the suite

Worked example: `suites: {a: 0.3, b: {weight: 0.1, tasks: {x: 3}}}`, `tasks: {c/y: {weight: 0.4}}`,
`text: {t: {weight: 0.2}}`, with the tasks p and q stored of a, x and z of b: a/p and a/q have
0.15 each, b/x 0.075 (3 of 4 of b's 0.1), b/z 0.025, c/y 0.4, t 0.2. With the modalities
{control: 0.5, text: 0.5} the control shares are multiplied by 0.5 / 0.8 and t has 0.5.

With a `temperature` T every weight w (not the modalities' shares) counts as w ** (1 / T). With
`weights_by: size` a weight is multiplied by the size of what lies below it before that, so
T > 1 raises small datasets as multilingual models do: share ~ size ** (1 / T).

A task that `tasks` names is not counted in its suite, nor is one of a split in `held_out`. Shares
are exact fractions of the decimal numbers in the configuration wherever T is 1.

Source of the temperature: A. Conneau and G. Lample, "Cross-lingual language model pretraining",
2019, section 3.1 (alpha = 1 / T).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from db1.data.config import DataConfig, SuiteData
from db1.errors import ConfigError, DataError, nearest
from db1.store.documents import DocumentStore
from db1.store.episodes import EpisodeStore
from db1.store.pairs import PairStore

logger = logging.getLogger(__name__)

HEADER = "header.json"


@dataclass(frozen=True)
class _Node:
    """A part of the mixture: a dataset, or a suite with its tasks below."""

    name: str
    weight: Fraction
    children: tuple[_Node, ...] = ()


def resolve_weights(config: DataConfig) -> list[tuple[str, Fraction]]:
    """Returns every dataset of the mixture and its share; the shares sum to 1.

    Reads the names of the stored tasks of `suites`, and sizes for `weights_by: size`; nothing
    else needs a store.

    Args:
        config: The `data` section.

    Returns:
        (task id or name of a corpus or set, share): tasks, corpora, sets of images with texts,
        each in order of its name; the order does not depend on that of the configuration.

    Raises:
        ConfigError: All weights at one place are 0, or two datasets have one name.
        DataError: A suite without any store.
    """
    size_of = _size_reader(config) if config.weights_by == "size" else None
    control = [_leaf(name, part.weight, size_of) for name, part in config.tasks.items()]
    control += [_suite(config, name, part, size_of) for name, part in config.suites.items()]
    text = [_leaf(name, part.weight, size_of) for name, part in config.text.items()]
    pairs = [_leaf(name, part.weight, size_of) for name, part in config.pairs.items()]
    shares: dict[str, Fraction] = {}
    groups = {"control": control, "text": text, "pairs": pairs}
    for nodes, share in _modality_shares(config, groups):
        found = _divide(nodes, share, config.temperature)
        for name in shares.keys() & found.keys():
            raise ConfigError(f"data: two datasets are called {name!r}; rename one")
        shares |= found
    kinds = dict.fromkeys(config.text, 1) | dict.fromkeys(config.pairs, 2)
    return sorted(shares.items(), key=lambda item: (kinds.get(item[0], 0), item[0]))


def stored_tasks(root: Path, suite: str) -> list[str]:
    """Names of a suite's tasks that have an episode store below `root`, in order.

    Raises:
        DataError: None has.
    """
    names = sorted(path.parent.name for path in (root / suite).glob(f"*/{HEADER}"))
    if not names:
        known = sorted({path.parts[-3] for path in root.glob(f"*/*/{HEADER}")})
        raise DataError(
            f"{root / suite}: no store of this suite, expected {root / suite / 'TASK' / HEADER}; "
            f"stored suites: {', '.join(known) or 'none'}{nearest(suite, known)}; "
            "`db1 collect` makes stores"
        )
    return names


def at_least_one(
    shares: Sequence[tuple[str, Fraction]], num_samples: int
) -> list[tuple[str, Fraction]]:
    """Raises shares until each dataset of a share above 0 gets a sample of the run.

    A share s with num_samples * s < 1 becomes 1 / num_samples, with a warning; the others keep
    their proportions.

    Args:
        shares: Result of `resolve_weights`.
        num_samples: Sequences of the run, or of what is left of it.

    Returns:
        The shares that are used; `shares` where none is too small.

    Raises:
        ConfigError: Fewer samples than datasets.
    """
    positive = sum(share > 0 for _, share in shares)
    if num_samples < positive:
        raise ConfigError(
            f"mixture: {num_samples} sequences cannot hold one of each of {positive} datasets; "
            "raise training.num_steps or training.global_batch_size, or set weights to 0"
        )
    least = Fraction(1, max(num_samples, 1))
    raised: set[str] = set()
    while True:
        free = sum((share for name, share in shares if name not in raised), Fraction(0))
        left = 1 - least * len(raised)
        used = [
            (name, least if name in raised else share * left / free if free else share)
            for name, share in shares
        ]
        small = {name for name, share in used if 0 < share < least}
        if not small:
            break
        raised |= small
    if raised:
        logger.warning(
            "mixture: the weights of %s give less than one of %d sequences; each gets one",
            ", ".join(sorted(raised)), num_samples,
        )  # fmt: skip
    return used


def _modality_shares(
    config: DataConfig, nodes: Mapping[str, list[_Node]]
) -> list[tuple[list[_Node], Fraction]]:
    if not config.modalities:
        return [([node for group in nodes.values() for node in group], Fraction(1))]
    shares = {name: _exact(config.modalities.get(name, 0.0)) for name in nodes}
    total = sum(shares.values())
    if not total:
        raise ConfigError("modalities: all shares are 0, expected one above 0")
    return [(group, shares[name] / total) for name, group in nodes.items() if group]


def _divide(nodes: Sequence[_Node], share: Fraction, temperature: float) -> dict[str, Fraction]:
    weights = [_flattened(node.weight, temperature) for node in nodes]
    total = sum(weights, Fraction(0))
    if share and not total:
        names = ", ".join(node.name for node in nodes)
        raise ConfigError(f"mixture: the weights of {names} are all 0, expected one above 0")
    shares: dict[str, Fraction] = {}
    for node, weight in zip(nodes, weights, strict=True):
        part = share * weight / total if total else Fraction(0)
        found = _divide(node.children, part, temperature) if node.children else {node.name: part}
        for name in shares.keys() & found.keys():
            raise ConfigError(f"data: two datasets are called {name!r}; rename one")
        shares |= found
    return shares


def _suite(
    config: DataConfig, suite: str, part: SuiteData, size_of: Callable[[str], int] | None
) -> _Node:
    weights = {task: data.weight for task, data in part.tasks.items()}
    kept = config.held_out_tasks()
    if part.others or not weights:
        stored = stored_tasks(config.root, suite)
        left_out = [task for task in stored if f"{suite}/{task}" in kept]
        if left_out:
            logger.info("mixture: %s: held out: %s", suite, ", ".join(left_out))
        for task in stored:
            if f"{suite}/{task}" not in config.tasks and task not in left_out:
                weights.setdefault(task, part.others)
    children = tuple(_leaf(f"{suite}/{task}", w, size_of) for task, w in sorted(weights.items()))
    if not children:
        raise ConfigError(
            f"suites.{suite}: all its stored tasks are named in tasks or held out; remove it"
        )
    weight = _exact(part.weight)
    if size_of is not None:
        weight *= sum(size_of(child.name) for child in children)
    return _Node(suite, weight, children)


def _leaf(name: str, weight: float, size_of: Callable[[str], int] | None) -> _Node:
    return _Node(name, _exact(weight) * (size_of(name) if size_of else 1))


def _size_reader(config: DataConfig) -> Callable[[str], int]:
    def size_of(name: str) -> int:
        if name in config.text:
            return int(np.sum(DocumentStore(config.text_folder(name) / "train").sizes))
        if name in config.pairs:
            folder, splits = config.pairs_folder(name), config.pairs[name].train_splits
            return sum(PairStore(folder / split).num_pairs for split in splits)
        return EpisodeStore(config.root / name).num_steps

    return size_of


def _exact(value: float) -> Fraction:
    """The decimal number that was written: 0.1 -> 1/10."""
    return Fraction(repr(float(value)))


def _flattened(weight: Fraction, temperature: float) -> Fraction:
    return weight if temperature == 1 else Fraction(float(weight) ** (1 / temperature))
