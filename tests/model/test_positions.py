"""Sinusoids of distances."""

from __future__ import annotations

import math

import torch

from db1.model.config import ModelConfig
from db1.model.positions import SinusoidPositions, descending_distances, sinusoids


def test_distances_descend_to_minus_one() -> None:
    assert descending_distances(3, torch.device("cpu")).tolist() == [2, 1, 0, -1]


def test_sinusoids_are_the_formula() -> None:
    table = sinusoids(torch.tensor([0.0, 5.0]), 4, None)
    assert table[0].tolist() == [0, 0, 1, 1]
    expected = [math.sin(5), math.sin(0.05), math.cos(5), math.cos(0.05)]
    torch.testing.assert_close(table[1], torch.tensor(expected))


def test_clamped_distances_share_a_vector() -> None:
    table = sinusoids(torch.tensor([9.0, 4.0, 3.0, 2.0]), 8, 3)
    assert torch.equal(table[0], table[2]) and torch.equal(table[1], table[2])
    assert not torch.equal(table[2], table[3])


def test_projection_splits_heads() -> None:
    config = ModelConfig(num_heads=2, width=6)
    positions = SinusoidPositions(config)
    like = torch.zeros(1)
    features = positions.features(config, 4, like)
    r = positions(features)
    assert r.shape == (2, 5, 3)
    torch.testing.assert_close(r[1, 2], positions.projection(features[2])[3:])
