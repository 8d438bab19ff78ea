"""A tiny experiment made once through the command line: collected, trained, ready to act."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from db1.cli.main import main

sys.path.insert(0, str(Path(__file__).parents[1] / "importers"))  # for official_layouts
sys.path.insert(0, str(Path(__file__).parent))  # for two_nodes

YAML = """
name: tiny
runs: {root}/runs
vocabulary: {{text_size: 400, num_continuous_bins: 64, num_discrete: 32}}
sequence: {{length: 96}}
data:
  root: {root}/data
  heldout_share: 0.2
  evaluation_samples: 8
  tasks:
    classic_control/CartPole-v1: {{episodes: 6}}
    tsp/uniform20: {{weight: 0.5, episodes: 6}}
  text:
    psalm: {{weight: 0.5, source: {root}/psalm.jsonl}}
model: {{num_layers: 2, num_heads: 2, width: 32, memory_length: 96, vision_channels: 32}}
training:
  num_steps: 12
  global_batch_size: 4
  micro_batch_size: 2
  learning_rate: 3.0e-3
  warmup_steps: 2
  engine: torch
  log_every: 1
  eval_every: 6
  checkpoint_every: 6
"""

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def db1(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Calls the `db1` command in this process: (exit status, stdout, stderr)."""

    def run(*arguments: object, columns: int = 200) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["db1", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", str(columns))
        capfd.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main()
            sys.exit(0)
        out, err = capfd.readouterr()
        return int(stopped.value.code or 0), out, err

    return run


@pytest.fixture(scope="session")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Path of the tiny experiment's YAML file; its data is collected and its run is trained."""
    pytest.importorskip("elkai", reason='needs pip install "db1[tsp]"')
    root = tmp_path_factory.mktemp("cli")
    lines = [f"And the {n} sheep of the field went up to the water." for n in range(400)]
    (root / "psalm.jsonl").write_text("".join(json.dumps({"text": x}) + "\n" for x in lines))
    path = root / "tiny.yaml"
    path.write_text(YAML.format(root=root))
    before = sys.argv
    for verb in (
        ["collect", "--config", str(path), "--reference-episodes", "3", "--processes", "2"],
        ["train", str(path)],
    ):
        sys.argv = ["db1", *verb]
        try:
            main()
        except SystemExit as stopped:
            assert not stopped.code, verb
        finally:
            sys.argv = before
    return path
