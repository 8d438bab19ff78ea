"""The training part of a report says what metrics.jsonl and `db1 plot` say."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from toy_report import RETURNS, make_results

from db1.report.blocks import Chart
from db1.report.material import gather
from db1.report.sections.training import training
from db1.training.metrics.curves import read_run_records, series

SUITES = ("text", "toy")


def test_losses_by_suite_are_those_of_the_records(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    run, out = tmp_path / "run", tmp_path / "out"
    run.mkdir()
    out.mkdir()
    records = [
        {
            "kind": "train", "step": step, "loss": float(rng.uniform(1, 2)),
            "loss_by_suite": {suite: float(rng.uniform(1, 6)) for suite in SUITES},
        }
        for step in range(10, 510, 10)
    ]  # fmt: skip
    (run / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    (out / "results.json").write_text(json.dumps(make_results(RETURNS)))
    section = training(gather(out, (), run=run, film_bytes=0))
    assert section is not None
    by_suite = section.blocks[1]
    assert isinstance(by_suite, Chart) and [line.name for line in by_suite.lines] == [*SUITES]
    plotted = read_run_records(run)
    for line in by_suite.lines:
        of_records = [(float(r["step"]), r["loss_by_suite"][line.name]) for r in records]
        assert [tuple(point) for point in line.points] == of_records
        assert list(series(plotted.train, "loss_by_suite", line.name)) == of_records
    last = ", ".join(f"{suite} {records[-1]['loss_by_suite'][suite]:.3g}" for suite in SUITES)
    assert by_suite.summary == f"At the end: {last}."
