"""Compiles the fused kernels for a GPU that need not be here, and reads what they take of it.

Triton brings the assembler `ptxas`, and `cuobjdump` that reads its output; neither needs a driver.
"""

from __future__ import annotations

import importlib
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from db1.errors import Db1Error, MissingExtra
from db1.model.attention_kernels.fused_tiles import Tile, padded_width, tile_for

_TYPES = {"bfloat16": "bf16", "float16": "fp16"}
_FLOAT32 = frozenset({"lse", "rotations", "sums", "mixed"})
_INT32 = frozenset({"newest", "counts"})
_STRIDE = re.compile(r"[a-z]_[bhtp]|d_row")
_WARP = 32


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One compiled form of a kernel.

    Args:
        kernel: Of `FUNCTIONS`.
        capability: Compute capability of the GPU, such as (9, 0).
        head_dim: K.
        dtype: `bfloat16` or `float16`.
        vectors: With position vectors.
        scores: With position scores.
        ragged: With rows of unequal length.
        rotations: With turned keys (the ring's kernels).
        tile: Another tile than `tile_for` gives.
    """

    kernel: str
    capability: tuple[int, int]
    head_dim: int = 128
    dtype: str = "bfloat16"
    vectors: bool = True
    scores: bool = False
    ragged: bool = False
    rotations: bool = False
    tile: Tile | None = None


@dataclass(frozen=True, kw_only=True)
class Resources:
    """Resources that one variant takes.

    Args:
        registers: Of each thread.
        stack_bytes: Of each thread, in local memory: above 0 where registers spill.
        shared_bytes: Shared memory of each block.
    """

    registers: int
    stack_bytes: int
    shared_bytes: int


def resources_of(variant: Variant) -> Resources:
    """Compiles a variant; takes seconds, or nothing where Triton's cache has it.

    Raises:
        MissingExtra: Without Triton.
        Db1Error: When the compiled code cannot be read.
    """
    try:
        import triton
        from triton.backends.compiler import GPUTarget
        from triton.compiler import ASTSource
    except ImportError as error:
        raise MissingExtra("triton", "triton", "compiling fused attention") from error
    module, function = FUNCTIONS[variant.kernel]
    kernel = getattr(importlib.import_module(f"db1.model.attention_kernels.{module}"), function)
    tile = variant.tile or _tile_of(variant)
    signature, constants, attributes = _arguments(kernel.arg_names, variant, tile)
    major, minor = variant.capability
    compiled = triton.compile(
        ASTSource(kernel, signature, constexprs=constants, attrs=attributes),
        target=GPUTarget("cuda", 10 * major + minor, _WARP),
        options={
            "num_warps": tile.num_warps,
            "num_stages": tile.num_stages,
            "enable_fp_fusion": True,
        },
    )
    program = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    registers, stack_bytes = _usage(program, compiled.asm["cubin"])
    return Resources(
        registers=registers, stack_bytes=stack_bytes, shared_bytes=compiled.metadata.shared
    )


FUNCTIONS = {
    "forward": ("fused_kernels", "forward_kernel"),
    "scores": ("fused_kernels", "score_gradient_kernel"),
    "queries": ("fused_kernels", "query_gradient_kernel"),
    "keys": ("fused_kernels", "key_gradient_kernel"),
    "ring": ("ring_kernels", "part_kernel"),
    "join": ("ring_kernels", "join_kernel"),
}
"""Modules and names of the kernels."""

_RING_TILES = {
    "ring": Tile(size=64, num_warps=4, num_stages=2),
    "join": Tile(size=64, num_warps=4, num_stages=1),
}


def _tile_of(variant: Variant) -> Tile:
    if variant.kernel in _RING_TILES:
        return _RING_TILES[variant.kernel]
    return tile_for(variant.kernel, padded_width(variant.head_dim), variant.capability)


def _arguments(
    names: list[str], variant: Variant, tile: Tile
) -> tuple[dict[str, str], dict[tuple[int], Any], dict[tuple[int], Any]]:
    """Types, compile-time values, and which arguments are multiples of 16, as a launch has them."""
    values = {
        "HEAD_DIM": variant.head_dim,
        "WIDTH": padded_width(variant.head_dim),
        "TILE": tile.size,
        "VECTORS": variant.vectors,
        "SCORES": variant.scores,
        "RAGGED": variant.ragged,
        "STORE": variant.vectors,
        "ROTATIONS": variant.rotations,
        "TILES": 2,
        "PARTS": 16,
    }
    signature, constants, attributes = {}, {}, {}
    for place, name in enumerate(names):
        signature[name] = _type_of(name, variant)
        if name in values:
            constants[(place,)] = values[name]
        elif signature[name].startswith("*") or _STRIDE.fullmatch(name):
            attributes[(place,)] = [["tt.divisibility", 16]]
    return signature, constants, attributes


def _type_of(name: str, variant: Variant) -> str:
    if name.isupper() and len(name) > 1:
        return "constexpr"
    if name == "valid":
        return "*i64"
    if name in _FLOAT32:
        return "*fp32"
    if name in _INT32:
        return "*i32"
    if name == "scale":
        return "fp32"
    return f"*{_TYPES[variant.dtype]}" if name in _POINTERS else "i32"


_POINTERS = frozenset(
    [
        "q",
        "k",
        "v",
        "r",
        "b",
        "u",
        "w",
        "out",
        "grad",
        "weights",
        "gradients",
        "grad_qu",
        "by_distance",
        "grad_k",
        "grad_v",
    ]
)


def _usage(program: Path, cubin: bytes) -> tuple[int, int]:
    """Registers and bytes of stack a thread, as the assembler wrote them down."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [str(program), "--dump-resource-usage", file.name]
        done = subprocess.run(command, capture_output=True, text=True)
    found = re.search(r"REG:(\d+) STACK:(\d+)", done.stdout)
    if found is None:
        raise Db1Error(f"{program}: no register counts in its output: {done.stderr[-200:]}")
    return int(found[1]), int(found[2])
