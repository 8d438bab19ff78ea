"""The likelihood of a text: segments with memory, sliding windows, memories longer than trained."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from db1.errors import ConfigError, DataError
from db1.inference.likelihood import sliding_losses, text_losses
from db1.tokens.vocabulary import Vocabulary

IDS = np.random.default_rng(0).integers(0, 300, 53)


def whole_pass_losses(model, ids: np.ndarray) -> np.ndarray:
    """Losses of all tokens but the first in one pass."""
    ids_1T = torch.from_numpy(ids[None].astype(np.int64))
    none = torch.full_like(ids_1T, -1)
    hidden, _ = model.decode(ids_1T[:, :-1], none[:, :-1], (), model.new_memory(1, 0))
    scores = model.logits(hidden[0]).log_softmax(-1)
    return -scores[torch.arange(len(ids) - 1), ids_1T[0, 1:]].detach().numpy()


def test_losses_in_windows_with_memory_equal_one_pass(
    make_model: Callable, vocabulary: Vocabulary
) -> None:
    model = make_model()
    one_lane = text_losses(
        model, vocabulary, IDS, target_length=10, memory_length=100, batch_size=1
    )
    np.testing.assert_allclose(one_lane, whole_pass_losses(model, IDS), atol=1e-9)


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_losses_without_memory_are_those_of_each_window(
    make_model: Callable, vocabulary: Vocabulary, batch_size: int
) -> None:
    model = make_model()
    losses = text_losses(
        model, vocabulary, IDS, target_length=10, memory_length=0, batch_size=batch_size
    )
    expected = [whole_pass_losses(model, IDS[start : start + 11]) for start in range(0, 52, 10)]
    np.testing.assert_allclose(losses, np.concatenate(expected), atol=1e-9)


def test_stretches_side_by_side_score_every_token(
    make_model: Callable, vocabulary: Vocabulary
) -> None:
    model = make_model()
    losses = text_losses(model, vocabulary, IDS, target_length=10, memory_length=100, batch_size=3)
    stretches = [whole_pass_losses(model, IDS[start : start + 19]) for start in (0, 18, 36)]
    np.testing.assert_allclose(losses, np.concatenate(stretches), atol=1e-9)


@pytest.mark.parametrize(("target", "memory"), [(1, 7), (5, 12), (10, 0), (60, 3)])
def test_sliding_windows_are_passes_over_each_window(
    make_model: Callable, vocabulary: Vocabulary, target: int, memory: int
) -> None:
    model = make_model()
    losses = sliding_losses(
        model, vocabulary, IDS, target_length=target, memory_length=memory, batch_size=4
    )
    expected = []
    for start in range(0, 52, target):
        window = IDS[max(0, start - memory) : start + target + 1]
        expected.append(whole_pass_losses(model, window)[min(start, memory) :])
    np.testing.assert_allclose(losses, np.concatenate(expected), atol=1e-9)


def test_one_layer_remembers_what_a_window_shows(
    make_model: Callable, vocabulary: Vocabulary
) -> None:
    """With one layer a remembered key is the same as one computed anew."""
    options = {"target_length": 4, "memory_length": 12, "batch_size": 1}
    model = make_model(num_layers=1)
    windows = sliding_losses(model, vocabulary, IDS, **options)
    np.testing.assert_allclose(text_losses(model, vocabulary, IDS, **options), windows, atol=1e-9)
    deep = make_model(num_layers=2)
    apart = text_losses(deep, vocabulary, IDS, **options)
    apart -= sliding_losses(deep, vocabulary, IDS, **options)
    assert np.abs(apart[:12]).max() < 1e-9 < 1e-4 < np.abs(apart[24:]).max()


@pytest.mark.parametrize("losses_of", [text_losses, sliding_losses])
def test_a_memory_longer_than_trained_is_seen(
    make_model: Callable, vocabulary: Vocabulary, losses_of: Callable
) -> None:
    trained = make_model(same_length=True, memory_length=8)
    unlimited = make_model(same_length=False)
    options = {"target_length": 5, "batch_size": 1}
    long = losses_of(trained, vocabulary, IDS, memory_length=100, **options)
    np.testing.assert_allclose(long, whole_pass_losses(unlimited, IDS), atol=1e-9)
    assert trained.config.memory_length == 8
    short = losses_of(trained, vocabulary, IDS, memory_length=2, **options)
    assert np.abs(short - long)[10:].max() > 1e-4


@pytest.mark.parametrize("losses_of", [text_losses, sliding_losses])
def test_refuses_what_cannot_be_scored(
    make_model: Callable, vocabulary: Vocabulary, losses_of: Callable
) -> None:
    for error, message, ids, target, memory in (
        (DataError, "at least 2", IDS[:1], 4, 0),
        (ConfigError, "target_length: got 0", IDS, 0, 0),
        (ConfigError, "memory_length: got -1", IDS, 4, -1),
    ):
        with pytest.raises(error, match=message):
            losses_of(make_model(), vocabulary, ids, target_length=target, memory_length=memory)
