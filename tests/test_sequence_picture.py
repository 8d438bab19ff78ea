"""The picture of a training sequence in README is what `db1 inspect` draws today."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "sequence.svg"


@pytest.mark.suite("babyai")
def test_it_is_up_to_date() -> None:
    pytest.importorskip("minigrid", reason='needs pip install "db1[babyai]"')
    command = [sys.executable, str(ROOT / "scripts/sequence_picture.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_readme_shows_it_and_it_is_small() -> None:
    assert "](docs/sequence.svg)" in (ROOT / "README.md").read_text()
    assert PICTURE.stat().st_size < 50_000
    text = PICTURE.read_text()
    assert ElementTree.fromstring(text).tag.endswith("svg")
    assert "prefers-color-scheme: dark" in text and "http://www.w3.org/2000/svg" in text
