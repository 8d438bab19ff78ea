"""Images with texts as a source of a mixture.

Every pair comes once an epoch, in an order shuffled again every epoch. With `pack`, sequence n has
the pairs [n k, n k + k) of the endless shuffled stream, k being how many of usual length fill it:

    epoch 0: 4 0 2 1 3 | epoch 1: 1 3 0 4 2 | ...      k = 2:  [4 0] [2 1] [3 1] [3 0] ...

The image is decoded, and one of several captions or answers drawn, when a sample is asked for.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from db1.data.pair_config import PairData
from db1.data.sources import OnDemand
from db1.errors import ConfigError, DataError
from db1.index.permutation import Permutation
from db1.sequence.episode import SequenceConfig
from db1.sequence.image_text import ImageText, ImageTextCodec
from db1.sequence.segment import TokenSegment
from db1.store.pairs import Pair, PairStore, pair_splits
from db1.tokens.image_file import ImageFile
from db1.tokens.image_fit import fit_image
from db1.tokens.spec import PATCH_SIZE
from db1.tokens.text import TextTokenizer
from db1.tokens.vocabulary import Vocabulary

__all__ = ["PairData", "PairSource"]

logger = logging.getLogger(__name__)

_SIDE = re.compile(r"\b(?:left|right)(?:most|wards?|-?hand(?:ed)?)?\b", re.IGNORECASE)

_NUM_PROBED = 256
"""Pairs whose lengths tell how many fill a sequence."""


class PairSelection:
    """Some pairs of some stores, numbered through.

    Args:
        stores: The stores.
        numbers: For each store the pairs that count: a range, or int64.
    """

    def __init__(self, stores: Sequence[PairStore], numbers: Sequence[range | np.ndarray]) -> None:
        self._arguments = (stores, numbers)
        self._stores = tuple(stores)
        self._numbers = tuple(numbers)
        self._starts = np.cumsum([0, *map(len, numbers)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def place(self, index: int) -> tuple[PairStore, int]:
        """Store and number inside it of selected pair `index`."""
        store = int(self._starts.searchsorted(index, side="right")) - 1
        return self._stores[store], int(self._numbers[store][index - self._starts[store]])

    def __reduce__(self) -> tuple[Any, ...]:
        return PairSelection, self._arguments


class PairSource:
    """Captions of images, or questions about them with answers.

    Args:
        path: Folder of the set, with a store in a folder for each split.
        name: Name of the set in losses.
        vocabulary: Id ranges.
        tokenizer: Of the texts.
        config: How pairs become sequences.
        sequence: Shape of the sequences.
        seed: Seed of the shuffles.
        heldout: Take the held-out pairs, without augmentation.
        heldout_share: Share of the images of each training split that is held out where
            `config.heldout_split` names no split; at least one where there are two.
        patch_size: Side of an image patch in pixels.

    Raises:
        ConfigError: Images too large for a sequence, or a store of another kind.
        DataError: A split is missing or broken, or no pair can be learnt from.
    """

    def __init__(
        self,
        path: Path,
        name: str,
        vocabulary: Vocabulary,
        tokenizer: TextTokenizer,
        config: PairData,
        sequence: SequenceConfig,
        seed: int,
        heldout: bool = False,
        heldout_share: float = 0.05,
        patch_size: int = PATCH_SIZE,
    ) -> None:
        self.name = name
        self.config = config
        self.codec = ImageTextCodec(vocabulary, tokenizer, config.texts(), patch_size)
        self.codec.check_room(config.image_size, config.image_size, sequence.length)
        self._length = sequence.length
        self._seed = seed
        self._augmentation = None if heldout else config.augment
        self._has_warned = False
        selection = select_pairs(path, config, heldout=heldout, heldout_share=heldout_share)
        if len(selection) == 0:
            raise DataError(
                f"{path}: no pair for {'held-out' if heldout else 'training'} data; import more"
            )
        self._num_pairs = len(selection)
        self._selection = OnDemand(selection)
        self._order = (0, Permutation(seed, 0, self._num_pairs))
        self.pairs_per_sequence = self._fitting_pairs() if config.pack else 1

    @property
    def stores(self) -> tuple[PairStore, ...]:
        """The splits that are drawn from."""
        return self._selection()._stores

    def __len__(self) -> int:
        """Number of pairs of an epoch."""
        return self._num_pairs

    def sample(self, number: int, generator: np.random.Generator) -> TokenSegment:
        """Returns sequence `number` of the endless shuffled stream of pairs.

        Args:
            number: Of the sequence.
            generator: Draws captions, answers and augmentations.

        Raises:
            DataError: Names the pair that could not be read, decoded or encoded.
        """
        first = number * self.pairs_per_sequence
        indices = [self._index(first + i) for i in range(self.pairs_per_sequence)]
        items = [self._item(index, generator) for index in indices]
        sample = self.codec.encode(items, self._length, self.name)
        if sample.num_cut and not self._has_warned:
            self._has_warned = True
            store, place = self._selection().place(indices[0])
            logger.warning(
                "%s: texts do not fit a sequence of %d tokens and are cut, first %d tokens near "
                "pair %d of %s; later ones are not reported",
                self.name, self._length, sample.num_cut, place, store.path,
            )  # fmt: skip
        return sample

    def pair(self, index: int) -> Pair:
        """Pair `index` of the selection in stored order, without its image."""
        store, number = self._selection().place(index)
        return store.pair(number)

    def _index(self, place: int) -> int:
        """Index of the pair at a position of the endless stream."""
        epoch, place = divmod(place, self._num_pairs)
        if self._order[0] != epoch:
            self._order = (epoch, Permutation(self._seed, epoch, self._num_pairs))
        return self._order[1][place]

    def _item(self, index: int, generator: np.random.Generator) -> ImageText:
        store, number = self._selection().place(index)
        where = f"{store.path} pair {number}"
        pair = store.pair(number)
        content = store.image_of(number)
        file = ImageFile(content, f"{where}, image {pair.image_name}", self.config.max_pixels)
        draw = generator.random()
        augmentation = self._augmentation
        if augmentation is not None and augmentation.flip and names_a_side(pair):
            augmentation = replace(augmentation, flip=False)
        image = fit_image(file, self.config.image_size, self.config.fit, augmentation, generator)
        return ImageText(
            image=image,
            text=choose_text(pair, self.config.answers, draw),
            question=pair.question,
            prompt=pair.prompt,
        )

    def _fitting_pairs(self) -> int:
        """Number of pairs that fill a sequence, with three deviations of the sum to spare."""
        size = self.config.image_size
        image = np.zeros((size, size, 3), dtype=np.uint8)
        lengths = []
        for index in np.linspace(0, self._num_pairs - 1, min(_NUM_PROBED, self._num_pairs)):
            pair = self.pair(int(index))
            longest = max(pair.texts, key=len)
            item = ImageText(image=image, text=longest, question=pair.question, prompt=pair.prompt)
            lengths.append(self.codec.num_tokens(item))
        mean, deviation = float(np.mean(lengths)), float(np.std(lengths))
        count = 1
        while (count + 1) * mean + 3 * (count + 1) ** 0.5 * deviation <= self._length + 1:
            count += 1
        return count


def names_a_side(pair: Pair) -> bool:
    """Tells whether question, caption or answer say left or right, wrong in a mirrored image."""
    return any(_SIDE.search(text) is not None for text in (pair.question or "", *pair.texts))


def choose_text(pair: Pair, answers: str, draw: float) -> str:
    """Picks a caption (all alike) or an answer.

    Args:
        pair: With at least one text that is not empty.
        answers: One of `pair_config.ANSWERS`; plays no part for captions.
        draw: Uniform in [0, 1).

    Source of soft scores: Antol et al. 2015, section 3 (an answer of three people is right).
    """
    texts = [text for text in pair.texts if text.strip()]
    if pair.question is None:
        return texts[int(draw * len(texts))]
    counts = Counter(texts)
    if answers == "most_common":
        return counts.most_common(1)[0][0]
    weights = np.array(list(counts.values()), dtype=np.float64)
    if answers == "soft_score":
        weights = np.minimum(weights / 3, 1.0)
    place = np.searchsorted(np.cumsum(weights), draw * weights.sum(), side="right")
    return list(counts)[min(int(place), len(counts) - 1)]


def select_pairs(
    path: Path, config: PairData, *, heldout: bool, heldout_share: float
) -> PairSelection:
    """The pairs with texts that a run learns from, or those that it is kept from.

    Args:
        path: Folder of the set.
        config: Names the splits.
        heldout: The held-out pairs.
        heldout_share: As `PairSource`.

    Raises:
        ConfigError: A store of another kind.
        DataError: A split is missing or broken.
    """
    own_split = config.heldout_split is not None
    splits = (config.heldout_split,) if heldout and own_split else config.train_splits
    stores = [_store(path, split, config) for split in splits if split is not None]
    numbers: list[range | np.ndarray] = []
    for store in stores:
        images = store.image_numbers()
        chosen = np.ones(len(images), dtype=bool)
        if not own_split:
            chosen = (images >= _boundary(store.num_images, heldout_share)) == heldout
        chosen &= store.num_texts() > 0  # some splits keep their answers secret
        numbers.append(_places(chosen))
    return PairSelection(stores, numbers)


def _places(chosen: np.ndarray) -> range | np.ndarray:
    """Places of the True values; a range where they follow each other, as they mostly do."""
    places = np.flatnonzero(chosen)
    if len(places) and places[-1] - places[0] + 1 == len(places):
        return range(int(places[0]), int(places[-1]) + 1)
    return places


def _store(path: Path, split: str, config: PairData) -> PairStore:
    if not (path / split).is_dir():
        there = ", ".join(pair_splits(path)) or "none"
        raise DataError(
            f"{path}: no split {split!r}, stored splits: {there}; run `db1 import`, or "
            "`db1 collect --config CONFIG`, first"
        )
    store = PairStore(path / split)
    if store.header.kind != config.kind:
        raise ConfigError(
            f"{store.path}: holds pairs of kind {store.header.kind!r}, but kind is "
            f"{config.kind!r}; set kind: {store.header.kind}"
        )
    return store


def _boundary(num_images: int, share: float) -> int:
    """First held-out image: all questions about an image are on one side."""
    num_heldout = min(max(1, round(num_images * share)), num_images - 1) if share else 0
    return num_images - max(num_heldout, 0)
