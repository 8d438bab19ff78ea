from __future__ import annotations

import re
from pathlib import Path

import pytest

from db1.errors import DataError
from db1.evaluation.report import write_report
from db1.evaluation.results import write_results
from db1.evaluation.scores import bootstrap_interval, normalise, summarise

RETURNS = {
    "toy/best": [90.0, 110.0, 95.0, 105.0],
    "toy/half": [50.0, 50.0],
    "other/none": [0.0, 4.0],
}
PNG = b"\x89PNG\r\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tasks, scores = {}, {}
    for task, returns in RETURNS.items():
        scores[task] = normalise(returns, 0.0, 100.0)
        tasks[task] = {
            "episodes": len(returns), "seeds": list(range(len(returns))), "returns": returns,
            "lengths": [1] * len(returns), "random": 0.0, "expert": 100.0, "reference": {},
            "successes": [True, None] if task == "toy/half" else [None] * len(returns),
            "normalised": float(scores[task].mean()), "interval": bootstrap_interval(scores[task]),
        }  # fmt: skip
    text = {
        "perplexity": 31.25, "unigram_perplexity": 125.0, "ratio": 0.25,
        "bits_per_byte": 1.5, "num_tokens": 1_000,
    }  # fmt: skip
    write_results(
        tmp_path,
        {
            "tasks": tasks,
            "summary": summarise(scores),
            "text": text | {"corpora": {"kjv": text}},
            "failures": {"toy/<b>broken</b>": "RuntimeError: no & no"},
            "version_mismatches": {},
            "settings": {"prompt": True, "memory_length": 128, "policy": "model", "seed": None},
            "provenance": {
                "checkpoint": {"run": "runs/toy", "tag": "step-00000100", "sha256": "ab" * 32},
                "config": {},
                "versions": {"db1": "0.1.0", "torch": "2"},
                "command": ["db1", "eval"],
            },
        },
    )
    return tmp_path


def test_markdown_has_the_numbers(folder: Path) -> None:
    text = write_report(folder).read_text()
    assert text.startswith("# 2 of 3 tasks at or above 50 % of expert; 1 more failed\n")
    best = next(line for line in text.splitlines() if line.startswith("| toy/best"))
    assert "| 0 | 100 | 100 | 100.0 % (" in best and best.endswith("| - | 4 |")
    half = next(line for line in text.splitlines() if line.startswith("| toy/half"))
    assert "50.0 % (50.0 % .. 50.0 %) | 100.0 % | 2 |" in half
    for part in (
        "perplexity 31.25, unigram 125.00, ratio 0.250, 1.500 bits per byte",
        "prompt: yes", "memory_length: 128", "step-00000100", "ab" * 32, "command: db1 eval",
        "toy: 2 of 2 at or above 50 %", "RuntimeError: no & no",
    ):  # fmt: skip
        assert part in text
    for name in re.findall(r"!\[.*?\]\((.*?)\)", text):
        assert (folder / name).read_bytes().startswith(PNG)
    assert len(re.findall(r"!\[", text)) == 2


def test_page_stands_alone(folder: Path) -> None:
    page = folder / "web" / "report.html"
    write_report(folder, page)
    html = page.read_text()
    assert "<h1>2 of 3 tasks at or above 50 % of expert; 1 more failed</h1>" in html
    assert html.count("data:image/png;base64,") == 2
    assert not re.findall(r'(?:src|href)="(?!data:)', html) and "http" not in html
    assert 'data-value="1.0"' in html and "100.0 %" in html
    assert "color-scheme: light dark" in html and 'name="viewport"' in html
    assert "<b>broken" not in html and "&lt;b&gt;broken" in html and "no &amp; no" in html


def test_a_report_without_tasks(folder: Path, tmp_path: Path) -> None:
    import json

    path = folder / "results.json"
    results = json.loads(path.read_text())
    path.write_text(json.dumps(results | {"tasks": {}, "summary": summarise({}), "text": None}))
    for png in folder.glob("*.png"):
        png.unlink()
    assert write_report(folder).read_text().startswith("# 0 of 0 tasks")
    assert not list(folder.glob("*.png"))


def test_no_results_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no results"):
        write_report(tmp_path)
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(DataError, match="lacks"):
        write_report(tmp_path)
