"""`db1 bench scaling`: tables, figures in a file, and one error for bad options."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--gpus", "0"), "--gpus: got '0', expected whole numbers from 1"),
        (("--sizes", "4b"), "of the shapes 3b, 10b"),
        (("--sizes", ","), "--sizes: got ','"),
        (("--sizes", "missing.yaml"), "missing.yaml"),
        (("--mfu", "1.5"), "--mfu"),
        (("--mfu", "0"), "mfu: got 0.0, expected above 0"),
        (("--peak-tflops", "0"), "peak_tflops: got 0.0, expected above 0"),
        (("--peak-tflops", "nan"), "--peak-tflops"),
        (("--sequence", "0"), "--sequence"),
        (("--batch", "0"), "--batch"),
        (("--node", "0"), "--node"),
        (("--between-gbs", "-1"), "between_gbs: got -1.0, expected above 0"),
    ],
)
def test_bad_options_are_one_error(db1, arguments: tuple, words: str) -> None:
    status, out, err = db1("bench", "scaling", *arguments)
    assert status == 2 and words in err and not out, err
    assert err.count("rror") == 1


def test_tables_fit_80_columns_and_figures_are_written(db1, tmp_path: Path) -> None:
    file = tmp_path / "scaling.json"
    options = (
        "--sizes",
        "configs/db1_79m.yaml",
        "--gpus",
        "1,8,512,1024",
        "--quick",
        "--json",
        file,
    )
    status, out, err = db1("bench", "scaling", *options, columns=80)
    assert status == 0, err
    assert max(map(len, out.splitlines())) <= 80
    for words in ("90,574,720", "cannot be shared", "batch", "images 64x64, zlib", "link"):
        assert words in " ".join(out.split())
    assert "…" not in out
    figures = json.loads(file.read_text())
    (size,) = figures["sizes"]
    assert size["name"] == "db1_79m" and size["parameters"] == 90_574_720
    assert len(size["rows"]) == 4 * 4
    assert [row["step"] for row in size["rows"] if row["gpus"] == 1_024] == [None] * 4
    assert [way["gpus"] for way in size["best"]] == [2**n for n in range(10)]
    assert size["limits"]["overlapped"]["gpus"] == 512
    names = {row["modality"] for row in figures["needed"]}
    assert names == {each["name"] for each in figures["measured"]} and "text" in names
    assert figures["assumed"]["mfu"] == 0.45
