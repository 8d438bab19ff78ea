"""The tables of docs/suites.md and docs/suites/*.md are those of the score registry."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from db1.suites import SUITES

SCRIPT = Path(__file__).parents[2] / "scripts" / "tables_of_suites.py"


@pytest.fixture(scope="module")
def tables():
    spec = importlib.util.spec_from_file_location("tables_of_suites", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_documentation_is_up_to_date(tables) -> None:
    blocks = 0
    for page in tables.PAGES:
        text = page.read_text()
        blocks += len(tables.BLOCK.findall(text))
        assert tables.renewed(text) == text, f"{page}: run python scripts/tables_of_suites.py"
    assert blocks >= 7


def test_every_suite_has_a_page(tables) -> None:
    listed = {name for name in SUITES if not SUITES[name].is_open}
    assert {page.stem for page in tables.PAGES} == {"suites", *listed}


def test_a_stale_block_is_noticed_and_the_rest_stays(tables) -> None:
    text = tables.PAGES[0].read_text()
    block = tables.BLOCK.search(text)
    stale = text.replace(block[0], block["head"] + "| old |\n", 1)
    assert stale != text and tables.renewed(stale) == text


@pytest.mark.parametrize("suite", SUITES)
def test_a_suite_s_table_has_its_measured_experts(tables, suite) -> None:
    rows = tables.returns(suite).splitlines()[2:]
    measured = [
        task
        for task, expert, references, _ in tables.known(suite)
        if expert and "measured" in references and references["measured"].expert is not None
    ]
    named = [row.split(" | ")[0].removeprefix("| ") for row in rows]
    assert named == [task for task in measured if not task.endswith("-pixels")]
