"""Small evaluations to report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from toy_report import RETURNS, make_results

from db1.evaluation.results import write_results


@pytest.fixture
def write_evaluation(tmp_path: Path) -> Callable[..., Path]:
    """Writes results into a new folder: (name, returns) -> folder."""

    def write(name: str = "toy", returns: Mapping[str, Sequence[float]] = RETURNS) -> Path:
        folder = tmp_path / name
        write_results(folder, make_results(returns))
        return folder

    return write


@pytest.fixture
def folder(write_evaluation: Callable[..., Path]) -> Path:
    return write_evaluation()
