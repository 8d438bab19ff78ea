"""Triton kernels of fused relative attention; imported by `fused` at its first use only.

Square tiles of b = TILE queries and keys. Key tile t of a query tile that starts at i0 begins at
key j0 = M + i0 - t b, so the distance of query m and key n of the tiles is t b + (m - n), and only
the distance blocks t and t - 1 occur. With X_t = qv R[t b : (t + 1) b]^T, (b, b),

    C = where(c <= m, X_t, X_(t-1))         position score of (m, n) = C[m, (m - n) mod b]

for b = 4, query m = 1, written as distances less t b:

    X_t  0 1 2 3    X_(t-1)  -4 -3 -2 -1    C[1]  0 1 -2 -1    by key  1 0 -1 -2

so that no (T, S) tensor lies in memory: one product a tile more than plain attention has. X_t is
carried to the next tile. Scores, sums and exponentials are float32, in powers of two.

The backward computes attention weights and the scores' gradients once and keeps them block by
block, for a part of the heads at a time (`fused`), because kernels that computed them twice and
summed up as well would spill registers. Two light kernels sum them up. That of the queries also
writes the gradients by distance, one row a query, in descending order as position vectors lie;
products of a library turn them into gradients of the position vectors and of qv. A query's keys are
neighbours there, too: no gather is needed.

A row sees keys from S - valid on; a query that sees none has 0 as output and +inf as its
log-sum-exp, so that its weights are 0 in the backward pass.

Shapes: T query tokens, M memory tokens, S = M + T key tokens, K head width, D distances in use.

Source: Dao 2023, "FlashAttention-2", for the loop over keys and the recomputed backward.
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
def _load_rows(base, stride, places, lowest, highest, HEAD_DIM: tl.constexpr, WIDTH: tl.constexpr):
    """Rows `places` of a matrix, (TILE, WIDTH); 0 outside [lowest, highest) and beyond HEAD_DIM."""
    columns = tl.arange(0, WIDTH)
    here = (places >= lowest) & (places < highest)
    mask = here[:, None] & (columns < HEAD_DIM)[None, :]
    return tl.load(base + places[:, None] * stride + columns[None, :], mask=mask, other=0.0)


@triton.jit
def _store_rows(base, stride, places, highest, values, HEAD_DIM: tl.constexpr, WIDTH: tl.constexpr):
    """Stores rows `places` in [0, highest)."""
    columns = tl.arange(0, WIDTH)
    mask = ((places >= 0) & (places < highest))[:, None] & (columns < HEAD_DIM)[None, :]
    values = values.to(base.dtype.element_ty)
    tl.store(base + places[:, None] * stride + columns[None, :], values, mask=mask)


@triton.jit
def _biased(q, bias, head, factor, HEAD_DIM: tl.constexpr, WIDTH: tl.constexpr):
    """(q + bias of the head) * factor, in the type of q."""
    columns = tl.arange(0, WIDTH)
    row = tl.load(bias + head * HEAD_DIM + columns, mask=columns < HEAD_DIM, other=0.0)
    return ((q.to(tl.float32) + row.to(tl.float32)[None, :]) * factor).to(q.dtype)


@triton.jit
def _by_distance(
    qv, r, stride, block, S, TILE: tl.constexpr, HEAD_DIM: tl.constexpr, WIDTH: tl.constexpr
):
    """Position scores of distance block `block`, X (TILE, TILE)."""
    distances = block * TILE + tl.arange(0, TILE)
    vectors = _load_rows(r, stride, S - 1 - distances, 0, S, HEAD_DIM, WIDTH)
    return tl.dot(qv, tl.trans(vectors), input_precision="ieee")


@triton.jit
def _by_key(x, previous, TILE: tl.constexpr):
    """Position scores of one tile by key, from those of distance blocks t and t - 1."""
    m = tl.arange(0, TILE)[:, None]
    n = tl.arange(0, TILE)[None, :]
    return tl.gather(tl.where(n <= m, x, previous), (m - n) & (TILE - 1), 1)


@triton.jit
def _added_scores(b, S, distance):
    """Scores b by distance, in powers of two."""
    mask = (distance >= 0) & (distance < S)
    return tl.load(b + S - 1 - distance, mask=mask, other=0.0).to(tl.float32) * LOG2_E


@triton.jit
def _first_key(valid, row, S, RAGGED: tl.constexpr):
    """The first key that a row has."""
    first = 0
    if RAGGED:
        first = S - tl.load(valid + row).to(tl.int32)
    return first


@triton.jit
def _num_key_tiles(i0, memory, span, first, TILE: tl.constexpr):
    """Key tiles of the tile of queries at i0, down to the first key that one of them sees."""
    lowest = tl.maximum(first, tl.maximum(0, memory + i0 - span + 1))
    return (memory + i0 - lowest + TILE - 1) // TILE + 1


@triton.jit
def forward_kernel(
    q, k, v, r, b, u, w, valid, out, lse,
    q_b, q_h, q_t, k_b, k_h, k_t, v_b, v_h, v_t, r_h, r_p, b_h, o_b, o_h, o_t,
    H, T, S, span, scale,
    HEAD_DIM: tl.constexpr, WIDTH: tl.constexpr, TILE: tl.constexpr,
    VECTORS: tl.constexpr, SCORES: tl.constexpr, RAGGED: tl.constexpr,
):  # fmt: skip
    """Output and log-sum-exp (log 2) of one tile of queries; grid (tiles, B * H).

    Args:
        q, k, v: (B, H, T or S, K); strides q_b, q_h, q_t and so on, 1 between neighbours.
        r: (H, S + 1, K) in descending distance; read with VECTORS.
        b: (H, S + 1) in descending distance; read with SCORES.
        u, w: Content and position bias (H, K), contiguous.
        valid: int64 (B,), keys of each row; read with RAGGED.
        out: (B, H, T, K).
        lse: float32 (B, H, T), contiguous.
    """
    # Late tiles have most keys: they come first.
    i0 = (tl.num_programs(0) - 1 - tl.program_id(0)) * TILE
    row = (tl.program_id(1) // H).to(tl.int64)
    head = (tl.program_id(1) % H).to(tl.int64)
    k += row * k_b + head * k_h
    v += row * v_b + head * v_h
    r += head * r_h
    b += head * b_h
    queries = i0 + tl.arange(0, TILE)
    q_tile = _load_rows(q + row * q_b + head * q_h, q_t, queries, 0, T, HEAD_DIM, WIDTH)
    qu = _biased(q_tile, u, head, scale * LOG2_E, HEAD_DIM, WIDTH)
    qv = _biased(q_tile, w, head, scale * LOG2_E, HEAD_DIM, WIDTH)
    first = _first_key(valid, row, S, RAGGED)
    memory = S - T
    num_tiles = _num_key_tiles(i0, memory, span, first, TILE)
    m = tl.arange(0, TILE)
    highest = tl.full([TILE], float("-inf"), tl.float32)
    total = tl.zeros([TILE], tl.float32)
    mixed = tl.zeros([TILE, WIDTH], tl.float32)
    previous = tl.zeros([TILE, TILE], tl.float32)
    for t in range(0, num_tiles):
        keys = memory + i0 - t * TILE + m
        k_tile = _load_rows(k, k_t, keys, 0, S, HEAD_DIM, WIDTH)
        s = tl.dot(qu, tl.trans(k_tile), input_precision="ieee")
        distance = t * TILE + m[:, None] - m[None, :]
        if VECTORS:
            x = _by_distance(qv, r, r_p, t, S, TILE, HEAD_DIM, WIDTH)
            s += _by_key(x, previous, TILE)
            previous = x
        if SCORES:
            s += _added_scores(b, S, distance)
        seen = (distance >= 0) & (distance < span) & (keys >= first)[None, :]
        s = tl.where(seen, s, float("-inf"))
        now = tl.maximum(highest, tl.max(s, 1))
        base = tl.where(now == float("-inf"), 0.0, now)
        p = tl.exp2(s - base[:, None])
        shrunk = tl.exp2(highest - base)
        total = total * shrunk + tl.sum(p, 1)
        v_tile = _load_rows(v, v_t, keys, 0, S, HEAD_DIM, WIDTH)
        mixed = tl.dot(p.to(v_tile.dtype), v_tile, mixed * shrunk[:, None], input_precision="ieee")
        highest = now
    blind = total == 0.0
    mixed = mixed / tl.where(blind, 1.0, total)[:, None]
    _store_rows(out + row * o_b + head * o_h, o_t, queries, T, mixed, HEAD_DIM, WIDTH)
    sums = tl.where(blind, float("inf"), highest + tl.log2(tl.where(blind, 1.0, total)))
    tl.store(lse + (row * H + head) * T + queries, sums, mask=queries < T)


@triton.jit
def score_gradient_kernel(
    q, k, v, r, b, u, w, valid, out, lse, grad, weights, gradients,
    q_b, q_h, q_t, k_b, k_h, k_t, v_b, v_h, v_t, r_h, r_p, b_h, o_b, o_h, o_t, g_b, g_h, g_t,
    row0, head0, H, T, S, span, scale, blocks,
    HEAD_DIM: tl.constexpr, WIDTH: tl.constexpr, TILE: tl.constexpr,
    VECTORS: tl.constexpr, SCORES: tl.constexpr, RAGGED: tl.constexpr,
):  # fmt: skip
    """Attention weights and gradients of the scores; grid (tiles, rows, heads) from row0, head0.

    Args:
        grad: Gradient of the output (B, H, T, K).
        weights, gradients: (heads, rows, tiles, blocks, TILE, TILE), contiguous: block t of a tile
            of queries is that of its key tile t. Blocks without visible keys are left alone.
    """
    tile = tl.num_programs(0) - 1 - tl.program_id(0)
    i0 = tile * TILE
    row = (row0 + tl.program_id(1)).to(tl.int64)
    head = (head0 + tl.program_id(2)).to(tl.int64)
    k += row * k_b + head * k_h
    v += row * v_b + head * v_h
    r += head * r_h
    b += head * b_h
    here = tl.program_id(2).to(tl.int64) * tl.num_programs(1) + tl.program_id(1)
    block = (here * tl.num_programs(0) + tile) * blocks * TILE * TILE
    queries = i0 + tl.arange(0, TILE)
    q_tile = _load_rows(q + row * q_b + head * q_h, q_t, queries, 0, T, HEAD_DIM, WIDTH)
    qu = _biased(q_tile, u, head, scale * LOG2_E, HEAD_DIM, WIDTH)
    qv = _biased(q_tile, w, head, scale * LOG2_E, HEAD_DIM, WIDTH)
    g_tile = _load_rows(grad + row * g_b + head * g_h, g_t, queries, 0, T, HEAD_DIM, WIDTH)
    o_tile = _load_rows(out + row * o_b + head * o_h, o_t, queries, 0, T, HEAD_DIM, WIDTH)
    products = tl.sum(g_tile.to(tl.float32) * o_tile.to(tl.float32), 1)
    place = (row * H + head) * T + queries
    sums = tl.load(lse + place, mask=queries < T, other=float("inf"))
    first = _first_key(valid, row, S, RAGGED)
    memory = S - T
    num_tiles = _num_key_tiles(i0, memory, span, first, TILE)
    m = tl.arange(0, TILE)
    inside = m[:, None] * TILE + m[None, :]
    previous = tl.zeros([TILE, TILE], tl.float32)
    for t in range(0, num_tiles):
        keys = memory + i0 - t * TILE + m
        k_tile = _load_rows(k, k_t, keys, 0, S, HEAD_DIM, WIDTH)
        s = tl.dot(qu, tl.trans(k_tile), input_precision="ieee")
        distance = t * TILE + m[:, None] - m[None, :]
        if VECTORS:
            x = _by_distance(qv, r, r_p, t, S, TILE, HEAD_DIM, WIDTH)
            s += _by_key(x, previous, TILE)
            previous = x
        if SCORES:
            s += _added_scores(b, S, distance)
        seen = (distance >= 0) & (distance < span) & (keys >= first)[None, :]
        p = tl.where(seen, tl.exp2(s - sums[:, None]), 0.0)
        tl.store(weights + block + inside, p.to(weights.dtype.element_ty))
        v_tile = _load_rows(v, v_t, keys, 0, S, HEAD_DIM, WIDTH)
        dp = tl.dot(g_tile, tl.trans(v_tile), input_precision="ieee")
        ds = p * (dp - products[:, None])
        tl.store(gradients + block + inside, ds.to(gradients.dtype.element_ty))
        block += TILE * TILE


@triton.jit
def query_gradient_kernel(
    k, valid, gradients, grad_qu, by_distance,
    k_b, k_h, k_t,
    row0, head0, B, T, S, span, scale, blocks, d_row,
    HEAD_DIM: tl.constexpr, WIDTH: tl.constexpr, TILE: tl.constexpr,
    RAGGED: tl.constexpr, STORE: tl.constexpr,
):  # fmt: skip
    """Gradient of the queries through the keys; grid (tiles, rows, heads) from row0, head0.

    Args:
        gradients: Of the scores, from `score_gradient_kernel`.
        grad_qu: (H, B, T, K), contiguous.
        by_distance: With STORE, the gradients of the scores again, (heads, rows, T, d_row),
            contiguous: in row i, column span - 1 - d that of distance d; columns from span on are
            left alone.
    """
    tile = tl.num_programs(0) - 1 - tl.program_id(0)
    i0 = tile * TILE
    row = (row0 + tl.program_id(1)).to(tl.int64)
    head = (head0 + tl.program_id(2)).to(tl.int64)
    k += row * k_b + head * k_h
    here = tl.program_id(2).to(tl.int64) * tl.num_programs(1) + tl.program_id(1)
    block = (here * tl.num_programs(0) + tile) * blocks * TILE * TILE
    m = tl.arange(0, TILE)
    inside = m[:, None] * TILE + m[None, :]
    queries = i0 + m
    first = _first_key(valid, row, S, RAGGED)
    memory = S - T
    num_tiles = tl.maximum(_num_key_tiles(i0, memory, span, first, TILE), 0)
    mixed = tl.zeros([TILE, WIDTH], tl.float32)
    by_distance += (here * T + i0) * d_row + span - 1
    places = m[:, None] * d_row - (m[:, None] - m[None, :])
    for t in range(0, num_tiles):
        ds = tl.load(gradients + block + inside)
        keys = memory + i0 - t * TILE + m
        k_tile = _load_rows(k, k_t, keys, 0, S, HEAD_DIM, WIDTH)
        mixed = tl.dot(ds, k_tile, mixed, input_precision="ieee")
        if STORE:
            distance = t * TILE + m[:, None] - m[None, :]
            mask = (distance >= 0) & (distance < span) & (queries < T)[:, None]
            tl.store(by_distance - t * TILE + places, ds, mask=mask)
        block += TILE * TILE
    if STORE:
        nothing = tl.zeros([TILE, TILE], by_distance.dtype.element_ty)
        for t in range(num_tiles, tl.cdiv(span, TILE) + 1):
            distance = t * TILE + m[:, None] - m[None, :]
            mask = (distance >= 0) & (distance < span) & (queries < T)[:, None]
            tl.store(by_distance - t * TILE + places, nothing, mask=mask)
    target = grad_qu + (head * B + row) * T * HEAD_DIM
    _store_rows(target, HEAD_DIM, queries, T, mixed * scale, HEAD_DIM, WIDTH)


@triton.jit
def key_gradient_kernel(
    q, u, valid, grad, weights, gradients, grad_k, grad_v,
    q_b, q_h, q_t, g_b, g_h, g_t,
    row0, head0, H, T, S, span, scale, tiles, blocks,
    HEAD_DIM: tl.constexpr, WIDTH: tl.constexpr, TILE: tl.constexpr, RAGGED: tl.constexpr,
):  # fmt: skip
    """Gradients of one tile of keys and values; grid (tiles, rows, heads) from row0, head0.

    The tiles are those that the tiles of queries have: they begin at M less multiples of TILE.

    Args:
        weights, gradients: From `score_gradient_kernel`, of `tiles` tiles of queries.
        grad_k, grad_v: (B, H, S, K), contiguous.
    """
    memory = S - T
    j0 = tl.program_id(0) * TILE - (TILE - memory % TILE) % TILE
    row = (row0 + tl.program_id(1)).to(tl.int64)
    head = (head0 + tl.program_id(2)).to(tl.int64)
    q += row * q_b + head * q_h
    grad += row * g_b + head * g_h
    here = tl.program_id(2).to(tl.int64) * tl.num_programs(1) + tl.program_id(1)
    here = here * tiles * blocks * TILE * TILE
    m = tl.arange(0, TILE)
    inside = m[:, None] * TILE + m[None, :]
    keys = j0 + m
    first = _first_key(valid, row, S, RAGGED)
    start = tl.maximum(0, memory - j0) // TILE
    stop = tl.minimum(tl.cdiv(S - j0, TILE), (span + 2 * TILE - 2) // TILE)
    stop = tl.where(j0 + TILE <= first, 0, stop)
    dk = tl.zeros([TILE, WIDTH], tl.float32)
    dv = tl.zeros([TILE, WIDTH], tl.float32)
    for t in range(start, stop):
        i0 = j0 - memory + t * TILE
        block = here + ((i0 // TILE).to(tl.int64) * blocks + t) * TILE * TILE
        p = tl.load(weights + block + inside)
        g_tile = _load_rows(grad, g_t, i0 + m, 0, T, HEAD_DIM, WIDTH)
        dv = tl.dot(tl.trans(p), g_tile, dv, input_precision="ieee")
        ds = tl.load(gradients + block + inside)
        q_tile = _load_rows(q, q_t, i0 + m, 0, T, HEAD_DIM, WIDTH)
        qu = _biased(q_tile, u, head, scale, HEAD_DIM, WIDTH)
        dk = tl.dot(tl.trans(ds), qu, dk, input_precision="ieee")
    target = (row * H + head) * S * HEAD_DIM
    _store_rows(grad_k + target, HEAD_DIM, keys, S, dk, HEAD_DIM, WIDTH)
    _store_rows(grad_v + target, HEAD_DIM, keys, S, dv, HEAD_DIM, WIDTH)
