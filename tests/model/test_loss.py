"""Cross-entropy in chunks equals cross-entropy at once."""

from __future__ import annotations

import pytest
import torch

from db1.model import loss
from db1.model.loss import TrainOutput, masked_loss, target_places


def _loss(
    hidden_BTD: torch.Tensor, labels: torch.Tensor, mask: torch.Tensor, *arguments: object
) -> TrainOutput:
    """`masked_loss` of hidden states at all tokens."""
    places = target_places(mask)
    return masked_loss(hidden_BTD.flatten(0, 1)[places], places, labels, mask, *arguments)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 30, (3, 8), generator=generator)
    mask = torch.rand(3, 8, generator=generator) < 0.7
    results = []
    for limit in (1 << 26, 90, 1):
        monkeypatch.setattr(loss, "MAX_LOGITS", limit)
        hidden = torch.linspace(-1, 1, 96).view(3, 8, 4).requires_grad_()
        weight = torch.sin(torch.arange(120.0)).view(30, 4).requires_grad_()
        scored: list[int] = []

        def score(x: torch.Tensor, w: torch.Tensor = weight, n: list = scored) -> torch.Tensor:
            n.append(len(x))
            return x @ w.t()

        out = _loss(hidden, labels, mask, score, 30)
        out.loss.backward()
        results.append((out.loss.detach(), out.sample_loss, hidden.grad, weight.grad))
        assert max(scored) == {1 << 26: int(mask.sum()), 90: 3, 1: 1}[limit]
    for other in results[1:]:
        for got, expected in zip(other, results[0], strict=True):
            torch.testing.assert_close(got, expected)


def test_target_weights_weigh_whole_sequences() -> None:
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(3, 8, 4, generator=generator)
    labels = torch.randint(0, 30, (3, 8), generator=generator)
    mask = torch.rand(3, 8, generator=generator) < 0.7
    table = torch.randn(30, 4, generator=generator)
    weights = torch.tensor([1.0, 0.25, 3.0])
    plain = _loss(hidden, labels, mask, lambda x: x @ table.t(), 30)
    weighted = _loss(hidden, labels, mask, lambda x: x @ table.t(), 30, weights)
    total = (weights * plain.sample_loss).sum()
    torch.testing.assert_close(weighted.loss_sum, total)
    torch.testing.assert_close(weighted.loss, total / (weights * plain.sample_targets).sum())
    torch.testing.assert_close(weighted.sample_loss, plain.sample_loss)
