"""Captions and questions in the report: tables beside their baselines, examples with images."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from db1.evaluation.results import read_results, write_results
from db1.metrics.pair_scores import data_uri
from db1.report import headline, write_report

IMAGE = data_uri(np.full((32, 32, 3), 200, dtype=np.uint8))
CAPTIONS = {
    "split": "test", "num_images": 2, "scores": {"BLEU-4": 0.125, "CIDEr-D": 1.75},
    "baseline": {"caption": "a <b>cat</b>", "scores": {"BLEU-4": 0.5, "CIDEr-D": 0.25}},
    "tokenizer": "plain", "not_run": {"SPICE": "no jars"}, "distinct_captions": 2,
    "results": "captions/toy.json", "seconds": 1.0,
    "examples": [{"id": 7, "image": IMAGE, "caption": "a | dog", "references": ["one", "two"],
                  "CIDEr-D": 0.5}],
}  # fmt: skip
QUESTIONS = {
    "split": "test", "num_questions": 3, "mode": "official", "accuracy": 66.666,
    "by_question_type": {"is it": 66.666}, "by_answer_type": {"yes/no": 66.666},
    "counts": {"question_type": {"is it": 3}, "answer_type": {"yes/no": 3}},
    "baseline": {"accuracy": 33.3, "by_question_type": {"is it": 33.3},
                 "by_answer_type": {"yes/no": 33.3}, "answers": {"is it": "no"}},
    "blind": {"accuracy": 50.0, "by_question_type": {"is it": 50.0},
              "by_answer_type": {"yes/no": 50.0}},
    "closed_answers": 0, "num_cut": 1, "results": "questions/toy.json", "seconds": 1.0,
    "examples": [{"id": 9, "image": IMAGE, "question": "is it <red>?", "answer": "yes",
                  "answers": ["no"], "accuracy": 0.0}],
}  # fmt: skip


@pytest.fixture
def folder(write_evaluation: Callable[..., Path]) -> Path:
    place = write_evaluation()
    sections = {"captions": {"toy": CAPTIONS}, "questions": {"asked": QUESTIONS}}
    write_results(place, read_results(place) | sections)
    return place


def test_markdown(folder: Path) -> None:
    text = write_report(folder).read_text()
    assert "| BLEU-4 | 12.5 | 50.0 |" in text and "| CIDEr-D | 1.750 | 0.250 |" in text
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
