"""The tutorials, typed from top to bottom with small numbers."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TUTORIALS = ROOT / "docs" / "tutorials"
SMALL = {
    r"--episodes \d+": "--episodes 3",
    r"\bepisodes=\d+": "episodes=2",
    r"training\.num_steps=\d+": "training.num_steps=24",
    r"num_steps: \d+": "num_steps: 12",
    r"--step 10\b": "--step 5",
    r"^db1 collect (.*)$": r"db1 collect \1 --reference-episodes 2",
}
"""What makes a tutorial quick; everything else is typed as it is shown."""

ORDER = (
    "first_agent",
    "fine_tuning",
    "reading_a_training",
    "publishing",
    "environment",
    "data",
    "many_gpus",
)
"""The first one's run is what others start from."""


def _steps(text: str) -> list[tuple[str, str]]:
    """(file name, content) and ("", command) in the order of the page."""
    found = []
    for kind, title, block in re.findall(r'```(\w+)(?: title="(.*?)")?\n(.*?)```', text, re.DOTALL):
        if title:
            found.append((title, block))
        elif kind == "sh":
            found += [("", line) for line in block.splitlines() if line.strip()]
    return found


def _small(text: str) -> str:
    for pattern, replacement in SMALL.items():
        text = re.sub(pattern, replacement, text, flags=re.MULTILINE)
    return text


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where one types: the repository's configs, and a `db1` of this environment."""
    folder = tmp_path_factory.mktemp("tutorials")
    (folder / "configs").symlink_to(ROOT / "configs")
    (folder / "bin").mkdir()
    command = folder / "bin" / "db1"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m db1 "$@"\n')
    command.chmod(0o755)
    return folder


def test_all_are_here() -> None:
    assert {page.stem for page in TUTORIALS.glob("*.md")} == set(ORDER)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ORDER)
def test_a_tutorial_can_be_typed(name: str, folder: Path) -> None:
    python = os.pathsep.join([str(ROOT), str(folder)])
    path = os.pathsep.join(
        [str(folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]
    )
    environment = {**os.environ, "PYTHONPATH": python, "PATH": path, "OMP_NUM_THREADS": "1"}
    for title, text in _steps((TUTORIALS / f"{name}.md").read_text()):
        if title:
            (folder / title).write_text(_small(text))
            continue
        done = subprocess.run(
            ["bash", "-c", _small(text)],
            cwd=folder, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{text}\n{done.stdout[-1000:]}\n{done.stderr[-2000:]}"
