"""The tutorials, typed from top to bottom in a fresh environment with small numbers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fresh_environment import Environments, typed
from shown import ROOT, Extras, File, shown, typed_pages

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


QUICK = ("first_agent", "environment", "data")
"""Tutorials that continuous integration types, too."""


def _small(text: str) -> str:
    for pattern, replacement in SMALL.items():
        text = re.sub(pattern, replacement, text, flags=re.MULTILINE)
    return text


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where one types: the repository's configurations."""
    folder = tmp_path_factory.mktemp("tutorials")
    (folder / "configs").symlink_to(ROOT / "configs")
    return folder


def test_all_are_here() -> None:
    assert {page.stem for page in TUTORIALS.glob("*.md")} == set(ORDER)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.xdist_group("fresh")
@pytest.mark.parametrize("name", typed_pages(ORDER, QUICK))
def test_a_tutorial_can_be_typed(name: str, folder: Path, environments: Environments) -> None:
    extras: frozenset[str] = frozenset()
    for item in shown((TUTORIALS / f"{name}.md").read_text()):
        if isinstance(item, Extras):
            extras |= item.names
        elif isinstance(item, File):
            (folder / item.name).write_text(_small(item.content))
        elif not item.text.startswith("scripts/"):  # trainings of large models
            environment = environments.having(extras)
            failed = typed(_small(item.text), folder, environment, folder)
            assert failed is None, failed
