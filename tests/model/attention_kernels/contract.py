"""What every attention kernel must compute: cases, operands and a float64 reference.

The reference goes query by query over exactly the keys that it sees, in float64, and knows nothing
of masks or shifts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from db1.model.attention_kernels import AttentionInputs, AttentionKernel, AttentionRequest
from db1.model.attention_kernels.ring import Ring, ring_attention
from db1.model.positions import (
    PositionTerms,
    RotaryPositions,
    alibi_slopes,
    apply_rotary,
    descending_distances,
)
from db1.model.visibility import Visibility


@dataclass(frozen=True, kw_only=True)
class Case:
    """One size and rule.

    Args:
        queries: T.
        keys: S.
        span: Keys a query sees at most; None without limit.
        valid: Keys of each row, or None for two rows with all of them.
        head_dim: K.
        positions: `transformer_xl`, `alibi`, `both`, `rotary` or `none`.
        heads: H.
    """

    queries: int
    keys: int
    span: int | None = None
    valid: tuple[int, ...] | None = None
    head_dim: int = 4
    positions: str = "transformer_xl"
    heads: int = 2

    @property
    def batch_size(self) -> int:
        """B."""
        return 2 if self.valid is None else len(self.valid)

    def visibility(self, dtype: torch.dtype, device: str) -> Visibility:
        """The rule."""
        valid = None if self.valid is None else torch.tensor(self.valid, device=device)
        return Visibility(
            num_queries=self.queries,
            num_keys=self.keys,
            span=self.span,
            valid_keys=valid,
            dtype=dtype,
            device=torch.device(device),
        )

    def request(self, dtype: torch.dtype, device: str) -> AttentionRequest:
        """The request to a kernel."""
        return AttentionRequest(
            device=torch.device(device),
            dtype=dtype,
            head_dim=self.head_dim,
            num_queries=self.queries,
            dropout=0.0,
            needs_grad=True,
        )


SIZES = (
    Case(queries=7, keys=7),
    Case(queries=7, keys=12),
    Case(queries=5, keys=11, span=4),
    Case(queries=6, keys=9, span=9),
    Case(queries=70, keys=133, span=65),
    Case(queries=1, keys=6),
    Case(queries=1, keys=1, span=1),
    Case(queries=1, keys=9, span=4),
    Case(queries=1, keys=4, valid=(0, 1, 4)),
    Case(queries=3, keys=6, valid=(0, 1, 2, 6)),
    Case(queries=5, keys=9, span=2, valid=(4, 9, 0)),
)
"""T = 1, a memory, a window, ragged rows, odd sizes, rows and queries that see nothing."""

POSITIONS = ("transformer_xl", "alibi", "both", "rotary", "none")

Leaves = dict[str, Tensor]


def draw(case: Case, dtype: torch.dtype, device: str = "cpu") -> Leaves:
    """Operands of a case, with gradients, of the given type."""
    generator = torch.Generator().manual_seed(case.queries * 1_000 + case.keys)
    sides = (case.batch_size, case.heads)
    shapes = {
        "q": (*sides, case.queries, case.head_dim),
        "k": (*sides, case.keys, case.head_dim),
        "v": (*sides, case.keys, case.head_dim),
        "content_bias": (case.heads, case.head_dim),
    }
    if case.positions in ("transformer_xl", "both"):
        shapes["position_bias"] = (case.heads, case.head_dim)
        shapes["vectors"] = (case.heads, case.keys + 1, case.head_dim)
    if case.positions == "both":
        shapes["scores"] = (case.heads, case.keys + 1)
    drawn = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    if case.positions == "alibi":
        distances = descending_distances(case.keys, torch.zeros(()))
        drawn["scores"] = -torch.tensor(alibi_slopes(case.heads))[:, None] * distances
    return {name: x.to(device, dtype).requires_grad_() for name, x in drawn.items()}


def inputs_of(case: Case, leaves: Leaves) -> AttentionInputs:
    """A kernel's operands, as `RelativeAttention` gives them."""
    scale = case.head_dim**-0.5
    inputs = AttentionInputs(scale=scale, **leaves)
    if case.positions != "rotary":
        return inputs
    q, k = leaves["q"], leaves["k"]
    rotations = _rotations(case, q).rotations
    biased = q * scale + (leaves["content_bias"] * scale)[:, None]
    turned = apply_rotary(biased, rotations[-(case.queries + 1) : -1])
    return replace(
        inputs, q=turned, k=apply_rotary(k, rotations[:-1]), content_bias=None, scale=1.0
    )


def _rotations(case: Case, like: Tensor) -> PositionTerms:
    class Sizes:
        head_dim = case.head_dim

    return PositionTerms(
        rotations=RotaryPositions.features(Sizes(), descending_distances(case.keys, like))
    )


def reference(case: Case, leaves: Leaves) -> Tensor:
    """Output (B, H, T, K) in float64, query by query."""
    operands = inputs_of(case, leaves)
    q, k, v, scale = operands.q, operands.k, operands.v, operands.scale
    none = q.new_zeros(case.heads, case.head_dim)
    u = none if operands.content_bias is None else operands.content_bias
    w = none if operands.position_bias is None else operands.position_bias
    rows = []
    for b in range(case.batch_size):
        valid = case.keys if case.valid is None else case.valid[b]
        for i in range(case.queries):
            place = case.keys - case.queries + i
            first = max(0, case.keys - valid)
            if case.span is not None:
                first = max(first, place - case.span + 1)
            if first > place:
                rows.append(q.new_zeros(case.heads, case.head_dim))
                continue
            seen = slice(first, place + 1)
            distances = place - torch.arange(first, place + 1, device=q.device)
            scores = torch.einsum("hk,hjk->hj", (q[b, :, i] + u) * scale, k[b, :, seen])
            if operands.vectors is not None:
                r = operands.vectors[:, case.keys - 1 - distances]
                scores = scores + torch.einsum("hk,hjk->hj", (q[b, :, i] + w) * scale, r)
            if operands.scores is not None:
                scores = scores + operands.scores[:, case.keys - 1 - distances]
            rows.append(torch.einsum("hj,hjk->hk", scores.softmax(-1), v[b, :, seen]))
    stacked = torch.stack(rows).unflatten(0, (case.batch_size, case.queries))
    return stacked.transpose(1, 2)


def check(kernel: AttentionKernel, case: Case, dtype: torch.dtype, device: str = "cpu") -> None:
    """Compares output and every gradient with the reference.

    Raises:
        AssertionError: Where they differ by more than the type's rounding.
    """
    leaves = draw(case, dtype, device)
    exact = {name: x.detach().double().requires_grad_() for name, x in leaves.items()}
    expected = reference(case, exact)
    visibility = kernel.prepare(case.visibility(dtype, device))
    got = kernel(inputs_of(case, leaves), visibility, 0.0)
    assert got.shape == expected.shape and got.dtype == dtype
    limit = TOLERANCE[dtype]
    assert_near("output", got, expected, limit)
    weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    weights = weights.to(device)
    got_grads = torch.autograd.grad((got * weights.to(dtype)).sum(), list(leaves.values()))
    weights = weights.to(dtype).double()
    expected_grads = torch.autograd.grad((expected * weights).sum(), list(exact.values()))
    for name, grad, wanted in zip(leaves, got_grads, expected_grads, strict=True):
        assert_near(f"gradient of {name}", grad, wanted, limit)


def check_ring(case: Case, dtype: torch.dtype, device: str = "cpu") -> None:
    """Compares `ring_attention` with the reference of one query a row.

    The keys of a case with T = 1 are laid into a ring, begun at another slot in each row; slots
    without a token hold numbers that would show.
    """
    leaves = {name: x.detach() for name, x in draw(case, dtype, device).items()}
    exact = {name: x.double() for name, x in leaves.items()}
    expected = reference(case, exact)[:, :, 0]
    capacity = case.keys
    newest = [(5 * row + 2) % capacity for row in range(case.batch_size)]
    counts = list(case.valid or [capacity] * case.batch_size)
    rings = {}
    for name in ("k", "v"):
        rings[name] = torch.full_like(leaves[name], 1_000.0)
        for row, (last, count) in enumerate(zip(newest, counts, strict=True)):
            for distance in range(count):
                slot = (last - distance) % capacity
                rings[name][row, :, slot] = leaves[name][row, :, capacity - 1 - distance]
    ring = Ring(
        keys=rings["k"],
        values=rings["v"],
        newest=torch.tensor(newest, dtype=torch.int32, device=device),
        counts=torch.tensor(counts, dtype=torch.int32, device=device),
    )
    rotations = _rotations(case, leaves["q"]).rotations if case.positions == "rotary" else None
    got = ring_attention(
        leaves["q"][:, :, 0],
        ring,
        PositionTerms(
            vectors=leaves.get("vectors"), scores=leaves.get("scores"), rotations=rotations
        ),
        scale=case.head_dim**-0.5,
        content_bias=leaves["content_bias"],
        position_bias=leaves.get("position_bias"),
        span=case.span,
    )
    assert got.dtype == dtype
    assert_near("output", got, expected, TOLERANCE[dtype])


TOLERANCE = {
    torch.float64: 1e-11,
    torch.float32: 1e-5,
    torch.float16: 5e-3,
    torch.bfloat16: 3e-2,
}
"""Largest difference, as a part of the largest number of the tensor and at least of 1."""


def assert_near(what: str, got: Tensor, expected: Tensor, limit: float) -> None:
    """Compares with a tolerance relative to the tensor's largest number."""
    size = max(1.0, float(expected.detach().abs().max())) if expected.numel() else 1.0
    difference = float((got.double() - expected).detach().abs().max()) if expected.numel() else 0.0
    assert difference <= limit * size, f"{what}: differs by {difference:.2e} of {size:.2e}"
