"""The attention kernels against a loop over all pairs of tokens, gradients too."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from db1.model import kernels, visibility
from db1.model.kernels import BlockedAttention, shift, token_attention, whole_attention
from db1.model.visibility import Visibility

HEADS, HEAD_DIM = 2, 4


def rule(num_queries: int, num_keys: int, span: int | None, dtype: torch.dtype) -> Visibility:
    return Visibility(
        num_queries=num_queries,
        num_keys=num_keys,
        span=span,
        valid_keys=None,
        dtype=dtype,
        device=torch.device("cpu"),
    )


def inputs(num_queries: int, num_keys: int, dtype: torch.dtype, batch: int = 3) -> list[Tensor]:
    """qu, qv, k, v, r, b with gradients."""
    generator = torch.Generator().manual_seed(num_queries)
    queries = (batch, HEADS, num_queries, HEAD_DIM)
    keys = (batch, HEADS, num_keys, HEAD_DIM)
    distances = (HEADS, num_keys + 1)
    shapes = [queries, queries, keys, keys, (*distances, HEAD_DIM), distances]
    return [
        torch.randn(shape, generator=generator, dtype=dtype).requires_grad_() for shape in shapes
    ]


def reference(
    qu: Tensor,
    qv: Tensor | None,
    k: Tensor,
    v: Tensor,
    r: Tensor | None,
    bias: Tensor | None,
    span: int | None,
) -> Tensor:
    """Query by query, over exactly the keys it sees."""
    batch, heads, num_queries, _ = qu.shape
    num_keys = k.shape[2]
    out = []
    for b in range(batch):
        for h in range(heads):
            for i in range(num_queries):
                place = num_keys - num_queries + i
                first = 0 if span is None else max(0, place - span + 1)
                scores = []
                for j in range(first, place + 1):
                    score = qu[b, h, i] @ k[b, h, j]
                    if r is not None:
                        score = score + qv[b, h, i] @ r[h, num_keys - 1 - (place - j)]
                    if bias is not None:
                        score = score + bias[h, num_keys - 1 - (place - j)]
                    scores.append(score)
                out.append(torch.stack(scores).softmax(0) @ v[b, h, first : place + 1])
    return torch.stack(out).view(batch, heads, num_queries, -1)


CASES = [
    *[(7, 7, None), (7, 12, None), (5, 11, 4), (7, 7, 3), (6, 9, 9)],
    *[(1, 6, None), (1, 1, 1), (1, 7, 6), (1, 9, 4)],
]


@pytest.mark.parametrize(
    ("kernel", "num_queries", "num_keys", "span"),
    [(kernel, *case) for kernel in ("whole", "blocked") for case in CASES]
    + [("token", *case) for case in CASES if case[0] == 1],
)
@pytest.mark.parametrize("positions", ["vectors", "scores", "both", "none"])
def test_kernel_equals_reference(
    monkeypatch: pytest.MonkeyPatch,
    kernel: str,
    num_queries: int,
    num_keys: int,
    span: int | None,
    positions: str,
) -> None:
    monkeypatch.setattr(visibility, "QUERY_BLOCK", 3)
    monkeypatch.setattr(kernels, "CHUNK_SCORES", 40)
    qu, qv, k, v, r, b = inputs(num_queries, num_keys, torch.float64)
    if positions not in ("vectors", "both"):
        qv = r = None
    used = [qu, qv, k, v, r, b if positions in ("scores", "both") else None]
    rules = rule(num_queries, num_keys, span, torch.float64)
    if kernel == "whole":
        got = whole_attention(*used, rules, 0.0)
    elif kernel == "token":
        got = token_attention(*used, rules)
    else:
        got = BlockedAttention.apply(*used, rules)
    expected = reference(*used, span)
    torch.testing.assert_close(got, expected, atol=1e-12, rtol=0)

    leaves = [tensor for tensor in used if tensor is not None]
    weights = torch.randn_like(got)
    got_grads = torch.autograd.grad((got * weights).sum(), leaves)
    expected_grads = torch.autograd.grad((expected * weights).sum(), leaves)
    for got_grad, expected_grad in zip(got_grads, expected_grads, strict=True):
        torch.testing.assert_close(got_grad, expected_grad, atol=1e-11, rtol=0)


def test_blocked_gradcheck(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visibility, "QUERY_BLOCK", 2)
    monkeypatch.setattr(kernels, "CHUNK_SCORES", 10)
    rules = rule(3, 4, 2, torch.float64)
    tensors = inputs(3, 4, torch.float64, batch=1)
    assert torch.autograd.gradcheck(lambda *t: BlockedAttention.apply(*t, rules), tensors)


def test_kernels_agree_at_working_size() -> None:
    rules = rule(150, 200, None, torch.float32)
    tensors = inputs(150, 200, torch.float32)
    whole = whole_attention(*tensors, rules, 0.0)
    blocked = BlockedAttention.apply(*tensors, rules)
    torch.testing.assert_close(blocked, whole, atol=2e-5, rtol=0)
    grads = [torch.autograd.grad(out.square().sum(), tensors) for out in (whole, blocked)]
    for whole_grad, blocked_grad in zip(*grads, strict=True):
        torch.testing.assert_close(blocked_grad, whole_grad, atol=1e-3, rtol=1e-4)


def test_shift_is_the_view_of_the_docstring() -> None:
    by_distance = torch.tensor([[2, 1, 0, -1], [2, 1, 0, -1]])
    by_key = shift(by_distance)
    assert by_key.tolist() == [[1, 0, -1], [2, 1, 0]]
    assert by_key.data_ptr() == by_distance[0, 1:].data_ptr()


def test_same_length_span_is_the_memory_length() -> None:
    """The released rule: a query sees itself and the span - 1 keys before it."""
    rules = rule(4, 10, 3, torch.float32)
    seen = rules.additive == 0
    assert seen.sum(dim=1).tolist() == [3, 3, 3, 3]
    assert seen[0].nonzero().flatten().tolist() == [4, 5, 6]
    early = rule(4, 4, 3, torch.float32).additive == 0
    assert early.sum(dim=1).tolist() == [1, 2, 3, 3]


def test_blocks_skip_keys_that_nobody_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visibility, "QUERY_BLOCK", 4)
    blocks = rule(8, 20, 5, torch.float32).blocks
    assert [(block.keys.start, block.keys.stop) for block in blocks] == [(8, 16), (12, 20)]
    assert sum(block.num_queries * block.num_keys for block in blocks) < 8 * 20


@pytest.mark.parametrize("num_queries", [1, 2])
def test_rows_of_unequal_length(num_queries: int) -> None:
    """The token kernel equals the plain one; a row without keys yields numbers."""
    tensors = inputs(num_queries, 4, torch.float32)
    rules = Visibility(
        num_queries=num_queries,
        num_keys=4,
        span=None,
        valid_keys=torch.tensor([0, 1, 4]),
        dtype=torch.float32,
        device=torch.device("cpu"),
    )
    out = whole_attention(*tensors, rules, 0.0)
    assert all(math.isfinite(x) for x in out.flatten().tolist())
    if num_queries == 1:
        torch.testing.assert_close(token_attention(*tensors, rules), out, atol=1e-5, rtol=0)
