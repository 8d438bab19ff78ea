from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from toy_report import CAPTIONS, QUESTIONS

from db1.errors import DataError
from db1.metrics.summary import summarise
from db1.report import write_report

PNG = b"\x89PNG\r\n"


def test_markdown_has_the_numbers(folder: Path) -> None:
    text = write_report(folder).read_text()
    assert text.startswith("# 2 of 3 tasks at or above 50 % of expert; 1 more failed\n")
    best = next(line for line in text.splitlines() if line.startswith("| toy/best"))
    assert "| 100.0 % | 9" in best and best.endswith("| 100 | 0 | 100 | - | 1 | 4 |")
    half = next(line for line in text.splitlines() if line.startswith("| toy/half"))
    assert "50.0 % | 50.0 % .. 50.0 % |" in half and "| 100.0 % | 1 | 2 |" in half
    for part in (
        "| kjv | 31.25 | 125.00 | 0.250 | 1.500 | 1,000 |", "- command: db1 eval 'a run'",
        "prompt: yes", "memory_length: 128", "step-00000100", "ab" * 32,
        "| toy | 2 | 2 (100.0 %) |", "RuntimeError: no & no", "seeds: 2000000..2000003",
    ):  # fmt: skip
        assert part in text, part
    for name in re.findall(r"!\[.*?\]\((.*?)\)", text):
        assert (folder / name).read_bytes().startswith(PNG)
    assert len(re.findall(r"!\[", text)) == 2


def test_page_stands_alone(folder: Path) -> None:
    page = folder / "web" / "report.html"
    write_report(folder, page)
    html = page.read_text()
    assert "<h1>2 of 3 tasks at or above 50 % of expert; 1 more failed</h1>" in html
    assert not re.findall(r'(?:src|href)="(?!data:|#)', html)
    assert "default-src &#x27;none&#x27;" not in html and "default-src 'none'" in html
    assert 'data-key="1.0"' in html and "100.0 %" in html
    assert "color-scheme: light dark" in html and 'name="viewport"' in html
    assert "<b>broken" not in html and "&lt;b&gt;broken" in html and "no &amp; no" in html


def test_latex_tables(folder: Path) -> None:
    write_report(folder, latex_file=folder / "tables.tex")
    text = (folder / "tables.tex").read_text()
    assert r"toy/best & 100.0 \% & " in text and "[50.0, 50.0]" in text and "episodes &" not in text
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 4
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == 4


def test_learned_tasks_beside_the_others(folder: Path) -> None:
    path = folder / "results.json"
    results = json.loads(path.read_text())
    results["provenance"]["learned"] = ["toy/best", "toy/half"]
    path.write_text(json.dumps(results))
    text = write_report(folder, folder / "page.html").read_text()
    assert "Seen tasks are those that the model learned" in text
    assert "Seen and unseen tasks" in (folder / "page.html").read_text()
    assert re.search(r"\| seen +\| +2 \|", text) and re.search(r"\| unseen +\| +1 \|", text)


def test_a_report_without_tasks(folder: Path) -> None:
    path = folder / "results.json"
    results = json.loads(path.read_text())
    path.write_text(json.dumps(results | {"tasks": {}, "summary": summarise({}), "text": None}))
    page, tables = folder / "page.html", folder / "tables.tex"
    assert write_report(folder, page, tables).read_text().startswith("# 0 of 0 tasks")
    assert not list(folder.glob("*.png"))
    assert "0 of 0 tasks" in page.read_text() and "tab:summary" in tables.read_text()


def test_no_results_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no results"):
        write_report(tmp_path)
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(DataError, match="lacks"):
        write_report(tmp_path)


def test_names_in_results_do_not_lead_out(write_evaluation: Callable[..., Path]) -> None:
    folder = write_evaluation("shared")
    results = json.loads((folder / "results.json").read_text())
    for section, name, entry in (
        ("captions", "../../x", CAPTIONS),
        ("questions", "/x", QUESTIONS),
        ("captions", "..", CAPTIONS),
    ):
        (folder / "results.json").write_text(json.dumps(results | {section: {name: entry}}))
        with pytest.raises(DataError, match="cannot be that of a file or folder"):
            write_report(folder)
    (folder / "results.json").write_text(
        json.dumps(results | {"tasks": {"../../x": results["tasks"]["toy/half"]}})
    )
    with pytest.raises(DataError, match="leads out of its folder"):
        write_report(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["results.json"]


@pytest.mark.parametrize("name", ["../../../secret.webp", "/secret.webp", "link.webp"])
def test_films_elsewhere_are_refused(
    write_evaluation: Callable[..., Path], tmp_path: Path, name: str
) -> None:
    folder = write_evaluation("shared")
    place = folder / "videos/toy/half"
    place.mkdir(parents=True)
    (tmp_path / "secret.webp").write_bytes(b"secret")
    (place / "link.webp").symlink_to(tmp_path / "secret.webp")
    results = json.loads((folder / "results.json").read_text())
    entry = results["tasks"]["toy/half"]
    stamp = {"weights": "ab" * 32, "seeds": entry["seeds"], "returns": entry["returns"]}
    recording = {"task": "toy/half", "stamp": {"results": stamp}, "no_picture": None}
    recording["episodes"] = {"best": {"file": name, "same": True}}
    (place / "recording.json").write_text(json.dumps(recording))
    with pytest.raises(DataError, match="out of its folder|cannot be that of a file"):
        write_report(folder, folder / "page.html")
    assert not (folder / "page.html").exists()
