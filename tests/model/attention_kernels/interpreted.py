"""Runs cases of the contract through the fused kernels in Triton's interpreter.

Started as a process of its own, as Triton reads TRITON_INTERPRET when it is first imported:

    TRITON_INTERPRET=1 python interpreted.py float32 0 3 5      (numbers of CASES)
"""

from __future__ import annotations

import sys
from dataclasses import replace

import contract
import torch

from db1.model.attention_kernels import ATTENTION_KERNELS
from db1.model.attention_kernels.fused import triton_refusal

SMALL = contract.Case(queries=20, keys=37, span=30, head_dim=16, heads=1)
CASES = (
    SMALL,
    replace(SMALL, queries=1, keys=6, span=4),
    replace(SMALL, queries=18, keys=18, span=None, head_dim=20, heads=3),
    replace(SMALL, queries=40, keys=75, span=33, heads=2),
    replace(SMALL, queries=17, keys=20, span=None, valid=(0, 5, 20)),
    replace(SMALL, queries=17, keys=35, span=6, valid=(20, 1), positions="both"),
    replace(SMALL, positions="alibi"),
    replace(SMALL, positions="rotary"),
    replace(SMALL, positions="none", span=None),
    replace(SMALL, head_dim=32),
    replace(SMALL, head_dim=64),
    replace(SMALL, head_dim=128),
)
"""T = 1, a memory, a window, ragged rows and blind ones, odd sizes and widths, all encodings."""


ONE = contract.Case(queries=1, keys=70, head_dim=32)
RINGS = (
    ONE,
    replace(ONE, span=9, head_dim=20),
    replace(ONE, keys=131, valid=(0, 1, 131, 70), positions="both"),
    replace(ONE, positions="rotary", span=65),
    replace(ONE, positions="alibi", head_dim=64),
    replace(ONE, positions="none", head_dim=128, keys=3),
)
"""Rings of one token a row."""


def main(arguments: list[str]) -> None:
    """Checks the cases of these numbers in the given type, or with `ring` those of the ring."""
    dtype = getattr(torch, arguments[0])
    if arguments[1:] == ["ring"]:
        assert triton_refusal(RINGS[0].request(dtype, "cpu"), ()) is None
        for case in RINGS:
            contract.check_ring(case, dtype)
        return
    kernel = ATTENTION_KERNELS["fused"]
    for number in arguments[1:]:
        case = CASES[int(number)]
        assert kernel.refusal(case.request(dtype, "cpu")) is None
        try:
            contract.check(kernel, case, dtype)
        except AssertionError as error:
            raise SystemExit(f"{case}: {error}") from error


if __name__ == "__main__":
    main(sys.argv[1:])
