"""Behaviour that must not change by accident: what it is, and how it is frozen anew.

    python tests/golden/behaviour.py freeze      writes behaviour.json from today's code
    python tests/golden/behaviour.py fixture     makes the folder `experiment`, once for each format

`experiment/` holds small stores of four tasks, a corpus and captions, and a run with a checkpoint.
They stay as an older db1 wrote them, so that a test sees whether they can still be read. Freeze
anew only for a change of behaviour that is meant, and say so in CHANGELOG.md.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
FIXTURE = HERE / "experiment"
FROZEN = HERE / "behaviour.json"
NUM_BATCHES = 64
NUM_STEPS = 30
MAX_STEPS = 25
"""Steps of the episodes whose actions are frozen."""

SEED = 2_000_000
"""Of these episodes; an evaluation seed."""

ACTING = (
    "classic_control/CartPole-v1",
    "classic_control/Pendulum-v1",
    "tsp/uniform20",
    "babyai/GoToRedBallGrey",
    "metaworld/drawer-close-v3",
    "minigrid/DoorKey-5x5-v0",
    "dmc/cartpole-balance",
)
"""Tasks in which the fixture's model acts greedily, learned or not."""

YAML = """
name: golden
vocabulary: {text_size: 320, num_continuous_bins: 64, num_discrete: 32}
sequence: {length: 96, prompt_probability: 0.5, history_noise: 0.1}
data:
  root: data
  heldout_share: 0.25
  evaluation_samples: 4
  loss_balance: 0.5
  tasks:
    classic_control/CartPole-v1: {episodes: 4, max_steps: 40, action_noise: 0.1}
    tsp/uniform20: {weight: 0.5, episodes: 4}
    babyai/GoToRedBallGrey: {weight: 0.7, episodes: 4}
    metaworld/drawer-close-v3: {weight: 0.9, episodes: 4, max_steps: 30, action_noise: 0.3}
  text:
    psalm: {weight: 0.5, source: psalm.jsonl}
  pairs:
    colours: {weight: 0.6, image_size: 32, augment: {flip: true}, prompt: ""}
model:
  {num_layers: 1, num_heads: 2, width: 8, memory_length: 96, vision_channels: 4,
   vision_groups: 2, num_image_positions: 2}
training:
  num_steps: 120
  global_batch_size: 4
  micro_batch_size: 2
  learning_rate: 2.0e-2
  warmup_steps: 2
  engine: torch
  num_threads: 1
  log_every: 40
  eval_every: 0
  checkpoint_every: 120
"""
COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "grey": (99, 99, 99)}


def db1(folder: Path, *arguments: object) -> str:
    """Runs the command `db1` in a folder; returns what it printed."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parents[1])}
    command = [sys.executable, "-m", "db1", *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr[-2000:]}")
    return done.stdout


def make_fixture(folder: Path) -> None:
    """Collects the stores and trains the run."""
    folder.mkdir()
    (folder / "experiment.yaml").write_text(YAML.lstrip())
    texts = [f"And the {n} sheep of the field went up to the water." for n in range(900)]
    (folder / "psalm.jsonl").write_text("".join(json.dumps({"text": x}) + "\n" for x in texts))
    _write_pairs(folder / "data/pairs/colours/train")
    db1(folder, "collect", "--config", "experiment.yaml", "--reference-episodes", 3)
    db1(folder, "train", "experiment.yaml")
    shutil.rmtree(folder / "runs/golden/tensorboard")
    (folder / "psalm.jsonl").unlink()


def _write_pairs(folder: Path) -> None:
    from PIL import Image

    from db1.store.pairs import Pair, PairHeader, PairWriter

    with PairWriter(folder, PairHeader(name="colours", split="train", kind="caption")) as writer:
        for number in range(12):
            name = list(COLOURS)[number % len(COLOURS)]
            buffer = io.BytesIO()
            Image.new("RGB", (40 + number, 40), COLOURS[name]).save(buffer, "PNG")
            pair = Pair(image_name=str(number), texts=(f"it is {name}", f"{name}, {number}"))
            writer.append(pair, buffer.getvalue())


def copy_fixture(folder: Path) -> Path:
    """A copy in which verbs may write."""
    return Path(shutil.copytree(FIXTURE, folder))


def batch_hashes(folder: Path) -> list[str]:
    """SHA-256 of every tensor of the first batches, one a batch."""
    from db1.data.build import SourceFactory
    from db1.data.collate import collate
    from db1.tokens.vocabulary import Vocabulary
    from db1.training.experiment import load_experiment

    with _inside(folder):
        config = load_experiment("experiment.yaml")
        size = config.training.global_batch_size
        factory = SourceFactory(
            config.data, config.sequence, Vocabulary(config.vocabulary), config.training.seed
        )
        mixture = factory.mixture(NUM_BATCHES * size)
        batches = [
            collate([mixture[n] for n in range(step * size, (step + 1) * size)])
            for step in range(NUM_BATCHES)
        ]
    return [_hash_of(batch) for batch in batches]


def _hash_of(batch: Any) -> str:
    digest = hashlib.sha256(json.dumps(batch.sources).encode())
    names = ("ids", "local_positions", "labels", "loss_mask", "target_weights")
    tensors = [getattr(batch, name) for name in names]
    for group in batch.images:
        tensors += [group.pixels, group.positions]
    for tensor in tensors:
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


class _inside:
    """The working directory, for the time of a block."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> None:
        self._before = Path.cwd()
        os.chdir(self._folder)

    def __exit__(self, *exception: object) -> None:
        os.chdir(self._before)


def training_losses(folder: Path) -> list[float]:
    """Losses of a training from scratch, by step."""
    options = ("name=again", "training.log_every=1", f"training.num_steps={NUM_STEPS}")
    db1(folder, "train", "experiment.yaml", *options)
    lines = (folder / "runs/again/metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    return [record["loss"] for record in records if "loss" in record]


def greedy_actions(folder: Path) -> dict[str, list[Any]]:
    """Actions of the fixture's model in one episode of each task of `ACTING`."""
    from db1.evaluation.settings import EvaluationConfig
    from db1.evaluation.task import make_agent
    from db1.inference.load import load_agent_parts
    from db1.rollout.local import LocalEnvironments
    from db1.rollout.loop import rollout
    from db1.rollout.policies import ModelPolicy

    class Recording(LocalEnvironments):
        """Keeps the actions of its one environment."""

        def step(self, rows: Any, actions: Any) -> Any:
            taken.append(np.asarray(actions[0]).astype(float).round(6).tolist())
            return super().step(rows, actions)

    actions = {}
    with _inside(folder):
        loaded = load_agent_parts("runs/golden", device="cpu")
        for task in ACTING:
            taken: list[Any] = []
            has_store = (folder / "data" / task).is_dir()
            config = EvaluationConfig(
                episodes=1, num_prompts=2, prompt=has_store, memory_length=96, text=False
            )
            agent = make_agent(task, config, Path("data") / task, loaded, 1)
            places = Recording(task)
            rollout(task, ModelPolicy(agent), [SEED], max_steps=MAX_STEPS, environments=places)
            actions[task] = taken
    return actions


def evaluation_results(folder: Path) -> dict[str, Any]:
    """results.json of one evaluation, but for times, versions and paths."""
    options = ["--episodes", 2, "--max-steps", 20, "--num-prompts", 2, "--no-java", "--workers", 0]
    db1(folder, "eval", "runs/golden", "--out", "evaluation", "--device", "cpu", *options)
    return plain_results(json.loads((folder / "evaluation/results.json").read_text()))


def plain_results(results: dict[str, Any]) -> dict[str, Any]:
    """Results without what differs between two evaluations of one model."""
    left_out = ("seconds", "provenance", "details", "weights", "measured", "checksum")

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items() if key not in left_out}
        return [plain(item) for item in value] if isinstance(value, list) else value

    return plain(results)


def observe() -> dict[str, Any]:
    """All that is frozen, of today's code."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = copy_fixture(Path(temporary) / "experiment")
        return {
            "batches": batch_hashes(folder),
            "losses": training_losses(folder),
            "actions": greedy_actions(folder),
            "results": evaluation_results(folder),
        }


def main() -> int:
    """Makes the fixture or freezes the behaviour."""
    if sys.argv[1:] == ["fixture"]:
        shutil.rmtree(FIXTURE, ignore_errors=True)
        with tempfile.TemporaryDirectory() as temporary:
            make_fixture(Path(temporary) / "experiment")
            shutil.copytree(Path(temporary) / "experiment", FIXTURE)
    elif sys.argv[1:] == ["freeze"]:
        FROZEN.write_text(json.dumps(observe(), indent=1, sort_keys=True) + "\n")
    else:
        print(__doc__)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
