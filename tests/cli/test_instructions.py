"""Number patches and instructions from collecting to acting, through the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

YAML = """
name: spoken
runs: {root}/runs
vocabulary: {{text_size: 300, num_continuous_bins: 64, num_discrete: 32}}
sequence: {{length: 40, instruction: true, max_instruction: 16, prompt_probability: 0.0}}
data:
  root: {root}/data
  heldout_share: 0.2
  evaluation_samples: 4
  tasks:
    classic_control/CartPole-v1: {{episodes: 4, max_steps: 30}}
    classic_control/Pendulum-v1: {{episodes: 4, max_steps: 30}}
model:
  {{num_layers: 1, num_heads: 2, width: 16, memory_length: 40, number_patch: 4, number_width: 8,
   vision_channels: 4, vision_groups: 2}}
training:
  {{num_steps: 4, global_batch_size: 4, micro_batch_size: 4, learning_rate: 1.0e-3, engine: torch,
   checkpoint_every: 2}}
"""


@pytest.fixture
def spoken(tmp_path: Path) -> Path:
    path = tmp_path / "spoken" / "spoken.yaml"
    path.parent.mkdir()
    path.write_text(YAML.format(root=path.parent))
    return path


def collect(db1, experiment: Path) -> str:
    collecting = ("collect", "--config", experiment, "--reference-episodes", 1, "--processes", 1)
    status, out, err = db1(*collecting)
    assert status == 0, err
    return out


def evaluated(db1, run: Path, out: Path, *options: object) -> dict:
    status, _, err = db1(
        "eval", run, "--out", out, "--episodes", 2, "--max-steps", 5, "--workers", 0, *options
    )
    assert status == 0, err
    return json.loads((out / "results.json").read_text())


def test_collect_train_inspect_act_and_convert(db1, spoken: Path) -> None:
    root = spoken.parent
    assert "from the tasks' words" in collect(db1, spoken)
    assert db1("train", spoken, "--processes", 1)[0] == 0
    run = root / "runs/spoken"
    words = json.loads((run / "instructions.json").read_text())
    expected = {"text": "swing the pendulum up", "field": None}
    assert words["classic_control/Pendulum-v1"] == expected
    status, out, _ = db1("inspect", run, "--step", 0, "--slot", 0)
    assert status == 0 and "instruction" in out and "number patch" in out
    # Trained without prompts, it acts without demonstrations at hand.
    demonstrations = (root / "data").rename(root / "elsewhere")
    try:
        own = evaluated(db1, run, root / "a")
        assert own["settings"]["prompt"] is False and own["settings"]["memory_length"] == 20
        folder = root / "shared"
        assert db1("convert", run, folder)[0] == 0
        assert json.loads((folder / "instructions.json").read_text()) == words
        shared = evaluated(db1, folder, root / "b")
        told = evaluated(db1, run, root / "c", "--instruction", "swing the pole")
        controlled = evaluated(db1, run, root / "d", "--controls", "no-instruction")
    finally:
        demonstrations.rename(root / "data")
    tasks = own["tasks"]
    assert len(tasks) == 2
    for task, entry in tasks.items():
        assert entry["returns"] == shared["tasks"][task]["returns"]
    assert told["settings"]["instruction"] == "swing the pole"
    untold = controlled["controls"]["no-instruction"]
    assert untold["settings"] == {"instruction": ""} and untold["tasks"].keys() == tasks.keys()
    assert not untold["failures"]


def test_patches_and_words_that_do_not_fit_are_one_line(db1, spoken: Path, experiment) -> None:
    root = spoken.parent
    collect(db1, spoken)
    assert db1("train", spoken, "--processes", 1)[0] == 0
    status, _, err = db1("train", spoken, "--processes", 1, "model.number_patch=0")
    assert status == 2 and "number_patch: got 0, expected at least 1" in err
    status, _, err = db1("train", spoken, "--processes", 1, "model.number_patch=5")
    assert status == 2 and err.count("\n") == 1 and "number_patch" in err
    status, _, err = db1("train", spoken, "name=long", "sequence.max_instruction=40")
    assert status == 2 and "expected fewer tokens than length 40" in err
    status, _, err = db1("train", spoken, "name=short", "sequence.max_instruction=2")
    assert status == 2 and "expected at most 2; shorten it" in err
    plain = experiment.parent / "runs/tiny"
    status, _, err = db1("eval", plain, "--instruction", "balance", "--out", root / "d")
    assert status == 2 and "learned without instructions" in err
