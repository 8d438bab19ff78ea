"""Attention over a ring against the float64 reference, in plain operations and interpreted."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from db1.errors import DataError
from db1.model.attention_kernels.ring import PROGRAMS, Ring, ring_attention, split_slots
from db1.model.positions import PositionTerms

sys.path.append(str(Path(__file__).parent))  # for contract and test_fused

import contract
from test_fused import interpreted

CASES = [case for case in contract.SIZES if case.queries == 1] + [
    contract.Case(queries=1, keys=70, span=9, head_dim=32),
    contract.Case(queries=1, keys=9, valid=(0, 1, 9, 5)),
]


@pytest.mark.parametrize("positions", contract.POSITIONS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_ring_equals_reference(case: contract.Case, positions: str) -> None:
    contract.check_ring(replace(case, positions=positions), torch.float64)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_split_kernel_equals_reference(dtype: str) -> None:
    pytest.importorskip("triton", reason='needs pip install "db1[triton]"')
    done = interpreted("interpreted.py", dtype, "ring")
    assert done.returncode == 0, done.stderr[-2_000:]


def test_distances_count_from_the_newest_slot() -> None:
    zeros = torch.zeros(1, 1, 5, 1)
    ring = Ring(keys=zeros, values=zeros, newest=torch.tensor([1]), counts=torch.tensor([4]))
    assert ring.distances().tolist() == [[1, 0, 4, 3, 2]]


def test_positions_that_end_before_the_ring_are_refused() -> None:
    zeros = torch.zeros(1, 1, 5, 4)
    ring = Ring(keys=zeros, values=zeros, newest=torch.tensor([1]), counts=torch.tensor([4]))
    terms = PositionTerms(scores=torch.zeros(1, 5))
    message = r"terms of 4 distances for a ring of 5 tokens; make them with position_terms\(5\)"
    with pytest.raises(DataError, match=message):
        ring_attention(torch.zeros(1, 1, 4), ring, terms, scale=1.0)


@pytest.mark.parametrize(("capacity", "queries"), [(1_024, 16), (1_024, 1_024), (70, 4), (1, 1)])
def test_parts_cover_the_slots_with_programs_enough(capacity: int, queries: int) -> None:
    tiles, parts = split_slots(capacity, queries)
    assert (parts - 1) * tiles * 64 < capacity <= parts * tiles * 64
    assert tiles == 1 or parts * queries >= PROGRAMS
