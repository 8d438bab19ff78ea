"""The few-shot experiment of scripts/few_shot.sh, smaller: pre-training pays on ten episodes."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TASK = "metaworld/reach-wall-v3"


def _db1(*arguments: object) -> str:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = ["db1", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_pre_training_pays(tmp_path: Path) -> None:
    pytest.importorskip("metaworld", reason='pip install "db1[metaworld]"')
    data, runs = f"data.root={tmp_path}/data", f"runs={tmp_path}/runs"
    base = ROOT / "configs/few_shot_base.yaml"
    noise = ("--max-steps", 150, "--action-noise", 0.3, "--reference-episodes", 1)
    for task, episodes in {"metaworld/reach-v3": 60, TASK: 13}.items():
        _db1("collect", task, "--episodes", episodes, *noise, "--out", tmp_path / "data")
    text = base.read_text(encoding="utf-8")
    others = [line for line in text.splitlines() if "-v3: {episodes" in line]
    small = tmp_path / "base.yaml"
    small.write_text("\n".join(line for line in text.splitlines() if line not in others))
    _db1("train", small, "name=base", data, runs, "training.num_steps=500")
    bench = ("bench", "few-shot", ROOT / "configs/few_shot.yaml", f"init_from={tmp_path}/runs/base")
    out = tmp_path / "few_shot"
    settings = ("--seeds", 1, "--evaluation-episodes", 10, "--memory", 0, "--require-gain")
    _db1(*bench, data, *settings, "--out", out)
    results = json.loads((out / "results.json").read_text())
    assert all(min(point["evaluation_seeds"]) >= 2_000_000 for point in results["points"])
    (gain,) = results["gains"]
    assert gain["mean"] > 0
