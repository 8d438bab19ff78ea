"""The three kernels of relative-position attention; all compute

    softmax(qu . k + qv . r[distance] + b[distance]) v

with qu = (q + u) / sqrt(K), qv = (q + v) / sqrt(K), and position vectors r or scores b or neither.
Both come in descending distance with one for distance -1 at the end, so that the position scores
(T, S + 1), laid out flat, hold the scores by key in order: skip T - 1 numbers and cut rows of S.
For T = 2, M = 1, S = 3, written as distances:

    2  1  0 -1 |  2  1  0 -1      ->      1  0 -1 |  2  1  0

The shift of Transformer-XL is thus a view of contiguous memory, and so is its gradient.

Shapes: B batch, T query tokens, M memory tokens, S = M + T key tokens, H heads, K head width,
P = S + 1 distances.

Source: Dai et al. 2019, section 3.3 and appendix B.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx

from db1.model.visibility import KeyBlock, Visibility

CHUNK_SCORES = 1 << 19
"""Scores that the blocked kernel works on at once: 2 MiB in float32, about a core's cache."""


def shift(scores_TP: Tensor) -> Tensor:
    """Position scores by distance (..., T, P) -> by key (..., T, S), a view."""
    num_queries, num_keys = scores_TP.shape[-2], scores_TP.shape[-1] - 1
    skipped = num_queries - 1
    by_key = scores_TP.flatten(-2)[..., skipped : skipped + num_queries * num_keys]
    return by_key.unflatten(-1, (num_queries, num_keys))


def whole_attention(
    qu_BHTK: Tensor,
    qv_BHTK: Tensor | None,
    k_BHSK: Tensor,
    v_BHSK: Tensor,
    r_HPK: Tensor | None,
    b_HP: Tensor | None,
    visibility: Visibility,
    dropout: float,
) -> Tensor:
    """All scores at once, through PyTorch's fused attention with the position term as its mask.

    Args:
        qu_BHTK: Queries plus content bias, scaled.
        qv_BHTK: Queries plus position bias, scaled; None without position vectors.
        k_BHSK: Keys.
        v_BHSK: Values.
        r_HPK: Position vectors in descending distance, or None.
        b_HP: Position scores in descending distance, or None.
        visibility: Which keys are seen.
        dropout: Rate on the attention weights.

    Returns:
        (B, H, T, K).
    """
    added = visibility.additive
    for by_key in _position_scores(qv_BHTK, r_HPK, b_HP, qu_BHTK.shape[2]):
        added = by_key if added is None else by_key + added
    return F.scaled_dot_product_attention(
        qu_BHTK, k_BHSK, v_BHSK, attn_mask=added, dropout_p=dropout, scale=1.0
    )


def _position_scores(
    qv_BHTK: Tensor | None, r_HPK: Tensor | None, b_HP: Tensor | None, num_queries: int
) -> Iterator[Tensor]:
    """What positions add, by key: (B, H, T, S) from vectors and (1, H, T, S) from scores."""
    if r_HPK is not None:
        qv_HBTK = qv_BHTK.transpose(0, 1)
        # One product a head, as r is the same for all rows.
        by_distance = qv_HBTK.flatten(1, 2) @ r_HPK.transpose(1, 2)
        yield shift(by_distance.unflatten(1, qv_HBTK.shape[1:3])).transpose(0, 1)
    if b_HP is not None:
        yield shift(b_HP[None, :, None].expand(-1, -1, num_queries, -1))


def token_attention(
    qu_BHTK: Tensor,
    qv_BHTK: Tensor | None,
    k_BHSK: Tensor,
    v_BHSK: Tensor,
    r_HPK: Tensor | None,
    b_HP: Tensor | None,
    visibility: Visibility,
) -> Tensor:
    """The same for T = 1 on a CPU, where reading the keys is the work: keys times the query.

    That order reads keys and position vectors as they lie in memory. Takes and returns what
    `whole_attention` does, without dropout.
    """
    scores_BHS1 = k_BHSK @ qu_BHTK.transpose(2, 3)
    if r_HPK is not None:
        by_distance_HPB = r_HPK @ qv_BHTK[:, :, 0].permute(1, 2, 0)
        scores_BHS1 = scores_BHS1 + by_distance_HPB[:, :-1].permute(2, 0, 1)[..., None]
    if b_HP is not None:
        scores_BHS1 = scores_BHS1 + b_HP[:, :-1, None]
    if visibility.additive is not None:
        scores_BHS1 = scores_BHS1 + visibility.additive.transpose(-2, -1)
    exact = torch.promote_types(scores_BHS1.dtype, torch.float32)
    weights_BHS1 = scores_BHS1.softmax(dim=2, dtype=exact).type_as(v_BHSK)
    return weights_BHS1.transpose(2, 3) @ v_BHSK


class BlockedAttention(torch.autograd.Function):
    """The same on a CPU, block by block: scores stay in the cache, hidden blocks are skipped.

    Takes and returns what `whole_attention` does, without dropout and `valid_keys`.
    """

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)
    def forward(
        ctx: FunctionCtx,
        qu: Tensor,
        qv: Tensor | None,
        k: Tensor,
        v: Tensor,
        r: Tensor | None,
        b: Tensor | None,
        visibility: Visibility,
    ) -> Tensor:
        out = torch.empty_like(qu)
        weights = []
        for part in _parts(qu, visibility):
            scores = torch.bmm(part.queries_of(qu), part.keys_of(k).transpose(1, 2))
            if r is not None:
                flat = part.queries_of(qv).flatten(0, 1) @ part.distances_of(r).t()
                scores += shift(flat.unflatten(0, scores.shape[:2]))
            if b is not None:
                scores += shift(part.distances_of(b).expand(part.block.num_queries, -1))
            for run, added in part.block.hidden:
                scores[..., run] += added
            weights.append(scores.softmax(dim=-1))
            part.queries_of(out).copy_(weights[-1] @ part.keys_of(v))
        ctx.visibility = visibility
        ctx.save_for_backward(qu, qv, k, v, r, b, out, *weights)
        return out

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")
    def backward(ctx: FunctionCtx, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        qu, qv, k, v, r, b, out, *weights = ctx.saved_tensors
        inputs = (qu, qv, k, v, r, b if ctx.needs_input_grad[5] else None)
        blanks = (torch.empty_like, torch.empty_like, *[torch.zeros_like] * 4)
        pairs = zip(blanks, inputs, strict=True)
        grads = tuple(None if x is None else blank(x) for blank, x in pairs)
        delta = (grad_out * out).sum(dim=-1, keepdim=True)
        for part, weight in zip(_parts(qu, ctx.visibility), weights, strict=True):
            _add_gradients(part, weight, grad_out, delta, inputs, grads)
        return *grads, None


@dataclass(frozen=True)
class _Part:
    """What the blocked kernel does at once: one head, some rows, one block."""

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


def _parts(qu_BHTK: Tensor, visibility: Visibility) -> Iterator[_Part]:
    batch_size, num_heads = qu_BHTK.shape[:2]
    for block in visibility.blocks:
        num_rows = max(1, CHUNK_SCORES // (block.num_queries * block.num_keys))
        for head in range(num_heads):
            for row in range(0, batch_size, num_rows):
                yield _Part(block, slice(row, min(row + num_rows, batch_size)), head)


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
