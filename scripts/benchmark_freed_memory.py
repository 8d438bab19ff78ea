"""A training step with glibc's defaults and with freed blocks kept (`keep_freed_memory`).

    python scripts/benchmark_freed_memory.py --json freed.json

Each turn is a process of its own, since an allocator cannot be set back; the two ways take turns.
With one thread the clock is the processor's.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

import torch

from db1.benchmarks.timing import clock_of
from db1.benchmarks.training_step import StepBenchmark, random_batch
from db1.files import atomic_write_text
from db1.model.transformer_xl import TransformerXL
from db1.runtime import keep_freed_memory

WAYS = ("default", "kept")


def tokens_per_second(way: str, threads: int, steps: int) -> float:
    """Speed of forward and backward in this process."""
    torch.set_num_threads(threads)
    if way == "kept":
        keep_freed_memory()
    config = StepBenchmark(width=128, num_layers=3, num_heads=4, length=256, batch_size=16)
    torch.manual_seed(config.seed)
    model = TransformerXL(config.model, config.vocabulary_size).train()
    batch, clock = random_batch(config), clock_of("cpu")
    for done in range(steps + 2):
        if done == 2:
            started = clock()
        model(batch).loss_sum.backward()
        model.zero_grad(set_to_none=True)
    return steps * config.length * config.batch_size / (clock() - started)


def main() -> None:
    """Measures one and two threads, or with `--way` one turn of one of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="turns of each way")
    parser.add_argument("--steps", type=int, default=4, help="steps of a turn")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=1, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        print(tokens_per_second(options.way, options.threads, options.steps))
        return
    rows = []
    for threads in (1, 2):
        found: dict[str, list[float]] = {way: [] for way in WAYS}
        for _ in range(options.rounds):
            for way in WAYS:
                words = ["--way", way, "--threads", str(threads), "--steps", str(options.steps)]
                turn = [sys.executable, __file__, *words]
                done = subprocess.run(turn, check=True, capture_output=True, text=True)
                found[way].append(float(done.stdout))
        medians = {way: statistics.median(speeds) for way, speeds in found.items()}
        rows.append({"threads": threads, "tokens_per_second": medians})
        print(f"{threads} thread(s), tokens/s: {medians}")
    if options.json:
        atomic_write_text(options.json, json.dumps({"rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
