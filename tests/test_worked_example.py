"""A stranger adds a suite, a position encoding, a callback and a metric, as the documentation says.

The code blocks of docs/architecture.md go into a copy of db1; the commands below them run there.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import db1
from db1.metrics_log import read_metrics

PAGE = Path(__file__).parents[1] / "docs" / "architecture.md"
ADDED = {
    "db1/suites/dial.py",
    "db1/training/callbacks/lowest_loss.py",
    "db1/metrics/episodes/spread.py",
}
EXTENDED = "db1/model/positions.py"
TASK = "dial/Match"


def _section() -> str:
    return PAGE.read_text().split("## Adding to it\n")[1].split("\n## ")[0]


def _add_parts(site: Path) -> None:
    """Writes each block of Python to the file that the line before it names."""
    blocks = re.findall(r"`(db1/[\w/]+\.py)`:\n\n```python\n(.*?)```", _section(), re.DOTALL)
    assert {name for name, _ in blocks} == {*ADDED, EXTENDED} and len(blocks) == 4
    for name, code in blocks:
        path = site / name
        assert path.exists() == (name == EXTENDED), name
        before = path.read_text().rstrip() + "\n\n\n" if path.exists() else ""
        path.write_text(before + code)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_four_parts_added_to_a_copy_of_db1(tmp_path: Path) -> None:
    site, home = tmp_path / "site", tmp_path / "home"
    home.mkdir()
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(db1.__file__).parent, site / "db1", ignore=ignored)
    _add_parts(site)
    config = re.search(r"```yaml\n(.*?)```", _section(), re.DOTALL)[1]
    (home / "dial.yaml").write_text(config)
    commands = re.findall(r"^    db1 (.*)$", _section(), re.MULTILINE)
    assert [command.split()[0] for command in commands] == ["tasks", "collect", "train", "eval"]
    environment = {**os.environ, "PYTHONPATH": str(site)}
    outputs = []
    for command in commands:
        done = subprocess.run(
            [sys.executable, "-m", "db1", *command.split()],
            cwd=home, env=environment, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        outputs.append(done.stdout)
    run = home / "runs" / "dial"

    assert "9 of 9 checks passed" in outputs[0], "the suite keeps the contract"
    references = json.loads((home / "data" / TASK / "references.json").read_text())
    assert references["expert"]["mean"] == 8.0 > references["random"]["mean"]

    lowest = [record["loss"] for record in read_metrics(run, "lowest_loss")]
    assert len(lowest) > 3 and lowest == sorted(lowest, reverse=True), "the callback recorded"
    trainer = json.loads(next(run.glob("checkpoints/step-*/trainer.json")).read_text())
    assert trainer["lowest_loss"]["loss"] == lowest[-1], "and is in the checkpoint"

    results = json.loads((home / "results" / "results.json").read_text())
    model = results["provenance"]["config"]["model"]
    assert model["position_encoding"] == "log_distance"
    entry = results["tasks"][TASK]
    assert entry["normalised"] > 0.9, "what was learned with the encoding acts in the suite"
    spread = float(np.std(entry["returns"]))
    assert entry["metrics"]["spread"] == pytest.approx(spread), "the metric was computed"
    assert results["summary"]["metrics"]["spread"]["value"] == pytest.approx(spread)
    assert "spread of returns" in outputs[3], "and is shown"
