"""Attention on a CPU, block by block: scores stay in the cache, hidden blocks are skipped.

Forward and backward are operations of their own (`torch.ops.db1`), so that torch.compile takes each
as one node. The attention weights of all blocks lie in one flat tensor, part after part.

Shapes: B batch, T query tokens, M memory tokens, S = M + T key tokens, H heads, K head width,
P = S + 1 distances.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from db1.model.attention_kernels.interface import (
    ATTENTION_KERNELS,
    AttentionInputs,
    AttentionKernel,
    AttentionRequest,
    shift,
)
from db1.model.visibility import KeyBlock, Visibility, masked_score

CHUNK_SCORES = 1 << 19
"""Scores that the kernel works on at once: 2 MiB in float32, about a core's cache."""

_NO_SPAN = -1


class BlockedAttention(AttentionKernel):
    """Learning on a CPU."""

    name = "blocked"

    def refusal(self, request: AttentionRequest) -> str | None:
        if request.device.type != "cpu":
            return f"it runs on a CPU, got {request.device.type}"
        return "it has no dropout on attention weights" if request.dropout else None

    def __call__(self, inputs: AttentionInputs, visibility: Visibility, dropout: float) -> Tensor:
        qu, qv = inputs.biased_queries()
        span = _NO_SPAN if visibility.span is None else visibility.span
        operands = (qu, qv, inputs.k, inputs.v, inputs.vectors, inputs.scores)
        return _blocked_attention(*operands, visibility.valid_keys, span)[0]


@torch.library.custom_op("db1::blocked_attention", mutates_args=(), device_types="cpu")
def _blocked_attention(
    qu: Tensor,
    qv: Tensor | None,
    k: Tensor,
    v: Tensor,
    r: Tensor | None,
    b: Tensor | None,
    valid_keys: Tensor | None,
    span: int,
) -> tuple[Tensor, Tensor]:
    """Returns the output (B, H, T, K) and the flat attention weights of all parts."""
    out = torch.empty_like(qu, memory_format=torch.contiguous_format)
    rule = _rule(qu, k, valid_keys, span)
    weights = qu.new_empty(_num_weights(rule, *qu.shape[:2]))
    for part, weight in _parts(rule, weights, *qu.shape[:2]):
        scores = torch.bmm(part.queries_of(qu), part.keys_of(k).transpose(1, 2))
        if r is not None:
            flat = part.queries_of(qv).flatten(0, 1) @ part.distances_of(r).t()
            scores += shift(flat.unflatten(0, scores.shape[:2]))
        if b is not None:
            scores += shift(part.distances_of(b).expand(part.block.num_queries, -1))
        for run, added in part.block.hidden:
            scores[..., run] += added
        if valid_keys is None:
            torch.softmax(scores, dim=-1, out=weight)
        else:
            weight.copy_(_ragged_softmax(scores, part, rule))
        part.queries_of(out).copy_(weight @ part.keys_of(v))
    return out, weights


@_blocked_attention.register_fake
def _(
    qu: Tensor,
    qv: Tensor | None,
    k: Tensor,
    v: Tensor,
    r: Tensor | None,
    b: Tensor | None,
    valid_keys: Tensor | None,
    span: int,
) -> tuple[Tensor, Tensor]:
    out = torch.empty_like(qu, memory_format=torch.contiguous_format)
    return out, qu.new_empty(_num_weights(_rule(qu, k, None, span), *qu.shape[:2]))


@torch.library.custom_op("db1::blocked_attention_backward", mutates_args=(), device_types="cpu")
def _blocked_attention_backward(
    grad_out: Tensor,
    qu: Tensor,
    qv: Tensor | None,
    k: Tensor,
    v: Tensor,
    r: Tensor | None,
    b: Tensor | None,
    out: Tensor,
    weights: Tensor,
    span: int,
) -> list[Tensor]:
    """Returns the gradients of qu, qv, k, v, r and b; an empty tensor for what there is not."""
    inputs = (qu, qv, k, v, r, b)
    grads = tuple(None if x is None else _blank(x) for x in inputs)
    delta = (grad_out * out).sum(dim=-1, keepdim=True)
    rule = _rule(qu, k, None, span)
    for part, weight in _parts(rule, weights, *qu.shape[:2]):
        _add_gradients(part, weight, grad_out, delta, inputs, grads)
    return [qu.new_empty(0) if grad is None else grad for grad in grads]


@_blocked_attention_backward.register_fake
def _(
    grad_out: Tensor,
    qu: Tensor,
    qv: Tensor | None,
    k: Tensor,
    v: Tensor,
    r: Tensor | None,
    b: Tensor | None,
    out: Tensor,
    weights: Tensor,
    span: int,
) -> list[Tensor]:
    return [qu.new_empty(0) if x is None else _blank(x) for x in (qu, qv, k, v, r, b)]


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *operands, _, span = inputs
    ctx.save_for_backward(*operands, *output)
    ctx.mark_non_differentiable(output[1])
    ctx.span = span


def _backward(ctx: Any, grad_out: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
    qu, qv, k, v, r, b, out, weights = ctx.saved_tensors
    b = b if ctx.needs_input_grad[5] else None
    grads = _blocked_attention_backward(grad_out, qu, qv, k, v, r, b, out, weights, ctx.span)
    present = zip(grads, (qu, qv, k, v, r, b), strict=True)
    return *(None if x is None else grad for grad, x in present), None, None


_blocked_attention.register_autograd(_backward, setup_context=_save)
_blocked_attention.register_autocast("cpu", torch.float32)


def _rule(qu: Tensor, k: Tensor, valid_keys: Tensor | None, span: int) -> Visibility:
    """The rule with numbers for sizes, also while they are traced: blocks differ by size."""
    return Visibility(
        num_queries=int(qu.shape[2]),
        num_keys=int(k.shape[2]),
        span=None if span == _NO_SPAN else span,
        valid_keys=valid_keys,
        dtype=qu.dtype,
        device=qu.device,
    )


def _blank(x: Tensor) -> Tensor:
    return torch.zeros_like(x, memory_format=torch.contiguous_format)


@dataclass(frozen=True)
class _Part:
    """Unit of the kernel's work: one head, some rows, one block."""

    block: KeyBlock
    rows: slice
    head: int

    def queries_of(self, x_BHTK: Tensor) -> Tensor:
        """(rows, queries, K), a view."""
        return x_BHTK[self.rows, self.head, self.block.queries]

    def keys_of(self, x_BHSK: Tensor) -> Tensor:
        """(rows, keys, K), a view."""
        return x_BHSK[self.rows, self.head, self.block.keys]

    def distances_of(self, x_HP: Tensor) -> Tensor:
        """(keys + 1, ...) of (H, P, ...), a view: a block's distances, too, end at -1."""
        return x_HP[self.head, -(self.block.num_keys + 1) :]


def _num_weights(rule: Visibility, batch_size: int, num_heads: int) -> int:
    return batch_size * num_heads * rule.num_block_pairs()


def _parts(
    rule: Visibility, weights: Tensor, batch_size: int, num_heads: int
) -> Iterator[tuple[_Part, Tensor]]:
    """Each part with its attention weights (rows, queries, keys), a view of the flat ones."""
    start = 0
    for block in rule.blocks():
        pairs = block.num_queries * block.num_keys
        num_rows = max(1, CHUNK_SCORES // pairs)
        for head in range(num_heads):
            for row in range(0, batch_size, num_rows):
                rows = slice(row, min(row + num_rows, batch_size))
                stop = start + (rows.stop - rows.start) * pairs
                shape = (rows.stop - rows.start, block.num_queries, block.num_keys)
                yield _Part(block, rows, head), weights[start:stop].view(shape)
                start = stop


def _ragged_softmax(scores: Tensor, part: _Part, rule: Visibility) -> Tensor:
    """Attention weights over the keys of each row; 0 for queries that see none.

    Args:
        scores: (rows, queries, keys), with hidden keys masked by the blocks.
        part: What they are of.
        rule: With `valid_keys`.
    """
    block = part.block
    keys = torch.arange(block.keys.start, block.keys.stop)
    first = (rule.num_keys - rule.valid_keys[part.rows])[:, None, None]
    weights = scores.masked_fill(keys < first, masked_score(scores.dtype)).softmax(dim=-1)
    last = torch.arange(block.queries.start, block.queries.stop) + rule.num_keys - rule.num_queries
    return weights.masked_fill(last[:, None] < first, 0.0)


def _add_gradients(
    part: _Part,
    weight: Tensor,
    grad_out: Tensor,
    delta: Tensor,
    inputs: tuple[Tensor | None, ...],
    grads: tuple[Tensor | None, ...],
) -> None:
    """Adds one part's share to the gradients of qu, qv, k, v, r and b.

    Args:
        part: The part.
        weight: Its attention weights (rows, queries, keys).
        grad_out: Gradient of the output (B, H, T, K).
        delta: Sum of output times gradient, (B, H, T, 1).
        inputs: qu, qv, k, v, r, b; None for what there is not, and for b without gradient.
        grads: Their gradients; those of qu and qv are written here, the others added to.
    """
    qu, qv, k, v, r, b = inputs
    grad_qu, grad_qv, grad_k, grad_v, grad_r, grad_b = grads
    grad = part.queries_of(grad_out)
    part.keys_of(grad_v).add_(weight.transpose(1, 2) @ grad)
    rows, num_queries, num_keys = weight.shape
    by_distance = weight.new_empty(rows, num_queries, num_keys + 1)
    flat = by_distance.flatten(1)
    flat[:, : num_queries - 1] = 0
    flat[:, num_queries - 1 + num_queries * num_keys :] = 0
    grad_scores = shift(by_distance)
    torch.sub(grad @ part.keys_of(v).transpose(1, 2), part.queries_of(delta), out=grad_scores)
    grad_scores *= weight
    part.queries_of(grad_qu).copy_(grad_scores @ part.keys_of(k))
    part.keys_of(grad_k).add_(grad_scores.transpose(1, 2) @ part.queries_of(qu))
    by_distance = by_distance.flatten(0, 1)
    if b is not None:
        part.distances_of(grad_b).add_(by_distance.sum(dim=0))
    if r is None:
        return
    part.queries_of(grad_qv).copy_(
        (by_distance @ part.distances_of(r)).unflatten(0, (rows, num_queries))
    )
    part.distances_of(grad_r).addmm_(by_distance.t(), part.queries_of(qv).flatten(0, 1))


ATTENTION_KERNELS.register(BlockedAttention.name)(BlockedAttention())
