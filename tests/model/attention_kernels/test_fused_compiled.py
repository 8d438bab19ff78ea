"""The fused kernels, compiled ahead of time for GPUs that are not here: no spills, and room.

The assembler's counts are exact without a GPU; speed is not known from them.
"""

from __future__ import annotations

import itertools

import pytest

from db1.model.attention_kernels.fused_resources import Variant, resources_of
from db1.model.attention_kernels.fused_tiles import KERNELS, tile_for

pytest.importorskip("triton", reason='needs pip install "db1[triton]"')

GPUS = {(8, 0): 166_912, (8, 6): 101_376, (9, 0): 232_448}
"""Shared memory of a block at most: 163, 99 and 227 KiB."""

SHARED = {
    (8, 0): {"forward": 57_344, "scores": 28_672, "queries": 10_240, "keys": 26_624},
    (8, 6): {"forward": 57_344, "scores": 28_672, "queries": 10_240, "keys": 26_624},
    (9, 0): {"forward": 147_456, "scores": 163_840, "queries": 73_728, "keys": 98_304},
}
"""Shared bytes that each kernel takes at the widest head; raise one only with a reason."""

ENCODINGS = [(True, False), (False, True), (False, False)]
"""Vectors and scores: transformer_xl; alibi; rotary and none. No encoding has both."""

USUAL = [Variant(kernel=kernel, capability=gpu) for gpu in GPUS for kernel in KERNELS]

OTHERS = [
    Variant(
        kernel=kernel,
        capability=gpu,
        head_dim=head_dim,
        dtype=dtype,
        vectors=vectors,
        scores=scores,
        ragged=ragged,
    )
    for kernel, gpu, head_dim, dtype in itertools.product(
        KERNELS, GPUS, (32, 64, 96, 128), ("bfloat16", "float16")
    )
    for vectors, scores in ENCODINGS
    for ragged in (False, True)
    if kernel in ("forward", "scores") or not scores
    if vectors or kernel != "keys"
]


SPILLS = {((8, 6), "forward", True): 32, ((8, 0), "keys", False): 16}
"""Bytes a thread by GPU, kernel and whether scores are added: alibi, and bfloat16 heads of 32."""


def test_recorded_bounds_are_within_the_gpus() -> None:
    for gpu, bounds in SHARED.items():
        assert max(bounds.values()) <= GPUS[gpu]


def check(variant: Variant) -> None:
    taken = resources_of(variant)
    bound = SPILLS.get((variant.capability, variant.kernel, variant.scores), 0)
    assert taken.stack_bytes <= bound, f"{taken.registers} registers and a spill"
    assert taken.shared_bytes <= SHARED[variant.capability][variant.kernel]


@pytest.mark.parametrize("variant", USUAL, ids=str)
def test_the_widest_head_neither_spills_nor_outgrows_the_gpu(variant: Variant) -> None:
    check(variant)


RINGS = [Variant(kernel="ring", capability=gpu) for gpu in GPUS] + [
    Variant(kernel="ring", capability=(9, 0), vectors=False, rotations=True),
    Variant(kernel="join", capability=(9, 0)),
]


@pytest.mark.parametrize("variant", RINGS, ids=str)
def test_the_ring_kernels_do_not_spill(variant: Variant) -> None:
    taken = resources_of(variant)
    assert taken.stack_bytes == 0 and taken.shared_bytes <= 65_536


@pytest.mark.slow
@pytest.mark.parametrize(
    "variant",
    [
        pytest.param(variant, marks=pytest.mark.release if n % 7 else ())
        for n, variant in enumerate(v for v in OTHERS if v not in USUAL)
    ],
    ids=str,
)
def test_every_variant_neither_spills_nor_outgrows_the_gpu(variant: Variant) -> None:
    check(variant)


@pytest.mark.parametrize("gpu", GPUS)
@pytest.mark.parametrize("width", [16, 32, 64, 128])
def test_kernels_of_the_backward_share_their_blocks(gpu: tuple[int, int], width: int) -> None:
    sizes = {tile_for(kernel, width, gpu).size for kernel in ("scores", "queries", "keys")}
    assert len(sizes) == 1
