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


def test_bench_perplexity_has_a_table_for_each_length(db1, tmp_path: Path) -> None:
    file = tmp_path / "perplexity.json"
    sizes = ("--width", 32, "--layers", 2, "--heads", 2, "--target-length", 16, "--rounds", 1)
    lengths = ("--length", 24, "--length", 800)
    status, out, err = db1("bench", "perplexity", *sizes, *lengths, "--json", file)
    assert status == 0, err
    assert "attention length 24" in out and "Transformer-XL reports" in out
    short, long = json.loads(file.read_text())["comparisons"]
    for comparison in (short, long):
        seconds = {k: v["median_seconds"] for k, v in comparison["timings"].items()}
        faster = seconds["recomputed window"] / seconds["hidden-state memory"]
        notes = comparison["notes"]
        assert notes["hidden-state memory is faster than recomputed window by"] == faster
        assert notes["largest difference of the memories' outputs"] < 1e-4
    assert long["timings"]["recomputed window"]["ratio_to_db1"] > 4  # 800 tokens against one
    status, _, err = db1("bench", "perplexity", "--length", 0)
    assert status == 2 and "lengths[0]: got 0" in err


def test_bench_decode_refuses_impossible_sizes(db1) -> None:
    status, _, err = db1("bench", "decode", "--width", 30, "--heads", 4)
    assert status == 2 and "num_heads" in err


def test_bench_eval_compares_equal_evaluations(db1, experiment: Path, tmp_path: Path) -> None:
    file = tmp_path / "eval.json"
    run, data = experiment.parent / "runs/tiny", experiment.parent / "data"
    sizes = ("--episodes", 2, "--workers", 1, "--data", data, "--json", file, "--threads", 1)
    ways = ("--against", "recomputed", "--against", "hidden states")
    status, out, err = db1("bench", "eval", run, *sizes, *ways, "--out", tmp_path / "results")
    assert status == 0, err
    assert "2 tasks of 2 suites" in out
    comparison = json.loads(file.read_text())["comparisons"][0]
    for name in ("recomputed", "hidden states"):
        assert comparison["notes"][f"{name}: tasks with equal returns"] == 2
        assert comparison["timings"][name]["ratio_to_db1"] > 0
    assert (tmp_path / "results/results.json").is_file()


def test_bench_eval_refuses_an_unequal_comparison(db1, experiment: Path) -> None:
    run = experiment.parent / "runs/tiny"
    options = ("--episodes", 1, "--workers", 0, "--task", "tsp/uniform20")
    status, _, err = db1("bench", "eval", run, *options, "--memory", 50)
    assert status == 2 and "its own memory of 96" in err
    status, _, err = db1("bench", "eval", run, *options, "--against", "magic")
    assert status == 2 and "against: got 'magic'" in err


def test_bench_attention_tells_time_memory_and_limits(db1, tmp_path: Path) -> None:
    file = tmp_path / "attention.json"
    status, out, err = db1("bench", "attention", "--quick", "--rounds", 1, "--json", file)
    assert status == 0, err
    notes = json.loads(file.read_text())["comparisons"][0]["notes"]
    assert notes["db1's kernel"] == "blocked" and notes["limit by bytes and operations, ms"] > 0
    assert all(word in out for word in ("sdpa", "reference", "peak memory of db1, MB"))


def test_bench_attention_without_the_gpu_that_is_asked_for(db1) -> None:
    status, _, err = db1("bench", "attention", "--quick", "--device", "cuda")
    assert status == 2 and "--device cuda: " in err and len(err.splitlines()) == 1


def test_bench_serving_tells_ratios_of_time_and_memory(
    db1, experiment: Path, tmp_path: Path
) -> None:
    file, run = tmp_path / "serving.json", experiment.parent / "runs/tiny"
    sizes = ("--sessions", 2, "--processes", 1, "--steps", 1, "--task", "tsp/uniform20")
    status, out, err = db1("bench", "serving", run, *sizes, "--json", file)
    assert status == 0, err
    content = json.loads(file.read_text())
    assert (
        content["command"].startswith("db1 bench serving tiny --") and content["machine"]["torch"]
    )
    figures = content["figures"]
    assert figures["alone_processes"] == 1 and figures["served_acts"] == figures["alone_acts"] == 2
    assert all(name in out for name in figures) and "1 of 1 processes" in err
