"""Blocks of measurements, made from small results whose figures are known."""

from __future__ import annotations

from typing import Any

ABOUT = {
    "command": "db1 bench toy",
    "machine": {
        "date": "2026-01-02", "commit": "abc1234", "processor": "CPU", "cores": 2,
        "memory_gib": 24, "python": "3.11", "torch": "2.13", "load": 0.5, "seconds": 90,
    },
}  # fmt: skip
BY = "Measured by `db1 bench toy` (2026-01-02, load at the start 0.5)."


def _timed(work: str, notes: dict[str, Any], **seconds: float) -> dict[str, Any]:
    timings = {name.replace("_", " "): {"median_seconds": s} for name, s in seconds.items()}
    return {"work": work, "unit": "step", "notes": notes, "timings": timings}


def _lines(figures, block: str, **results: dict[str, Any]) -> list[str]:
    known = {name: ABOUT | found for name, found in results.items()}
    text = figures.made(block, known)
    assert text.endswith(BY + "\n") or block == "machine"
    return text.splitlines()


def test_train(figures) -> None:
    notes = {
        "largest difference, relative": 8.2e-7,
        "peak memory beyond weights, MB, db1": 696.4,
        "peak memory beyond weights, MB, released": 2750.2,
        "operations a layer, uncompiled": 79,
        "MB that a layer reads and writes": 2100.0,
        "host waits a micro-batch": 0,
        "graph breaks": 0,
        "graphs": 2,
        "graphs traced again": 0,
        "operations of a step, 10^9": 160.0,
        "10^9 operations a second, db1": 43.0,
        "10^9 operations a second, one large product": 80.0,
        "least ms at that speed": 2000.0,
    }
    found = {"comparisons": [_timed("training step: all", notes, db1=3.75, released=5.519)]}
    lines = _lines(figures, "train", train=found)
    assert "| all | 3,750 | 5,519 | 1.47 | 696 | 2,750 |" in lines
    assert "| all | 160 | 43.0 | 80.0 | 2,000 |" in lines
    assert "Losses and gradients differ by at most 8.2e-07 of their size." in lines
    counted = next(line for line in lines if line.startswith("Counted on shapes"))
    assert "79 operations a layer" in counted and "2 graphs, 0 traced again" in counted


def test_decode(figures) -> None:
    notes = {"largest difference of the outputs": 3.2e-6}
    times = {"db1": 0.0264, "ring": 0.026, "hidden_states": 0.76}
    whole = _timed("decode: one", notes, **times, whole_text=2.462)
    without = {"comparisons": [_timed("decode: eight", notes, **times)]}
    first = {"comparisons": [whole]}
    results = {f"decode_{n}": ABOUT | without for n in (2, 8, 1024)} | {"decode_1": ABOUT | first}
    text = figures.made("decode", results)
    assert "| one | 26.4 | 26.0 | 760 | 28.8 | 2,462 | 93 |" in text
    assert text.count("| eight | 26.4 | 26.0 | 760 | 28.8 | - | - |") == 3


def test_attention_and_perplexity(figures) -> None:
    notes = {
        "db1's kernel": "blocked",
        "largest difference from the reference, relative": 1e-6,
        "peak memory of db1, MB": 12.0,
        "peak memory of sdpa, MB": 48.0,
        "limit by bytes and operations, ms": 5.0,
    }
    passes = {"comparisons": [_timed("attention, forward: 4 x 8", notes, db1=0.01, sdpa=0.025)]}
    text = figures.made(
        "attention", dict.fromkeys(("attention", "attention_memory"), ABOUT | passes)
    )
    assert "| 4 x 8 | db1: blocked | 10.0 |  | 12.0 | 5.00 |" in text
    assert "|  | sdpa | 25.0 | 2.50 | 48.0 |  |" in text
    notes = {
        "largest difference of the memories' outputs": 0.0,
        "Transformer-XL reports, window against hidden-state memory": 1409,
    }
    scored = _timed("perplexity: 2,800", notes, db1=0.001, recomputed_window=2.0)
    scored["timings"]["hidden-state memory"] = {"median_seconds": 0.002}
    lines = _lines(figures, "perplexity", perplexity={"comparisons": [scored]})
    assert "| 2,800 | 1.00 | 2.00 | 2,000 | 2,000 | 1,000 | 1,409 |" in lines


def test_data(figures) -> None:
    opening = {
        "seconds to open all": 0.015,
        "seconds for the first sample of each": 0.001,
        "megabytes of memory, both": 6.0,
    }
    read = {"db1 runs with": "2 reader processes", "bytes of a batch, db1": 6144.0}
    files = {".npy files": {"median_seconds": 0.002}}
    batches = _timed("batches of 8: x", read, db1=0.001)
    batches["timings"] |= files
    found = [batches, _timed("opening a store", opening, db1=0.015)]
    lines = _lines(figures, "data", data={"comparisons": found})
    assert "| batches of 8: x | db1, 2 reader processes | 1,000 steps |  |" in lines
    assert "|  | .npy files | 500 steps | 2.00 |" in lines
    assert any("a store takes 15.0 ms, the first sample of each 1.00 ms" in line for line in lines)
    assert "Batches of 8: x, bytes: of a batch, db1 6,144." in lines


def test_rows(figures) -> None:
    row = {"threads": 1, "tokens_per_second": {"default": 6573.0, "kept": 8406.0}}
    lines = _lines(figures, "freed_memory", freed_memory={"rows": [row]})
    assert "| 1 | 6,573 | 8,406 | 1.28 |" in lines
    row = {"kind": "jat", "source_mb": 200.0, "steps": 1e6, "steps_per_second": 9.01e5,
           "resident_before_mb": 138.0, "resident_peak_mb": 145.0}  # fmt: skip
    lines = _lines(figures, "importers", importers={"rows": [row]})
    assert "| jat | 200 | 1,000,000 | 901,000 | 138 | 145 |" in lines
    row = {"name": "flips", "seed": 7, "trials": 1000, "refused": 990, "found": 1, "faults": 0,
           "seconds": 322.4}  # fmt: skip
    lines = _lines(figures, "fuzz", fuzz={"rows": [row]})
    assert "| `flips` | 1,000 | 990 | 1 | 0 | 322 | 7 |" in lines
    row = {"kernel": "keys", "gpu": "sm_80", "registers": 168, "stack_bytes": 16,
           "shared_bytes": 26_624}  # fmt: skip
    lines = _lines(figures, "kernels", kernels={"triton": "3.9", "rows": [row]})
    assert "| backward: keys and values | 168, 26 |" in lines
    assert "triton 3.9; up to 16 bytes a thread spill." in lines
    row = {"memory_length": 32, "perplexity": 43.581, "bits_per_byte": 1.4911, "ratio": 0.1222,
           "num_tokens": 15_999}  # fmt: skip
    found = {"target_length": 32, "sliding_window": False, "texts": {"kjv": [row]}}
    lines = _lines(figures, "text_memory", text_memory=found)
    assert "| 32 | 43.58 | 1.491 | 0.122 |" in lines
    assert "15,999 held-out tokens, 32 at once." in lines


def test_sizes(figures) -> None:
    counts = {"total": 90_574_720, "vision": 12_854_976}
    results = {
        f"parameters_{size}": ABOUT | {"name": f"db1_{size}", "parameters": counts}
        for size in ("79m", "364m", "1.2b")
    }
    assert "| db1_79m | 90,574,720 | 77,719,744 | 1.6 % below |" in figures.made(
        "parameters", results
    )
    spent = {"seconds": 13.4, "peak_mb": 2700.0}
    found = {
        "size": "1.2b", "task": "atari/Pong", "checkpoint_mb": 2400.0, "write": spent,
        "convert": spent,
        "act": spent | {"loading": 12.0, "first_action": 8.2, "second_action": 3.4},
    }  # fmt: skip
    lines = _lines(figures, "released", released=found)
    assert "| `db1 convert` | 13.4 | 2,700 |" in lines
    assert "| first and second action in atari/Pong | 8.20, 3.40 | 2,700 |" in lines


def test_sentences(figures) -> None:
    found = {
        "kills": {"start": 1, "step": 2, "save": 0}, "ranks": {"0": 3}, "steps": 48, "starts": 5,
        "seconds": 90.5, "equal_weights": True, "equal_losses": False, "problems": ["x"],
    }  # fmt: skip
    told = _lines(figures, "faults", faults=found)[0]
    assert told.startswith("3 kills (1 at a start, 2 at a step, 0 at a save; 3 of rank 0) in 48")
    assert told.endswith("weights equal to the bit, losses NOT equal, 1 problems.")
    found = {
        "instances": 100, "mean_gap": 7e-5, "largest_gap": 0.0023, "equal": 94,
        "mean_over_bound": 0.0065, "largest_over_bound": 0.023, "searches": ["elkai"],
    }  # fmt: skip
    told = _lines(figures, "tours", tours=found)[0]
    assert "0.007 % longer than the best known one (elkai) on average, 0.23 % at most" in told
    found = {
        "served_acts_per_second": 39.2, "alone_acts_per_second": 19.6, "ratio_acts_per_second": 2.0,
        "served_cpu_ms": 1.4, "alone_cpu_ms": 3.14, "ratio_cpu": 2.243, "ratio_memory": 12.0,
        "served_resident_mb": 500.0, "alone_proportional_mb_sum": 6000.0, "alone_processes": 40,
        "alone_why": "40 of 64 processes: no room", "served_rows_in_a_pass": 32.0,
        "served_median_ms": 1400.0, "served_worst_ms": 3200.0,
        "served_slowest_session_to_fastest": 0.88,
    }  # fmt: skip
    lines = _lines(figures, "serving", serving={"figures": found})
    assert "| processor ms an act | 1.40 | 3.14 | 2.24 |" in lines
    assert "| memory together, MB | 500 | 6,000 | 12.0 |" in lines
    assert any(line.startswith("40 of 64 processes: no room. A pass held 32.0") for line in lines)
    found = {
        "rows": [{"stage": "clone", "seconds": 2.0}, {"stage": "installation", "seconds": 100.0}],
        "film": "db1 play base", "film_kb": 20.0,
    }  # fmt: skip
    assert "(`db1 play base`, 20.0 kB): 102 s" in _lines(figures, "stranger", stranger=found)[0]
    stages = [{"stage": "training", "seconds": 550}, {"stage": "report", "seconds": 3}]
    lines = _lines(figures, "stranger", stranger=found | {"quickstart": stages})
    assert "| training | 550 |" in lines and "| all | 553 |" in lines


def test_the_machine(figures) -> None:
    other = ABOUT | {"machine": ABOUT["machine"] | {"load": 3.0, "commit": "def5678"}}
    text = figures.made("machine", {"tours": ABOUT, "fuzz": other})
    assert text == (
        "2 measurements on 2 cores of CPU, 24 GiB, torch 2.13, Python 3.11: 2026-01-02, load at "
        "the start 0.5 to 3.0, commit abc1234, def5678, 3.00 minutes in all.\n"
    )
