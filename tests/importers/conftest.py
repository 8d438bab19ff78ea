"""Makes `foreign_episodes` importable and gives each of its formats to a test."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from foreign_episodes import FORMATS, Write


@pytest.fixture(params=sorted(FORMATS))
def foreign(request: pytest.FixtureRequest) -> tuple[str, Write]:
    """A kind of episodes and a function that writes them."""
    return FORMATS[request.param]
