"""Attention on NVIDIA GPUs by Triton kernels.

Forward and backward are operations of their own (`torch.ops.db1`), so that torch.compile takes each
as one node. `fused_kernels` has the kernels and the idea. The forward holds no (T, S) tensor in
memory. The backward has four parts:

    scores      a kernel: attention weights and gradients of the scores, in blocks
    queries     a kernel: gradient of q + u, and the scores' gradients by distance, DX
    positions   gradient of r = DX^T (q + v), a product of a library, summed over rows and queries
                gradient of q + v = DX r, another one
    keys        a kernel: gradients of k and v

All are deterministic: nothing is added by atomics. Blocks and DX are in the operands' type, for as
many heads (or rows of one head) at once as fit `WORKSPACE`: that much memory, and no more, is
independent of the batch and of the number of heads.

Under TRITON_INTERPRET=1 the kernels run on a CPU, in float32 and float16 (bf16 is wrong there).

Shapes: B batch, T query tokens, M memory tokens, S = M + T key tokens, H heads, K head width,
P = S + 1 distances, D distances in use.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from db1.model.attention_kernels.fused_tiles import MAX_WIDTH, Tile, padded_width, tile_of
from db1.model.attention_kernels.interface import (
    ATTENTION_KERNELS,
    AttentionInputs,
    AttentionKernel,
    AttentionRequest,
)
from db1.model.visibility import Visibility

WORKSPACE = 256 << 20
"""Bytes of attention weights and scores' gradients that the backward holds at once, unless one row
of one head needs more."""

_LEAST_CAPABILITY = (8, 0)


class FusedAttention(AttentionKernel):
    """Learning and reading on an NVIDIA GPU."""

    name = "fused"

    def refusal(self, request: AttentionRequest) -> str | None:
        if request.dropout:
            return "it has no dropout on attention weights"
        return triton_refusal(request, (torch.bfloat16, torch.float16))

    def __call__(self, inputs: AttentionInputs, visibility: Visibility, dropout: float) -> Tensor:
        num_distances = visibility.num_keys
        span = num_distances if visibility.span is None else visibility.span
        return _fused_attention(
            _rows(inputs.q),
            _rows(inputs.k),
            _rows(inputs.v),
            inputs.content_bias,
            None if inputs.vectors is None else inputs.position_bias,
            None if inputs.vectors is None else _rows(inputs.vectors),
            inputs.scores,
            visibility.valid_keys,
            inputs.scale,
            min(span, num_distances),
        )[0]


def triton_refusal(request: AttentionRequest, types: tuple[torch.dtype, ...]) -> str | None:
    """Reason why Triton kernels cannot serve these types on a GPU; None when they can."""
    if request.head_dim > MAX_WIDTH:
        return f"it takes heads up to {MAX_WIDTH} wide, got {request.head_dim}"
    if importlib.util.find_spec("triton") is None:
        return 'Triton is not installed (pip install "db1[triton]")'
    if request.device.type == "cuda":
        capability = torch.cuda.get_device_capability(request.device)
        if capability < _LEAST_CAPABILITY:
            name = torch.cuda.get_device_name(request.device)
            have, need = (".".join(map(str, c)) for c in (capability, _LEAST_CAPABILITY))
            return f"it needs a GPU of compute capability {need}, got {name} with {have}"
    elif request.device.type == "cpu" and _kernels_are_interpreted():
        types = (torch.float32, torch.float16)
    else:
        return f"it needs an NVIDIA GPU, got {request.device.type}"
    if request.dtype in types:
        return None
    return f"it takes {' and '.join(str(t)[6:] for t in types)}, got {str(request.dtype)[6:]}"


@lru_cache(maxsize=1)
def _kernels_are_interpreted() -> bool:
    from triton import knobs

    return bool(knobs.runtime.interpret)


def _rows(x: Tensor) -> Tensor:
    """x with neighbours in its last dimension beside each other."""
    return x if x.stride(-1) == 1 else x.contiguous()


def kernels() -> ModuleType:
    """The Triton kernels, imported at the first call."""
    import db1.model.attention_kernels.fused_kernels as module

    return module


@torch.library.custom_op("db1::fused_attention", mutates_args=())
def _fused_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    u: Tensor | None,
    w: Tensor | None,
    r: Tensor | None,
    b: Tensor | None,
    valid_keys: Tensor | None,
    scale: float,
    span: int,
) -> tuple[Tensor, Tensor]:
    """Returns the output (B, H, T, K) and its log-sum-exp in log 2, float32 (B, H, T)."""
    operands = _Operands(q, k, v, u, w, r, b, valid_keys, scale, span)
    out, sums = _outputs(q)
    tile = tile_of("forward", q)
    kernels().forward_kernel[_num_tiles(q.shape[2], tile), q.shape[0] * q.shape[1]](
        *operands.tensors,
        *(out, sums),
        *(*operands.strides, *out.stride()[:3]),
        *(q.shape[1], q.shape[2], k.shape[2], span, scale),
        **operands.constants(tile),
    )
    return out, sums


@_fused_attention.register_fake
def _(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    u: Tensor | None,
    w: Tensor | None,
    r: Tensor | None,
    b: Tensor | None,
    valid_keys: Tensor | None,
    scale: float,
    span: int,
) -> tuple[Tensor, Tensor]:
    return _outputs(q)


@torch.library.custom_op("db1::fused_attention_backward", mutates_args=())
def _fused_attention_backward(
    grad_out: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    u: Tensor | None,
    w: Tensor | None,
    r: Tensor | None,
    b: Tensor | None,
    valid_keys: Tensor | None,
    scale: float,
    span: int,
    out: Tensor,
    sums: Tensor,
    needs_b: bool,
) -> list[Tensor]:
    """Returns the gradients of q, k, v, u, w, r and b; an empty tensor for what there is not."""
    operands = _Operands(q, k, v, u, w, r, b, valid_keys, scale, span)
    grad_out = _rows(grad_out)
    grad_k, grad_v = (x.new_empty(x.shape) for x in (k, v))
    grad_qu = q.new_empty(q.shape[1], q.shape[0], *q.shape[2:])
    grad_qv = None if r is None else torch.empty_like(grad_qu)
    grad_r = None if r is None else torch.zeros_like(r, dtype=torch.float32)
    grad_b = torch.zeros_like(b, dtype=torch.float32) if needs_b else None
    for part in _parts(operands, by_distance=r is not None or needs_b):
        part.score_gradients(out, sums, grad_out)
        part.query_gradients(grad_qu)
        part.key_gradients(grad_out, grad_k, grad_v)
        part.position_gradients(grad_qv, grad_r, grad_b)
        del part  # its memory serves the next one
    grad_q = grad_qu if grad_qv is None else grad_qu + grad_qv
    return [
        grad_q.transpose(0, 1),
        grad_k,
        grad_v,
        q.new_empty(0) if u is None else _summed(grad_qu, u),
        q.new_empty(0) if w is None else _summed(grad_qv, w),
        q.new_empty(0) if r is None else grad_r.to(r.dtype),
        q.new_empty(0) if grad_b is None else grad_b.to(b.dtype),
    ]


@_fused_attention_backward.register_fake
def _(
    grad_out: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    u: Tensor | None,
    w: Tensor | None,
    r: Tensor | None,
    b: Tensor | None,
    valid_keys: Tensor | None,
    scale: float,
    span: int,
    out: Tensor,
    sums: Tensor,
    needs_b: bool,
) -> list[Tensor]:
    grad_q = q.new_empty(q.shape[1], q.shape[0], *q.shape[2:]).transpose(0, 1)
    others = (k, v, u, w, r, b if needs_b else None)
    return [grad_q, *(q.new_empty(0 if x is None else x.shape) for x in others)]


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.scale, ctx.span = inputs
    ctx.save_for_backward(*tensors, *output)
    ctx.mark_non_differentiable(output[1])


def _backward(ctx: Any, grad_out: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
    *tensors, out, sums = ctx.saved_tensors
    needs_b = tensors[6] is not None and ctx.needs_input_grad[6]
    grads = _fused_attention_backward(grad_out, *tensors, ctx.scale, ctx.span, out, sums, needs_b)
    given = (*tensors[:6], tensors[6] if needs_b else None)
    present = zip(grads, given, strict=True)
    return *(None if x is None else grad for grad, x in present), None, None, None


_fused_attention.register_autograd(_backward, setup_context=_save)


@dataclass(frozen=True)
class _Operands:
    """Operands of all kernels, as in `AttentionInputs`; their arguments follow from it."""

    q: Tensor
    k: Tensor
    v: Tensor
    u: Tensor | None
    w: Tensor | None
    r: Tensor | None
    b: Tensor | None
    valid_keys: Tensor | None
    scale: float
    span: int

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Pointers; zeros for missing biases, and q for what else is missing and never read."""
        q = self.q
        blank = q.new_zeros(q.shape[1], q.shape[3]) if self.u is None or self.w is None else q
        u, w = (blank if x is None else x.contiguous() for x in (self.u, self.w))
        r, b, valid = (q if x is None else x for x in (self.r, self.b, self.valid_keys))
        return q, self.k, self.v, r, b, u, w, valid

    @property
    def strides(self) -> tuple[int, ...]:
        """Of q, k, v (row, head, place), of r (head, distance) and of b (head)."""
        r = (0, 0) if self.r is None else self.r.stride()[:2]
        b = 0 if self.b is None else self.b.stride(0)
        return *self.q.stride()[:3], *self.k.stride()[:3], *self.v.stride()[:3], *r, b

    def constants(self, tile: Tile) -> dict[str, Any]:
        """Compile-time arguments and options of a launch."""
        head_dim = self.q.shape[3]
        return {
            "HEAD_DIM": head_dim,
            "WIDTH": padded_width(head_dim),
            "TILE": tile.size,
            "VECTORS": self.r is not None,
            "SCORES": self.b is not None,
            "RAGGED": self.valid_keys is not None,
            "num_warps": tile.num_warps,
            "num_stages": tile.num_stages,
            "enable_fp_fusion": True,
        }


def _outputs(q: Tensor) -> tuple[Tensor, Tensor]:
    return q.new_empty(q.shape), q.new_empty(q.shape[:3], dtype=torch.float32)


def _num_tiles(count: int, tile: Tile) -> int:
    return -(-count // tile.size)


@dataclass(frozen=True)
class _Part:
    """Some heads and rows whose attention weights and gradients are held at once.

    Args:
        operands: All heads and rows.
        heads: The heads of this part.
        rows: The rows.
        blocks: Attention weights and gradients of the scores (2, heads, rows, tiles, blocks, b, b).
        lines: Gradients of the scores by distance (heads, rows, T, padded span), or None.
    """

    operands: _Operands
    heads: range
    rows: range
    blocks: Tensor
    lines: Tensor | None

    def score_gradients(self, out: Tensor, sums: Tensor, grad_out: Tensor) -> None:
        """Fills the blocks, from output (B, H, T, K), its log-sum-exp and its gradient."""
        given = self.operands
        tile = tile_of("scores", given.q)
        kernels().score_gradient_kernel[self._grid(given.q.shape[2], tile)](
            *given.tensors,
            *(out, sums, grad_out, *self.blocks.unbind()),
            *(*given.strides, *out.stride()[:3], *grad_out.stride()[:3]),
            *(self.rows.start, self.heads.start, *self._sizes, given.scale, self.blocks.shape[4]),
            **given.constants(tile),
        )

    def query_gradients(self, grad_qu: Tensor) -> None:
        """Fills this part of `grad_qu` (H, B, T, K), and the lines."""
        given = self.operands
        tile = tile_of("queries", given.q)
        valid = given.q if given.valid_keys is None else given.valid_keys
        lines = grad_qu if self.lines is None else self.lines
        constants = given.constants(tile)
        del constants["VECTORS"], constants["SCORES"]
        kernels().query_gradient_kernel[self._grid(given.q.shape[2], tile)](
            *(given.k, valid, self.blocks[1], grad_qu, lines, *given.k.stride()[:3]),
            *(self.rows.start, self.heads.start, given.q.shape[0], *self._sizes[1:]),
            *(given.scale, self.blocks.shape[4], lines.shape[-1]),
            **constants,
            STORE=self.lines is not None,
        )

    def key_gradients(self, grad_out: Tensor, grad_k: Tensor, grad_v: Tensor) -> None:
        """Fills this part of `grad_k` and `grad_v`, each (B, H, S, K)."""
        given = self.operands
        tile = tile_of("keys", given.q)
        memory = given.k.shape[2] - given.q.shape[2]
        u, valid = given.tensors[5], given.tensors[7]
        constants = given.constants(tile)
        del constants["VECTORS"], constants["SCORES"]
        kernels().key_gradient_kernel[self._grid(given.k.shape[2] + -memory % tile.size, tile)](
            *(given.q, u, valid, grad_out, *self.blocks.unbind(), grad_k, grad_v),
            *(*given.q.stride()[:3], *grad_out.stride()[:3]),
            *(self.rows.start, self.heads.start, *self._sizes, given.scale),
            *self.blocks.shape[3:5],
            **constants,
        )

    def position_gradients(
        self, grad_qv: Tensor | None, grad_r: Tensor | None, grad_b: Tensor | None
    ) -> None:
        """Fills this part of `grad_qv`; adds to the gradients of r and b.

        Args:
            grad_qv: (H, B, T, K); None without r.
            grad_r: float32 (H, P, K); None without r.
            grad_b: float32 (H, P); None where it is not wanted.
        """
        if self.lines is None:
            return
        given = self.operands
        heads, rows = (
            slice(self.heads.start, self.heads.stop),
            slice(self.rows.start, self.rows.stop),
        )
        used = slice(-(given.span + 1), -1)
        lines = self.lines.flatten(1, 2)[..., : given.span]
        if grad_b is not None:
            grad_b[heads, used] += lines.sum(dim=1, dtype=torch.float32)
        if given.r is None:
            return
        product = torch.bmm(lines, given.r[heads, used]).mul_(given.scale)
        grad_qv[heads, rows] = product.unflatten(1, self.lines.shape[1:3])
        q = given.q[rows, heads].transpose(0, 1)
        qv = q if given.w is None else q + given.w[heads, None, None]
        grad_r[heads, used] += torch.bmm(lines.transpose(1, 2), (qv * given.scale).flatten(1, 2))

    def _grid(self, count: int, tile: Tile) -> tuple[int, int, int]:
        return _num_tiles(count, tile), len(self.rows), len(self.heads)

    @property
    def _sizes(self) -> tuple[int, int, int, int]:
        q = self.operands.q
        return q.shape[1], q.shape[2], self.operands.k.shape[2], self.operands.span


def _parts(operands: _Operands, by_distance: bool) -> Iterator[_Part]:
    """The backward's parts, heads first, with their memory."""
    q, num_keys, span = operands.q, operands.k.shape[2], operands.span
    batch_size, num_heads, num_queries, _ = q.shape
    size = tile_of("scores", q).size
    tiles = -(-num_queries // size)
    blocks = min((span + 2 * size - 2) // size, (num_keys + size - 2) // size + 1)
    line = _padded(span) if by_distance else 0
    row_bytes = (2 * tiles * blocks * size * size + num_queries * line) * q.element_size()
    for heads, rows in _chunks(num_heads, batch_size, row_bytes):
        yield _Part(
            operands,
            heads,
            rows,
            q.new_empty(2, len(heads), len(rows), tiles, blocks, size, size),
            q.new_empty(len(heads), len(rows), num_queries, line) if by_distance else None,
        )


def _chunks(num_heads: int, batch_size: int, row_bytes: int) -> Iterator[tuple[range, range]]:
    """Heads and rows that fit `WORKSPACE` at once, given the bytes of one row of one head."""
    heads_at_once, rows_at_once = WORKSPACE // (batch_size * row_bytes), batch_size
    if heads_at_once == 0:
        heads_at_once, rows_at_once = 1, max(1, WORKSPACE // row_bytes)
    for head in range(0, num_heads, heads_at_once):
        for row in range(0, batch_size, rows_at_once):
            yield (
                range(head, min(head + heads_at_once, num_heads)),
                range(row, min(row + rows_at_once, batch_size)),
            )


def _padded(span: int) -> int:
    """Length of a line of gradients by distance: the next multiple of 64 numbers, aligned."""
    return -(-span // 64) * 64


def _summed(grad_HBTK: Tensor, bias_HK: Tensor) -> Tensor:
    return grad_HBTK.sum(dim=(1, 2), dtype=torch.float32).to(bias_HK.dtype)


ATTENTION_KERNELS.register(FusedAttention.name)(FusedAttention())
