"""What the README promises of `bash scripts/quickstart.sh`, on the real thing."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.timeout(2700)
def test_the_quickstart_keeps_its_promise() -> None:
    user = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    command = ["bash", "scripts/quickstart.sh"]
    outcome = subprocess.run(command, cwd=ROOT, env=user, capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stderr[-3000:]
    results = json.loads((ROOT / "runs/db1_tiny/evaluation/results.json").read_text())
    tasks, summary = results["tasks"], results["summary"]
    assert len(tasks) >= 30 and len({task.split("/")[0] for task in tasks}) >= 6
    assert all(len(entry["returns"]) == 16 for entry in tasks.values())
    assert all(seed >= 2_000_000 for entry in tasks.values() for seed in entry["seeds"])
    assert summary["num_at_least_50"] >= 28
    retrieval = results["controls"]["retrieval"]
    assert summary["num_at_least_50"] > retrieval["summary"]["num_at_least_50"]
    assert summary["mean_normalised"] >= retrieval["summary"]["mean_normalised"] + 0.15
    better = retrieval["compared"]
    assert better["model"] >= 8 and better["model"] > 2 * better["control"]
    assert results["text"]["ratio"] <= 0.5
    answers, captions = results["questions"]["easy-vqa"], results["captions"]["pictograms"]
    assert answers["split"] == captions["split"] == "test"
    assert answers["num_questions"] == 9673
    assert answers["accuracy"] >= answers["baseline"]["accuracy"] + 15
    always = captions["baseline"]["scores"]["CIDEr-D"]
    assert captions["scores"]["CIDEr-D"] >= 1.5 * always > 0
    headline = f"{summary['num_at_least_50']} of {len(tasks)} tasks at or above 50 % of expert"
    assert headline in outcome.stdout
    assert (ROOT / "runs/db1_tiny/evaluation/report.html").is_file()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_random_weights_stay_below_15_percent(db1_tiny_run: Path, tmp_path: Path) -> None:
    """The score comes from learning, not from restricted decoding."""
    subprocess.run(
        ["db1", "eval", db1_tiny_run, "--random-weights", "--episodes", "5", "--out", tmp_path],
        check=True,
        cwd=ROOT,
    )
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["summary"]["mean_normalised"] < 0.15


@pytest.fixture
def db1_tiny_run() -> Path:
    run = ROOT / "runs/db1_tiny"
    if not (run / "checkpoints/latest").is_file():
        pytest.skip("needs the quickstart's run: bash scripts/quickstart.sh")
    return run
