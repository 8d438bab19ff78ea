"""Cross-entropy in chunks, with gradients taken in the forward pass, equals plain autograd's."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from db1.model import loss
from db1.model.loss import LinearCrossEntropy, TrainOutput, masked_loss, target_places


def _loss(
    hidden_BTD: Tensor, labels: Tensor, mask: Tensor, table: Tensor, weights: Tensor | None = None
) -> TrainOutput:
    """`masked_loss` of hidden states at all tokens."""
    places = target_places(mask)
    return masked_loss(hidden_BTD.flatten(0, 1)[places], places, labels, mask, table, weights)


def _case(dtype: torch.dtype, num_ids: int = 30) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, num_ids, (3, 8), generator=generator)
    mask = torch.rand(3, 8, generator=generator) < 0.7
    hidden = torch.randn(3, 8, 4, generator=generator).to(dtype).requires_grad_()
    table = torch.randn(num_ids, 4, generator=generator).to(dtype).requires_grad_()
    return hidden, labels, mask, table


def _expected(
    hidden: Tensor, labels: Tensor, mask: Tensor, table: Tensor, weights: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weighted sum, losses of the sequences, and both gradients, by autograd on all tokens."""
    hidden, table = (x.detach().double().requires_grad_() for x in (hidden, table))
    losses = F.cross_entropy((hidden @ table.t()).flatten(0, 1), labels.flatten(), reduction="none")
    sequences = (losses.view_as(mask) * mask).sum(dim=1)
    total = sequences.sum() if weights is None else (sequences * weights).sum()
    grads = torch.autograd.grad(total, (hidden, table))
    return total.detach(), sequences.detach(), *grads


@pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 0.25, 3.0])])
@pytest.mark.parametrize("limit", [1 << 26, 90, 1])
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 4e-2), (torch.float16, 5e-3)],
)
@pytest.mark.parametrize("alignment", [1, 64])
def test_equals_autograd(
    monkeypatch: pytest.MonkeyPatch,
    dtype: torch.dtype,
    tolerance: float,
    limit: int,
    weights: Tensor | None,
    alignment: int,
) -> None:
    monkeypatch.setattr(loss, "MAX_LOGITS", limit)
    pad = F.pad
    monkeypatch.setattr(
        loss, "_padded", lambda table: pad(table, (0, 0, 0, -len(table) % alignment))
    )
    hidden, labels, mask, table = _case(dtype)
    out = _loss(hidden, labels, mask, table, None if weights is None else weights.to(dtype))
    (out.loss_sum * 0.5).backward()
    total, sequences, grad_hidden, grad_table = _expected(hidden, labels, mask, table, weights)
    assert out.loss_sum.dtype == torch.promote_types(dtype, torch.float32)
    close = {"rtol": tolerance, "atol": tolerance, "check_dtype": False}
    torch.testing.assert_close(out.loss_sum, total, **close)
    torch.testing.assert_close(out.sample_loss, sequences, **close)
    torch.testing.assert_close(hidden.grad, grad_hidden / 2, **close)
    torch.testing.assert_close(table.grad, grad_table / 2, **close)


def test_unlikely_labels_have_finite_losses() -> None:
    """A probability below the smallest float32 is a loss like any other."""
    hidden, table = torch.tensor([[1.0]]).requires_grad_(), torch.tensor([[0.0], [500.0]])
    total, losses = LinearCrossEntropy.apply(hidden, table, torch.tensor([0]), None)
    total.backward()
    assert losses.tolist() == [500.0] and hidden.grad.tolist() == [[500.0]]


def test_only_wanted_gradients_are_computed() -> None:
    hidden, labels, mask, table = _case(torch.float64)
    frozen = table.detach()
    _loss(hidden, labels, mask, frozen).loss_sum.backward()
    assert frozen.grad is None
    torch.testing.assert_close(hidden.grad, _expected(hidden, labels, mask, table, None)[2])
    with torch.no_grad():
        out = _loss(hidden, labels, mask, table)
    torch.testing.assert_close(out.loss_sum, _expected(hidden, labels, mask, table, None)[0])


class _Largest(TorchDispatchMode):
    """Remembers the largest result of any operation, in numbers."""

    numel = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        result = function(*arguments, **(options or {}))
        if isinstance(result, Tensor):
            self.numel = max(self.numel, result.numel())
        return result


def test_no_more_logits_than_a_chunk_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss, "MAX_LOGITS", 600)
    hidden, labels, mask, table = _case(torch.float32, num_ids=200)
    assert int(mask.sum()) > 3
    with _Largest() as largest:
        _loss(hidden, labels, mask, table).loss_sum.backward()
    assert largest.numel == max(600, table.numel())


def test_target_weights_weigh_whole_sequences() -> None:
    hidden, labels, mask, table = _case(torch.float32)
    weights = torch.tensor([1.0, 0.25, 3.0])
    plain, weighted = (
        _loss(hidden, labels, mask, table),
        _loss(hidden, labels, mask, table, weights),
    )
    total = (weights * plain.sample_loss).sum()
    torch.testing.assert_close(weighted.loss_sum, total)
    torch.testing.assert_close(weighted.loss, total / (weights * plain.sample_targets).sum())
    torch.testing.assert_close(weighted.sample_loss, plain.sample_loss)
