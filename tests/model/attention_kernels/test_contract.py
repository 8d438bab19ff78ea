"""Every attention kernel against the float64 reference, gradients too."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from db1.model import visibility
from db1.model.attention_kernels import ATTENTION_KERNELS, blocked
from db1.model.attention_kernels.interface import shift

sys.path.append(str(Path(__file__).parent))  # for contract

import contract

WIDTHS = [
    contract.Case(queries=queries, keys=200, span=180, head_dim=head_dim)
    for queries in (1, 150)
    for head_dim in (32, 64, 96, 128)
]


def served(cases: Sequence[contract.Case]) -> list:
    """Every kernel with every case that it takes on this machine."""
    return [
        pytest.param(name, case, id=f"{name}-{case}")
        for name, kernel in ((name, ATTENTION_KERNELS[name]) for name in sorted(ATTENTION_KERNELS))
        for case in cases
        if kernel.refusal(case.request(torch.float32, "cpu")) is None
    ]


@pytest.mark.parametrize("positions", contract.POSITIONS)
@pytest.mark.parametrize(("name", "case"), served(contract.SIZES))
def test_kernel_equals_reference(
    monkeypatch: pytest.MonkeyPatch, name: str, case: contract.Case, positions: str
) -> None:
    monkeypatch.setattr(visibility, "QUERY_BLOCK", 3)
    monkeypatch.setattr(blocked, "CHUNK_SCORES", 40)
    kernel, case = ATTENTION_KERNELS[name], replace(case, positions=positions)
    contract.check(kernel, case, torch.float64)


@pytest.mark.parametrize(("name", "case"), served(WIDTHS))
def test_head_widths_at_working_size(name: str, case: contract.Case) -> None:
    contract.check(ATTENTION_KERNELS[name], case, torch.float32)


def test_blocked_gradcheck(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visibility, "QUERY_BLOCK", 2)
    monkeypatch.setattr(blocked, "CHUNK_SCORES", 10)
    case = contract.Case(queries=3, keys=4, span=2, positions="both")
    leaves = contract.draw(case, torch.float64)
    rule = case.visibility(torch.float64, "cpu")
    kernel = ATTENTION_KERNELS["blocked"]

    def run(*tensors: torch.Tensor) -> torch.Tensor:
        return kernel(contract.inputs_of(case, dict(zip(leaves, tensors, strict=True))), rule, 0.0)

    assert torch.autograd.gradcheck(run, tuple(leaves.values()))


def test_blocked_operations_are_described_right_to_the_compiler() -> None:
    """Shapes, strides and mutations that torch.compile is told are those that happen."""
    case = contract.Case(queries=5, keys=7, positions="both", head_dim=4)
    qu, k, v = (contract.draw(case, torch.float32)[name] for name in ("q", "k", "v"))
    r, b = (contract.draw(case, torch.float32)[name] for name in ("vectors", "scores"))
    torch.library.opcheck(blocked._blocked_attention, (qu, qu, k, v, r, b, None, 3))
    torch.library.opcheck(blocked._blocked_attention, (qu, None, k, v, None, None, None, -1))


def test_shift_is_the_view_of_the_docstring() -> None:
    by_distance = torch.tensor([[2, 1, 0, -1], [2, 1, 0, -1]])
    by_key = shift(by_distance)
    assert by_key.tolist() == [[1, 0, -1], [2, 1, 0]]
    assert by_key.data_ptr() == by_distance[0, 1:].data_ptr()
