"""Captions and questions in the report: tables beside their baselines, examples with images."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from toy_report import CAPTIONS, IMAGE, QUESTIONS

from db1.evaluation.results import read_results, write_results
from db1.report import headline, write_report


@pytest.fixture
def folder(write_evaluation: Callable[..., Path]) -> Path:
    place = write_evaluation()
    sections = {"captions": {"toy": CAPTIONS}, "questions": {"asked": QUESTIONS}}
    write_results(place, read_results(place) | sections)
    return place


def test_markdown(folder: Path) -> None:
    text = write_report(folder).read_text()
    assert "| BLEU-4 | 0.125 | 0.500 |" in text and "| CIDEr-D | 1.750 | 0.250 |" in text
    assert "| all | 66.7 % | 33.3 % | 50.0 % | 3 |" in text and "| question: is it | 66.7 %" in text
    assert "Not run here: SPICE." in text and "1 questions did not fit" in text
    for name in ("examples/captions-toy-0.png", "examples/questions-asked-0.png"):
        assert f"]({name})" in text and (folder / name).read_bytes().startswith(b"\x89PNG")
    assert "<red>" not in text and "<b>cat" not in text


def test_page(folder: Path) -> None:
    write_report(folder, html=folder / "page.html")
    page = (folder / "page.html").read_text()
    assert page.count(IMAGE) == 2
    for words in ('id="captions"', 'id="questions"', "is it &lt;red&gt;?", "1.750", "one; two"):
        assert words in page


def test_headline_without_a_task(folder: Path) -> None:
    results: dict[str, Any] = read_results(folder)
    results |= {"tasks": {}, "failures": {}}
    results["summary"] = json.loads(json.dumps(results["summary"])) | {"num_tasks": 0}
    assert headline(results) == "text, captions, questions scored; no task"
