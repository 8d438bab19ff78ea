"""Id ranges do not overlap, cover the vocabulary and invert."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from db1.errors import ConfigError, DataError
from db1.tokens.vocabulary import Vocabulary, VocabularyConfig


def test_released_layout_has_the_published_numbers() -> None:
    vocabulary = Vocabulary(VocabularyConfig(discrete_ids="shared_with_text"))
    assert vocabulary.size == 33_025
    assert vocabulary.separator == 33_024
    assert vocabulary.bin_ids(np.array([0, 1023])).tolist() == [32_000, 33_023]
    assert vocabulary.discrete_ids(np.array([0, 17])).tolist() == [0, 17]


@given(st.integers(1, 300), st.integers(1, 200), st.integers(1, 200))
def test_own_range_covers_every_id_once(text: int, bins: int, discrete: int) -> None:
    config = VocabularyConfig(text_size=text, num_continuous_bins=bins, num_discrete=discrete)
    vocabulary = Vocabulary(config)
    ids = [*vocabulary.text_range(), *vocabulary.bin_range(), vocabulary.separator]
    ids += vocabulary.discrete_range()
    assert sorted(ids) == list(range(vocabulary.size))


@pytest.mark.parametrize("layout", ["own_range", "shared_with_text"])
def test_ids_invert(layout: str) -> None:
    vocabulary = Vocabulary(VocabularyConfig(text_size=2048, discrete_ids=layout))
    values = np.arange(1024)
    assert (vocabulary.discrete_of(vocabulary.discrete_ids(values)) == values).all()
    assert (vocabulary.bins_of(vocabulary.bin_ids(values)) == values).all()


@pytest.mark.parametrize("method", ["text_ids", "bin_ids", "discrete_ids"])
@pytest.mark.parametrize("value", [-1, 10**6])
def test_values_outside_their_range_are_refused(method: str, value: int) -> None:
    with pytest.raises(DataError, match=str(value)):
        getattr(Vocabulary(VocabularyConfig()), method)(np.array([0, value]))


def test_ids_of_another_kind_are_refused() -> None:
    vocabulary = Vocabulary(VocabularyConfig())
    with pytest.raises(DataError):
        vocabulary.bins_of(np.array([vocabulary.separator]))
    with pytest.raises(DataError):
        vocabulary.discrete_of(np.array([5]))


def test_bad_configurations_are_refused() -> None:
    with pytest.raises(ConfigError, match="own_range"):
        VocabularyConfig(discrete_ids="shared")
    with pytest.raises(ConfigError, match="num_discrete"):
        VocabularyConfig(discrete_ids="shared_with_text", text_size=100)
    with pytest.raises(DataError, match="2000"):
        Vocabulary(VocabularyConfig()).discrete_range(2000)
