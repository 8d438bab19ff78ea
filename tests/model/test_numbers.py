"""The encoder of number patches tells values apart and learns; the embedding puts them in place."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from db1.errors import DataError
from db1.model.batch import NumberGroup
from db1.model.config import ModelConfig
from db1.model.embedding import Embedding
from db1.model.numbers import NumberEncoder, number_features
from db1.tokens.number_patch import NUM_CODES, NumberLayout
from db1.tokens.scalar import ScalarTokenizer
from db1.tokens.spec import FieldSpec
from db1.tokens.vocabulary import NUMBER_PLACEHOLDER, VocabularyConfig

CONFIG = ModelConfig(num_layers=1, num_heads=2, width=16, number_patch=6, vision_groups=4)
FIELDS = {
    "cells": FieldSpec(kind="discrete", shape=(2, 3), num_values=5),
    "state": FieldSpec(kind="continuous", shape=(8,)),
}


def group(cells: np.ndarray, state: np.ndarray) -> NumberGroup:
    layout = NumberLayout(FIELDS, ["cells", "state"], CONFIG.number_patch, 256.0)
    patches = layout.patches({"cells": cells, "state": state})
    return NumberGroup(
        values=torch.from_numpy(patches.values),
        codes=torch.from_numpy(patches.codes),
        layouts=torch.from_numpy(patches.layouts),
        positions=torch.arange(len(patches)),
    )


@pytest.fixture
def encoder() -> NumberEncoder:
    torch.manual_seed(0)
    made = NumberEncoder(CONFIG)
    made.initialize()
    return made


@pytest.fixture
def numbers() -> NumberGroup:
    rng = np.random.default_rng(0)
    return group(rng.integers(0, 5, (3, 2, 3)), rng.normal(size=(3, 8)))


def test_one_changed_number_changes_its_patch_alone(
    encoder: NumberEncoder, numbers: NumberGroup
) -> None:
    before = encoder(numbers)
    changes = {"values": (4, 1, 0.5), "codes": (3, 2, 1)}
    for name, (patch, place, step) in changes.items():
        changed = getattr(numbers, name).clone()
        changed[patch, place] += step
        moved = (encoder(replace(numbers, **{name: changed})) - before).abs().amax(dim=1)
        assert moved[patch] > 1e-3
        assert moved.sum() == moved[patch]


def test_the_same_values_in_another_field_are_told_apart(encoder: NumberEncoder) -> None:
    layout = torch.tensor([1, 2], dtype=torch.int32)
    same = torch.ones(2, CONFIG.number_patch)
    made = encoder(NumberGroup(values=same, codes=same.int(), layouts=layout, positions=layout))
    assert (made[0] - made[1]).abs().max() > 1e-3


def test_every_weight_learns(encoder: NumberEncoder, numbers: NumberGroup) -> None:
    encoder(numbers).square().sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad.abs().max() > 0, name
    assert not encoder.codes.weight.grad[0].any(), "places without a number have no vector"
    assert encoder.codes.num_embeddings == NUM_CODES


def test_features_are_the_mu_law_of_the_bins_the_standardised_number_and_its_waves() -> None:
    values = np.array([-256.0, -3.0, -0.01, 0.0, 0.2, 1.0, 4.0, 100.0], np.float32)
    scales = np.array([1, 1, 0, 1, 4, 4, 0.5, 1], np.float32)  # 0: unknown
    arrays = (values, np.full(8, 0.2, np.float32), scales)
    features = number_features(*(torch.from_numpy(array) for array in arrays)).numpy()
    squashed = ScalarTokenizer(VocabularyConfig()).squash(values)
    np.testing.assert_allclose(features[:, 0], squashed, atol=1e-6)
    standard = [-5.0, -3.2, -0.21, -0.2, 0.0, 3.2, 1.9, 5.0]
    np.testing.assert_allclose(features[:, 1], standard, atol=1e-5)
    np.testing.assert_allclose(features[:, 2], np.sin(standard), atol=1e-5)
    np.testing.assert_allclose(features[:, -1], np.cos(4 * features[:, 1]), atol=1e-4)


def test_ranges_fill_in_what_is_unknown_and_are_part_of_the_weights(
    encoder: NumberEncoder, numbers: NumberGroup
) -> None:
    before = encoder(numbers)
    layout = int(numbers.layouts[-1])
    means, deviations = np.arange(6.0), np.array([2.0, 2.0, 2.0, 2.0, 0.0, 0.0])
    encoder.set_ranges({layout: (means, deviations)})
    changed = (encoder(numbers) - before).abs().amax(dim=1) > 1e-4
    assert torch.equal(changed, numbers.layouts == layout)
    encoder.set_ranges({layout: (means + 1, deviations), 5: (means, deviations)})
    weights = encoder.state_dict()
    assert weights["means"][layout].tolist() == means.tolist(), "what was learned with stays"
    assert weights["scales"][5].tolist() == [0.5, 0.5, 0.5, 0.5, 0.0, 0.0]


def test_the_embedding_puts_patches_in_their_places(numbers: NumberGroup) -> None:
    torch.manual_seed(0)
    embedding = Embedding(CONFIG, 40, None)
    places = torch.tensor([0, 2, 3, 9, 10, 11, 4, 5, 7])
    ids = torch.full((2, 6), 7)
    ids.view(-1)[places] = NUMBER_PLACEHOLDER
    positions = torch.full((2, 6), -1)
    out = embedding(ids, positions, (), replace(numbers, positions=places)).flatten(0, 1)
    torch.testing.assert_close(out[places], embedding.numbers(numbers))
    others = [i for i in range(12) if i not in places.tolist()]
    torch.testing.assert_close(out[others], embedding.token.weight[[7] * len(others)])


def test_patches_that_do_not_fit_are_refused(numbers: NumberGroup) -> None:
    ids, positions = torch.tensor([[NUMBER_PLACEHOLDER, 3]]), torch.tensor([[1, -1]])
    other = Embedding(replace(CONFIG, number_patch=7), 40, None)
    with pytest.raises(DataError, match="number patches of 6 numbers, expected 7"):
        other(ids, positions, (), numbers)
    with pytest.raises(DataError, match="number patches of 6 numbers, expected 1"):
        Embedding(replace(CONFIG, number_patch=1), 40, None)(ids, positions, (), numbers)
    with pytest.raises(DataError, match="1 number placeholders in the ids, but 0 patches"):
        other(ids, positions, ())
