"""Attention of one new token a row over a ring of keys and values at a fixed address.

A row's tokens lie in a ring of C slots; the newest is in slot `newest`, the one before it in the
slot before, and so on around the end. So a token's distance is (newest - slot) mod C, rows of any
length lie beside each other without padding, and nothing moves:

    C = 5, newest = 1, 4 tokens        slot       0  1  2  3  4
                                       distance   1  0  -  3  2

Shapes: B batch, H heads, C slots, K head width, P distances.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import torch
from torch import Tensor

from db1.errors import DataError
from db1.model.attention_kernels.fused import triton_refusal
from db1.model.attention_kernels.fused_tiles import padded_width
from db1.model.attention_kernels.interface import AttentionInputs, AttentionRequest
from db1.model.positions import PositionTerms, apply_rotary

PROGRAMS = 512
"""Programs that the slots are split over at least, where there are slots enough."""

_TILE = 64
_TYPES = (torch.bfloat16, torch.float16, torch.float32)


@dataclass(frozen=True, kw_only=True)
class Ring:
    """One layer's keys and values, and where they begin; all on the device.

    Args:
        keys: (B, H, C, K), never turned.
        values: (B, H, C, K).
        newest: int32 (B,), slot of the newest token.
        counts: int32 (B,), tokens of each row, 0..C; a row without tokens gives 0.
    """

    keys: Tensor
    values: Tensor
    newest: Tensor
    counts: Tensor

    @property
    def capacity(self) -> int:
        """C."""
        return self.keys.shape[2]

    def distances(self) -> Tensor:
        """Distance of each slot from the newest token, int64 (B, C), in 0..C - 1."""
        slots = torch.arange(self.capacity, device=self.keys.device)
        return (self.newest.long()[:, None] - slots) % self.capacity


def ring_attention(
    q_BHK: Tensor,
    ring: Ring,
    terms: PositionTerms,
    *,
    scale: float,
    content_bias: Tensor | None = None,
    position_bias: Tensor | None = None,
    span: int | None = None,
) -> Tensor:
    """Attends from the newest token of each row to all that the ring holds of it.

    Args:
        q_BHK: Its queries, neither scaled nor biased.
        ring: Keys and values, the newest token's included.
        terms: Position terms of at least C distances, as `PositionTerms` orders them.
        scale: Factor of queries and biases.
        content_bias: u (H, K), or None.
        position_bias: v (H, K), or None.
        span: Keys seen at most, the newest included; None: all.

    Returns:
        (B, H, K).

    Raises:
        DataError: When the position terms end before the ring does.
    """
    _check_positions(terms, ring.capacity)
    request = AttentionRequest(
        device=q_BHK.device,
        dtype=q_BHK.dtype,
        head_dim=q_BHK.shape[2],
        num_queries=1,
        dropout=0.0,
        needs_grad=False,
    )
    inputs = AttentionInputs(
        q=q_BHK[:, :, None],
        k=ring.keys,
        v=ring.values,
        scale=scale,
        content_bias=content_bias,
        position_bias=position_bias,
        vectors=terms.vectors,
        scores=terms.scores,
    )
    span = ring.capacity if span is None else min(span, ring.capacity)
    if triton_refusal(request, _TYPES) is None:
        return _split(inputs, ring, terms.rotations, span)
    return _whole(inputs, ring, terms.rotations, span)


def _check_positions(terms: PositionTerms, capacity: int) -> None:
    sizes = [
        x.shape[dim]
        for x, dim in ((terms.vectors, 1), (terms.scores, 1), (terms.rotations, 0))
        if x is not None
    ]
    if sizes and min(sizes) < capacity + 1:
        raise DataError(
            f"position terms of {min(sizes) - 1} distances for a ring of {capacity} tokens; "
            f"make them with position_terms({capacity})"
        )


def _whole(inputs: AttentionInputs, ring: Ring, rotations: Tensor | None, span: int) -> Tensor:
    """In plain operations: all scores at once, position terms picked by distance."""
    exact = torch.promote_types(inputs.q.dtype, torch.float32)
    distances_BC = ring.distances()
    keys = ring.keys
    if rotations is not None:
        rotations_BCK = rotations[rotations.shape[0] - 2 - distances_BC]
        keys = apply_rotary(keys, rotations_BCK[:, None])
    qu_BH1K, qv_BH1K = inputs.biased_queries()
    scores_BHC = (keys.to(exact) @ qu_BH1K.to(exact).transpose(2, 3))[..., 0]
    if inputs.vectors is not None:
        r_HKP = inputs.vectors.to(exact).transpose(1, 2)
        by_distance_BHP = (qv_BH1K.to(exact).transpose(0, 1)[:, :, 0] @ r_HKP).transpose(0, 1)
        place_B1C = (by_distance_BHP.shape[2] - 2 - distances_BC)[:, None]
        scores_BHC = scores_BHC + by_distance_BHP.gather(2, place_B1C.expand(scores_BHC.shape))
    if inputs.scores is not None:
        place_BC = inputs.scores.shape[1] - 2 - distances_BC
        scores_BHC = scores_BHC + inputs.scores.to(exact)[:, place_BC].transpose(0, 1)
    hidden_B1C = (distances_BC >= ring.counts[:, None].clamp(max=span))[:, None]
    scores_BHC = scores_BHC.masked_fill(hidden_B1C, torch.finfo(exact).min)
    weights_BHC = scores_BHC.softmax(dim=2).masked_fill(hidden_B1C, 0.0)
    return (weights_BHC[:, :, None] @ ring.values.to(exact))[:, :, 0].to(inputs.q.dtype)


def _split(inputs: AttentionInputs, ring: Ring, rotations: Tensor | None, span: int) -> Tensor:
    """By the Triton kernels: slots in parts, then the parts together."""
    q = inputs.q[:, :, 0]
    q = q if q.stride(2) == 1 else q.contiguous()
    batch_size, num_heads, head_dim = q.shape
    width = padded_width(head_dim)
    tiles, parts = split_slots(ring.capacity, batch_size * num_heads)
    sums = q.new_empty(batch_size * num_heads, parts, 2, dtype=torch.float32)
    mixed = q.new_empty(batch_size * num_heads, parts, width, dtype=torch.float32)
    out = q.new_empty(q.shape)
    r, b = inputs.vectors, inputs.scores
    blank = q.new_zeros(num_heads, head_dim)
    biases = (inputs.content_bias, inputs.position_bias)
    u, w = (blank if x is None else x.contiguous() for x in biases)
    table = q if rotations is None else torch.view_as_real(rotations).contiguous()
    num_distances = max(
        x.shape[dim] if x is not None else 0 for x, dim in ((r, 1), (b, 1), (rotations, 0))
    )
    kernels().part_kernel[parts, batch_size * num_heads](
        *(q, ring.keys, ring.values, q if r is None else r, q if b is None else b, table),
        *(u, w, ring.newest, ring.counts, sums, mixed),
        *(*q.stride()[:2], *ring.keys.stride()[:3], *ring.values.stride()[:3]),
        *((0, 0) if r is None else r.stride()[:2]),
        0 if b is None else b.stride(0),
        *(num_heads, ring.capacity, num_distances, span, inputs.scale),
        **{"HEAD_DIM": head_dim, "WIDTH": width, "TILE": _TILE, "TILES": tiles},
        **{"VECTORS": r is not None, "SCORES": b is not None, "ROTATIONS": rotations is not None},
        **{"num_warps": 4, "num_stages": 2, "enable_fp_fusion": True},
    )
    kernels().join_kernel[(batch_size * num_heads,)](
        *(sums, mixed, out, parts),
        **{"HEAD_DIM": head_dim, "WIDTH": width, "PARTS": 1 << (parts - 1).bit_length()},
        **{"num_warps": 4, "num_stages": 1, "enable_fp_fusion": True},
    )
    return out


def split_slots(capacity: int, num_queries: int) -> tuple[int, int]:
    """Tiles of slots of each part, a power of two, and parts; from sizes alone."""
    all_tiles = -(-capacity // _TILE)
    tiles = 1
    while tiles < all_tiles and num_queries * -(-all_tiles // (2 * tiles)) >= PROGRAMS:
        tiles *= 2
    return tiles, -(-all_tiles // tiles)


def kernels() -> ModuleType:
    """The Triton kernels, imported at the first call."""
    import db1.model.attention_kernels.ring_kernels as module

    return module
