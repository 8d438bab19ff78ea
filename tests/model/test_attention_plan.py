"""Which kernel serves, and what is said when another one must."""

from __future__ import annotations

import logging

import pytest
import torch

from db1.errors import ConfigError
from db1.model import attention_plan
from db1.model.attention_kernels import AttentionRequest
from db1.model.attention_plan import choose_kernel
from db1.model.config import ModelConfig


def request(device: str = "cpu", **changes: object) -> AttentionRequest:
    usual = {"dtype": torch.float32, "head_dim": 64, "num_queries": 8, "dropout": 0.0}
    options = {**usual, "needs_grad": True, **changes}
    return AttentionRequest(device=torch.device(device), **options)


@pytest.fixture(autouse=True)
def _warnings_anew() -> None:
    attention_plan._warn.cache_clear()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "blocked"),
        ({"needs_grad": False}, "sdpa"),
        ({"num_queries": 1}, "token"),
        ({"num_queries": 1, "needs_grad": False}, "token"),
        ({"dropout": 0.1}, "sdpa"),
        ({"num_queries": 1, "dropout": 0.1}, "sdpa"),
        ({"device": "mps"}, "sdpa"),
    ],
)
def test_auto_chooses_by_device_and_work(
    changes: dict, expected: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert choose_kernel("auto", request(**changes)).name == expected
    assert not caplog.records


def test_a_named_kernel_is_taken() -> None:
    assert choose_kernel("reference", request()).name == "reference"
    assert choose_kernel("blocked", request(num_queries=1)).name == "blocked"


def test_a_kernel_that_cannot_serve_is_replaced_with_one_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert choose_kernel("blocked", request(dropout=0.1)).name == "sdpa"
    assert [record.getMessage() for record in caplog.records] == [
        "attention kernel 'blocked': it has no dropout on attention weights; 'sdpa' is used instead"
    ]


def test_an_unknown_kernel_is_refused() -> None:
    with pytest.raises(ConfigError, match="model.attention: got 'flash', expected one of"):
        ModelConfig(attention="flash")


@pytest.mark.parametrize("encoding", ["transformer_xl", "rotary", "alibi", "none"])
def test_all_kernels_give_one_model_the_same_loss_and_gradients(
    make_model, make_batch, encoding: str
) -> None:
    results = {}
    for name in ("auto", "reference", "sdpa", "blocked"):
        model = make_model(position_encoding=encoding, attention=name).train()
        loss = model(make_batch()).loss
        results[name] = [loss, *torch.autograd.grad(loss, list(model.layers.parameters()))]
    for name, got in results.items():
        for number, expected in zip(got, results["reference"], strict=True):
            torch.testing.assert_close(number, expected, atol=1e-11, rtol=0, msg=name)
