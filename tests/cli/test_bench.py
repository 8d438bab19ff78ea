"""`db1 bench`: tables on the terminal, all figures in a file."""

from __future__ import annotations

import json
from pathlib import Path


def test_bench_decode_prints_ratios_and_writes_figures(db1, tmp_path: Path) -> None:
    file = tmp_path / "new/decode.json"
    sizes = ("--width", 32, "--layers", 1, "--heads", 2, "--memory", 24, "--tokens", 2)
    status, out, err = db1("bench", "decode", *sizes, "--rounds", 2, "--json", file)
    assert status == 0, err
    assert all(word in out for word in ("db1", "hidden states", "whole text", " x"))
    content = json.loads(file.read_text())
    timings = content["comparisons"][0]["timings"]
    for name in ("hidden states", "whole text"):
        ratio = timings[name]["median_seconds"] / timings["db1"]["median_seconds"]
        assert timings[name]["ratio_to_db1"] == ratio
    assert len(timings["db1"]["seconds"]) == 2
    assert content["machine"]["torch"]


def test_bench_decode_refuses_impossible_sizes(db1) -> None:
    status, _, err = db1("bench", "decode", "--width", 30, "--heads", 4)
    assert status == 2 and "num_heads" in err
