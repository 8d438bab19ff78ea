"""A run with random weights for the tests of the server."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "api"))  # for toy

from toy import make_run


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """See `toy.make_run`."""
    return make_run(tmp_path_factory.mktemp("serving") / "toy")
