"""Triton kernels of attention over a ring of keys; imported by `ring` at its first use only.

One query a row reads all keys of its row, and reading them is the work: the slots are split over
many programs, each of which leaves the sums of its part, and a second kernel puts the parts
together. Nothing depends on numbers that the host would have to know: the place of the newest
token and the number of tokens lie on the device, so that a CUDA graph can hold both launches.

Shapes: B batch, H heads, C slots, K head width, P = C + 1 distances, N parts.

Source: Dao et al. 2023, "Flash-Decoding for long-context inference", for the split over keys.
"""

from __future__ import annotations

from db1.errors import MissingExtra

try:
    import triton
    import triton.language as tl
except ImportError as error:
    raise MissingExtra("triton", "triton", "model.attention: fused") from error

LOG2_E: tl.constexpr = tl.constexpr(1.4426950408889634)


@triton.jit
def _query(q, bias, head, columns, factor, HEAD_DIM: tl.constexpr):
    """(q + bias of the head) * factor in float32, at these columns; 0 beyond HEAD_DIM."""
    mask = columns < HEAD_DIM
    row = tl.load(q + columns, mask=mask, other=0.0).to(tl.float32)
    row += tl.load(bias + head * HEAD_DIM + columns, mask=mask, other=0.0).to(tl.float32)
    return row * factor


@triton.jit
def _crossed(q, bias, head, columns, factor, HEAD_DIM: tl.constexpr):
    """The numbers that the sines turn: of each pair, minus the second in place of the first.

    A pair's second number turns into the first with the sine, the first into minus it.
    """
    row = _query(q, bias, head, columns ^ 1, factor, HEAD_DIM)
    return tl.where(columns % 2 == 0, row, -row)


@triton.jit
def part_kernel(
    q, k, v, r, b, rotations, u, w, newest, counts, sums, mixed,
    q_b, q_h, k_b, k_h, k_t, v_b, v_h, v_t, r_h, r_p, b_h,
    H, C, P, span, scale,
    HEAD_DIM: tl.constexpr, WIDTH: tl.constexpr, TILE: tl.constexpr, TILES: tl.constexpr,
    VECTORS: tl.constexpr, SCORES: tl.constexpr, ROTATIONS: tl.constexpr,
):  # fmt: skip
    """Sums over the slots of one part; grid (N, B * H).

    Args:
        q: (B, H, K).
        k, v: (B, H, C, K).
        r: (H, P, K) in descending distance; read with VECTORS.
        b: (H, P) in descending distance; read with SCORES.
        rotations: float32 (P, K / 2, 2), contiguous, cosines and sines; read with ROTATIONS.
        newest: int32 (B,), slot of the newest token.
        counts: int32 (B,), tokens of each row.
        sums: float32 (B * H, N, 2): largest score and sum of the exponentials, in powers of two.
        mixed: float32 (B * H, N, WIDTH): values under these exponentials.
    """
    part = tl.program_id(0)
    row = (tl.program_id(1) // H).to(tl.int64)
    head = (tl.program_id(1) % H).to(tl.int64)
    q += row * q_b + head * q_h
    k += row * k_b + head * k_h
    v += row * v_b + head * v_h
    columns = tl.arange(0, WIDTH)
    real = (columns < HEAD_DIM)[None, :]
    qu = _query(q, u, head, columns, scale * LOG2_E, HEAD_DIM)
    if VECTORS:
        qv = _query(q, w, head, columns, scale * LOG2_E, HEAD_DIM)
    if ROTATIONS:
        crossed = _crossed(q, u, head, columns, scale * LOG2_E, HEAD_DIM)
    last = tl.load(newest + row)
    seen_at_most = tl.minimum(tl.load(counts + row), span)
    highest = -float("inf")
    total = 0.0
    values = tl.zeros([WIDTH], tl.float32)
    for tile in range(TILES):
        slots = (part * TILES + tile) * TILE + tl.arange(0, TILE)
        distances = (last - slots + C) % C
        seen = (slots < C) & (distances < seen_at_most)
        mask = seen[:, None] & real
        keys = tl.load(k + slots[:, None] * k_t + columns[None, :], mask=mask, other=0.0)
        places = P - 2 - distances
        if ROTATIONS:
            at = rotations + places[:, None] * HEAD_DIM + (columns // 2 * 2)[None, :]
            cosines = tl.load(at, mask=mask, other=0.0)
            sines = tl.load(at + 1, mask=mask, other=0.0)
            factors = qu[None, :] * cosines + crossed[None, :] * sines
            s = tl.sum(keys.to(tl.float32) * factors, 1)
        else:
            s = tl.sum(keys.to(tl.float32) * qu[None, :], 1)
        if VECTORS:
            at = r + head * r_h + places[:, None] * r_p + columns[None, :]
            vectors = tl.load(at, mask=mask, other=0.0)
            s += tl.sum(vectors.to(tl.float32) * qv[None, :], 1)
        if SCORES:
            added = tl.load(b + head * b_h + places, mask=seen, other=0.0)
            s += added.to(tl.float32) * LOG2_E
        s = tl.where(seen, s, -float("inf"))
        now = tl.maximum(highest, tl.max(s, 0))
        base = tl.where(now == -float("inf"), 0.0, now)
        p = tl.exp2(s - base)
        shrunk = tl.exp2(highest - base)
        total = total * shrunk + tl.sum(p, 0)
        rows = tl.load(v + slots[:, None] * v_t + columns[None, :], mask=mask, other=0.0)
        values = values * shrunk + tl.sum(rows.to(tl.float32) * p[:, None], 0)
        highest = now
    place = tl.program_id(1).to(tl.int64) * tl.num_programs(0) + part
    tl.store(sums + place * 2, highest)
    tl.store(sums + place * 2 + 1, total)
    tl.store(mixed + place * WIDTH + columns, values)


@triton.jit
def join_kernel(
    sums, mixed, out, N,
    HEAD_DIM: tl.constexpr, WIDTH: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    """Puts the parts of one query together; grid (B * H,).

    Args:
        sums: float32 (B * H, N, 2).
        mixed: float32 (B * H, N, WIDTH).
        out: (B, H, K), contiguous.
    """
    query = tl.program_id(0).to(tl.int64)
    parts = tl.arange(0, PARTS)
    here = parts < N
    at = sums + (query * N + parts) * 2
    highest = tl.load(at, mask=here, other=-float("inf"))
    totals = tl.load(at + 1, mask=here, other=0.0)
    largest = tl.max(highest, 0)
    shares = tl.exp2(highest - tl.where(largest == -float("inf"), 0.0, largest))
    total = tl.sum(totals * shares, 0)
    columns = tl.arange(0, WIDTH)
    at = mixed + (query * N + parts)[:, None] * WIDTH + columns[None, :]
    values = tl.load(at, mask=here[:, None], other=0.0)
    joined = tl.sum(values * shares[:, None], 0) / tl.where(total == 0.0, 1.0, total)
    target = out + query * HEAD_DIM + columns
    tl.store(target, joined.to(out.dtype.element_ty), mask=columns < HEAD_DIM)
