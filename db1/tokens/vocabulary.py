"""The only owner of id ranges. Nothing else in db1 adds an offset to an id.

    released layout (discrete_ids: shared_with_text)      default (discrete_ids: own_range)
    [0, text)                text                         [0, text)                text
    [0, discrete)            discrete values              [text, text + bins)      continuous bins
    [text, text + bins)      continuous bins              text + bins              separator
    text + bins              separator                    after the separator      discrete values

With the released numbers (32,000 text ids, 1,024 bins) the separator is 33,024.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import numpy as np

from db1.errors import ConfigError, DataError, check_one_of
from db1.ranges import Checked, Positive, Range

IMAGE_PLACEHOLDER = -1
"""Stands in an id sequence where an image patch goes; never a row of the embedding table."""
NUMBER_PLACEHOLDER = -2
"""Stands where a number patch goes (see `db1.tokens.number_patch`)."""


Numbers = TypeVar("Numbers", bound=Any)


def nth_ids(ids: range, numbers: Numbers) -> Numbers:
    """Turns numbers inside a range of ids into the ids themselves.

    Args:
        ids: A range of ids, such as `Vocabulary.text_range()`.
        numbers: Integers in 0 .. len(ids) - 1, a NumPy array or a torch tensor of any shape.

    Returns:
        Ids of the same type and shape.
    """
    return numbers + ids.start


@dataclass(frozen=True, kw_only=True)
class VocabularyConfig(Checked):
    """Sizes of the id ranges and the number of values behind them.

    Args:
        text_size: Number of text ids, at least the tokenizer's.
        num_continuous_bins: Uniform bins that a continuous number falls in (Gato: 1,024).
        num_discrete: Number of discrete values that can be told apart (Gato: 1,024).
        discrete_ids: `own_range` or `shared_with_text` (Gato and the released model).
        continuous_decode: A bin stands for its `centre`, or its `left_edge` (released model).
        mu: mu of the mu-law that squashes continuous observations (Gato: 100).
        max_magnitude: M of the mu-law, the magnitude mapped to 1 (Gato: 256).
    """

    text_size: Annotated[int, Range(least=1, most=2**24)] = 32_000
    num_continuous_bins: Annotated[int, Range(least=1, most=2**24)] = 1_024
    num_discrete: Annotated[int, Range(least=1, most=2**24)] = 1_024
    discrete_ids: str = "own_range"
    continuous_decode: str = "centre"
    mu: Positive = 100.0
    max_magnitude: Positive = 256.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, known in (
            ("discrete_ids", ("own_range", "shared_with_text")),
            ("continuous_decode", ("centre", "left_edge")),
        ):
            check_one_of(name, getattr(self, name), known)
        if self.discrete_ids == "shared_with_text" and self.num_discrete > self.text_size:
            raise ConfigError(
                f"discrete_ids shared_with_text needs num_discrete <= text_size, "
                f"got {self.num_discrete} > {self.text_size}"
            )


class Vocabulary:
    """Maps values of each kind to ids and back.

    Example:
        >>> released = Vocabulary(VocabularyConfig(discrete_ids="shared_with_text"))
        >>> released.size, released.separator, released.bin_ids(np.array([0]))[0]
        (33025, 33024, 32000)
    """

    def __init__(self, config: VocabularyConfig) -> None:
        self.config = config
        self._bin_start = config.text_size
        self.separator = config.text_size + config.num_continuous_bins
        own = config.discrete_ids == "own_range"
        self._discrete_start = self.separator + 1 if own else 0
        self.size = self.separator + 1 + (config.num_discrete if own else 0)

    def text_ids(self, ids: np.ndarray) -> np.ndarray:
        """Tokenizer ids, integers (...,) -> vocabulary ids, int32 (...,); DataError outside."""
        return self._checked(ids, self.config.text_size, "text id")

    def bin_ids(self, bins: np.ndarray) -> np.ndarray:
        """Continuous bins (...,) in [0, num_continuous_bins) -> vocabulary ids, int32 (...,)."""
        return self._checked(bins, self.config.num_continuous_bins, "bin") + self._bin_start

    def discrete_ids(self, values: np.ndarray) -> np.ndarray:
        """Discrete values (...,) in [0, num_discrete) -> vocabulary ids, int32 (...,)."""
        checked = self._checked(values, self.config.num_discrete, "discrete value")
        return checked + self._discrete_start

    def bins_of(self, ids: np.ndarray) -> np.ndarray:
        """Inverse of `bin_ids`: ids (...,) -> bins (...,); DataError for ids of another kind."""
        return self._checked(
            np.asarray(ids) - self._bin_start, self.config.num_continuous_bins, "bin"
        )

    def discrete_of(self, ids: np.ndarray) -> np.ndarray:
        """Inverse of `discrete_ids`: ids (...,) -> values (...,); DataError for other ids."""
        return self._checked(
            np.asarray(ids) - self._discrete_start, self.config.num_discrete, "discrete value"
        )

    def text_range(self, size: int | None = None) -> range:
        """Ids of text: all, or those of a tokenizer of this size.

        Raises:
            DataError: For a tokenizer of more ids than there are.
        """
        if size is not None and size > self.config.text_size:
            raise DataError(f"tokenizer of {size} ids, expected at most {self.config.text_size}")
        return range(self.config.text_size if size is None else size)

    def bin_range(self) -> range:
        """Ids of the continuous bins."""
        return range(self._bin_start, self._bin_start + self.config.num_continuous_bins)

    def discrete_range(self, num_values: int | None = None) -> range:
        """Ids of the first `num_values` discrete values (all by default)."""
        count = self.config.num_discrete if num_values is None else num_values
        if not 1 <= count <= self.config.num_discrete:
            raise DataError(
                f"{count} discrete values asked for, the vocabulary holds "
                f"{self.config.num_discrete}; set vocabulary.num_discrete"
            )
        return range(self._discrete_start, self._discrete_start + count)

    @staticmethod
    def _checked(values: np.ndarray, count: int, what: str) -> np.ndarray:
        values = np.asarray(values)
        if values.size and not _all_below(values, count):
            bad = values[(values < 0) | (values >= count)].flat[0]
            raise DataError(f"{what} {bad}, expected 0..{count - 1}")
        return values.astype(np.int32)


def _all_below(values: np.ndarray, count: int) -> bool:
    """Tells whether all values (at least one) are in [0, count)."""
    dtype = values.dtype
    if dtype in (np.int32, np.int64):  # as unsigned numbers the negative ones are the largest
        values = values.view(np.uint32 if dtype == np.int32 else np.uint64)
    elif dtype.kind != "u":
        return bool(values.min() >= 0 and values.max() < count)
    return bool(np.maximum.reduce(values, axis=None) < count)
