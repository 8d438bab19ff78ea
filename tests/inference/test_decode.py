from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from db1.errors import ConfigError, DataError
from db1.inference.decode import DecodeConfig, choose


def generators(count: int, seed: int = 0) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed + i) for i in range(count)]


@given(
    logits=arrays.arrays(
        np.float32, (3, 7), elements=st.floats(-1e4, 1e4, width=32, allow_nan=False)
    ),
    allowed=arrays.arrays(bool, (3, 7)).filter(lambda mask: mask.any(axis=1).all()),
    greedy=st.booleans(),
    temperature=st.floats(0.01, 100.0),
    top_k=st.none() | st.integers(1, 9),
    top_p=st.none() | st.floats(0.01, 1.0),
    seed=st.integers(0, 1_000),
)
def test_never_leaves_the_allowed_ids(
    logits, allowed, greedy, temperature, top_k, top_p, seed
) -> None:
    config = DecodeConfig(greedy=greedy, temperature=temperature, top_k=top_k, top_p=top_p)
    chosen = choose(
        torch.from_numpy(logits), torch.from_numpy(allowed), config, generators(3, seed)
    )
    assert allowed[np.arange(3), chosen.numpy()].all()


def test_greedy_takes_the_best_allowed() -> None:
    logits = torch.tensor([[1.0, 5.0, 3.0], [9.0, 5.0, 3.0]])
    allowed = torch.tensor([[True, False, True], [True, True, True]])
    assert choose(logits, allowed, DecodeConfig(), []).tolist() == [2, 0]


def test_the_median_has_half_of_the_probability_on_either_side() -> None:
    """An unsure model has its likeliest bin at an end of the range."""
    weights = torch.tensor([[4.0, 2.0, 3.0, 3.0, 1.0], [4.0, 2.0, 3.0, 3.0, 1.0]])
    allowed = torch.tensor([[True] * 5, [False, True, False, False, True]])
    config = DecodeConfig(median=True)
    assert choose(weights.log(), allowed, config, generators(2)).tolist() == [2, 1]
    best = choose(weights.log(), allowed, DecodeConfig(), generators(2))
    assert best.tolist() == [0, 1]


def test_sampling_follows_the_softmax() -> None:
    logits = torch.log(torch.tensor([0.5, 0.3, 0.2])).repeat(4_000, 1)
    config = DecodeConfig(greedy=False)
    chosen = choose(logits, None, config, generators(4_000))
    shares = np.bincount(chosen.numpy(), minlength=3) / 4_000
    np.testing.assert_allclose(shares, [0.5, 0.3, 0.2], atol=0.03)


def test_a_row_samples_the_same_alone_and_in_a_batch() -> None:
    logits = torch.randn(5, 11, generator=torch.Generator().manual_seed(3))
    config = DecodeConfig(greedy=False, temperature=1.3)
    together = choose(logits, None, config, generators(5))
    alone = [choose(logits[i : i + 1], None, config, generators(5)[i : i + 1]) for i in range(5)]
    assert together.tolist() == [int(one) for one in alone]


def test_top_k_and_top_p_keep_only_the_best() -> None:
    logits = torch.log(torch.tensor([0.05, 0.4, 0.15, 0.4])).repeat(500, 1)
    for config, kept in (
        (DecodeConfig(greedy=False, top_k=2), {1, 3}),
        (DecodeConfig(greedy=False, top_p=0.7), {1, 3}),
        (DecodeConfig(greedy=False, top_p=0.9), {1, 2, 3}),
        (DecodeConfig(greedy=False, top_p=0.01), {1}),
    ):
        assert set(choose(logits, None, config, generators(500)).tolist()) == kept


def test_refuses_rows_without_an_action_and_broken_scores() -> None:
    allowed = torch.tensor([[True, False], [False, False]])
    with pytest.raises(DataError, match=r"rows \[1\] allow no action"):
        choose(torch.zeros(2, 2), allowed, DecodeConfig(), [])
    with pytest.raises(DataError, match="not numbers"):
        choose(torch.tensor([[0.0, float("nan")]]), None, DecodeConfig(), [])
    for bad in ({"temperature": 0.0}, {"top_k": 0}, {"top_p": 0.0}):
        with pytest.raises(ConfigError, match=next(iter(bad))):
            DecodeConfig(**bad)
