"""The last layer at the targets only gives the losses and gradients of all tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from db1.model.batch import Batch
from db1.model.transformer_xl import TransformerXL

OPTIONS: list[dict[str, object]] = [
    {},
    {"normalization": "pre", "share_biases": False},
    {"position_encoding": "rotary"},
    {"position_encoding": "alibi", "num_layers": 1},
    {"deepnorm": True, "activation_checkpointing": True},
    {"tie_embeddings": False, "same_length": False},
]


def _gradients(model: TransformerXL, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def _loss_of_all(model: TransformerXL, batch: Batch) -> torch.Tensor:
    """Sum of the losses, with every token taken through every layer."""
    logits = model.logits(model.hidden(batch)).flatten(0, 1)
    losses = F.cross_entropy(logits, batch.labels.flatten(), reduction="none")
    return losses[batch.loss_mask.flatten()].sum()


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("share", [0.1, 1.0])
def test_losses_and_gradients_equal(
    make_model: Callable, make_batch: Callable, options: dict, share: float
) -> None:
    model, batch = make_model(**options).train(), make_batch(3, 17)
    drawn = torch.rand(3, 17, generator=torch.Generator().manual_seed(3))
    batch = replace(batch, loss_mask=drawn < share)
    out = model(batch)
    expected = _loss_of_all(model, batch)
    torch.testing.assert_close(out.loss_sum, expected)
    ours, theirs = _gradients(model, out.loss_sum), _gradients(model, expected)
    for name, gradient in theirs.items():
        torch.testing.assert_close(ours[name], gradient, msg=name)


def test_without_targets_the_loss_is_zero(make_model: Callable, make_batch: Callable) -> None:
    model, batch = make_model().train(), make_batch()
    out = model(replace(batch, loss_mask=torch.zeros_like(batch.loss_mask)))
    out.loss_sum.backward()
    assert out.loss.item() == 0.0
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


def test_skipped_sub_layers_are_those_of_whole_sequences(make_model: Callable) -> None:
    """Stochastic depth keeps or skips all targets of a sequence alike."""
    layer = make_model(stochastic_depth=0.5).train().layers[0]
    places = torch.tensor([0, 1, 4, 6, 7])
    torch.manual_seed(0)
    kept_N = layer._draw_kept(torch.zeros(3, 3, 1), places)[:, 0]
    torch.manual_seed(0)
    kept_B = layer._draw_kept(torch.zeros(3, 3, 1), None)[:, 0, 0]
    assert torch.equal(kept_N, kept_B[torch.tensor([0, 0, 1, 2, 2])])
