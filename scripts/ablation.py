"""Ablations of the flagship's two choices, each arm trained for the same time on a quiet core.

    python scripts/ablation.py patches          numbers one by one against patches, eleven tasks
    python scripts/ablation.py instructions     words against demonstration prompts against
                                                neither, ten arms' tasks that share their scenes
    python scripts/ablation.py patches --minutes 1 --episodes 2

Collects what is missing, finds how many steps each arm takes in the time, trains, evaluates on
unseen seeds. `scripts/benchmarks.sh 'ablation_*'` keeps the figures for the pages. Run again, it
goes on where it was interrupted. One thread a training.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import db1  # noqa: E402
from db1.errors import Db1Error  # noqa: E402
from db1.inference.load import read_run  # noqa: E402

DATA = "data/ablation"
NUM_CALIBRATION_STEPS = 60
ARM: Mapping[str, Any] = {"episodes": 50, "max_steps": 150, "action_noise": 0.3}
CAREFUL: Mapping[str, Any] = {"episodes": 50, "max_steps": 200, "action_noise": 0.1}
CLASSIC: Mapping[str, Any] = {"episodes": 60, "max_steps": 200, "action_noise": 0.1}

TASKS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "patches": {
        "metaworld/drawer-close-v3": ARM,
        "metaworld/door-close-v3": ARM,
        "metaworld/reach-v3": ARM,
        "babyai/GoToRedBallGrey": {"episodes": 1000, "action_noise": 0.05},
        "tsp/uniform20": {"episodes": 600},
        "classic_control/CartPole-v1": CLASSIC,
        "classic_control/Acrobot-v1": {"episodes": 100, "action_noise": 0.1},
        "classic_control/Pendulum-v1": {"episodes": 100, "action_noise": 0.5},
        "classic_control/MountainCarContinuous-v0": {"episodes": 60, "action_noise": 0.1},
        "dmc/cartpole-balance": {"episodes": 60, "max_steps": 200, "action_noise": 0.3},
        "dmc/point_mass-easy": {"episodes": 60, "max_steps": 250, "action_noise": 0.5},
    },
    # pairs and triples that look alike at their start: what is wanted has to be said or shown
    "instructions": {
        "metaworld/reach-v3": ARM,
        "metaworld/push-v3": CAREFUL,
        "metaworld/drawer-open-v3": ARM,
        "metaworld/drawer-close-v3": ARM,
        "metaworld/window-open-v3": ARM,
        "metaworld/window-close-v3": ARM,
        "metaworld/faucet-open-v3": ARM,
        "metaworld/faucet-close-v3": ARM,
        "metaworld/coffee-push-v3": CAREFUL,
        "metaworld/coffee-pull-v3": CAREFUL,
    },
}
"""By ablation: its tasks and how they are demonstrated."""

SAID = {"instruction": True, "prompt_probability": 0.0}
SHOWN = {"instruction": False, "prompt_probability": 0.5}
NEITHER = {"instruction": False, "prompt_probability": 0.0}
PATCHES = {"number_patch": 152}
ARMS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "patches": {
        "one number a token": {"length": 320, "batch": 8, "model": {}, "sequence": SAID},
        "patches": {"length": 112, "batch": 24, "model": PATCHES, "sequence": SAID},
    },
    "instructions": {
        "instructions": {"length": 112, "batch": 24, "model": PATCHES, "sequence": SAID},
        "prompts": {"length": 112, "batch": 24, "model": PATCHES, "sequence": SHOWN},
        "neither": {"length": 112, "batch": 24, "model": PATCHES, "sequence": NEITHER},
    },
}
"""By ablation: its arms. The first two are compared."""


def experiment(name: str, arm: str, num_steps: int, runs: Path) -> dict[str, Any]:
    """The experiment of an arm: the quickstart's model and rates on the ablation's tasks."""
    content = yaml.safe_load((ROOT / "configs" / "db1_tiny.yaml").read_text(encoding="utf-8"))
    chosen = ARMS[name][arm]
    content["name"] = f"{name}-{arm.replace(' ', '-')}-{num_steps}"
    content["runs"] = str(runs)
    content["sequence"] |= {"length": chosen["length"], **chosen["sequence"]}
    content["data"] = {
        "root": DATA,
        "heldout_share": 0.01,
        "loss_balance": 0.5,
        "tasks": {task: {"weight": 1.0, **how} for task, how in TASKS[name].items()},
    }
    for key in ("number_patch", "number_width", "vision_channels", "num_local_positions"):
        content["model"].pop(key)
    content["model"] |= {"memory_length": chosen["length"], "vision_channels": 4} | chosen["model"]
    content["training"] |= {
        "num_steps": num_steps,
        "global_batch_size": chosen["batch"],
        "micro_batch_size": chosen["batch"],
        "warmup_steps": min(100, num_steps // 2),
        "log_every": min(50, num_steps // 3),
        "eval_every": num_steps,
        "checkpoint_every": num_steps,
        "engine": "torch",
    }
    return content


def collect(name: str, runs: Path) -> None:
    """Collects the demonstrations of an ablation, and makes the tokenizer of its words."""
    content = experiment(name, next(iter(ARMS[name])), NUM_CALIBRATION_STEPS, runs)
    config = runs / f"{name}.yaml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    command = ["collect", "--config", str(config), "--reference-episodes", "1"]
    if status := subprocess.run([sys.executable, "-m", "db1", *command]).returncode:
        sys.exit(status)


def step_seconds(name: str, runs: Path) -> dict[str, float]:
    """Seconds of an optimizer step of each arm: the fastest of two short runs each, in turns.

    What else the machine does meanwhile slows a run down, and never speeds it up.
    """
    fastest = dict.fromkeys(ARMS[name], float("inf"))
    for turn in range(2):
        for arm in fastest:
            content = experiment(name, arm, NUM_CALIBRATION_STEPS, runs / f"calibration-{turn}")
            records = _records(Path(db1.train(content)))
            fastest[arm] = min(fastest[arm], *(record["step_seconds"] for record in records))
    return fastest


def run_arm(
    name: str, arm: str, num_steps: int, *, episodes: int, runs: Path, workers: int
) -> dict[str, Any]:
    """Trains an arm, evaluates it, and says what it saw."""
    content = experiment(name, arm, num_steps, runs)
    trained = Path(db1.train(content))
    results = db1.evaluate(
        trained,
        list(TASKS[name]),
        episodes=episodes,
        prompt=ARMS[name][arm]["sequence"]["prompt_probability"] > 0,
        reference="measured",
        out=trained / "evaluation",
        workers=workers,
    )
    length, batch = content["sequence"]["length"], content["training"]["global_batch_size"]
    a_step = tokens_a_step(trained, list(TASKS[name]))
    seen = statistics.mean(length / tokens for tokens in a_step.values())  # of a sequence
    return {
        "steps": num_steps,
        "tokens": length * batch * num_steps,
        "tokens_a_step": a_step,
        "environment_steps": round(seen * batch * num_steps),
        "mean": results["summary"]["mean_normalised"],
        "at_least_50": results["summary"]["num_at_least_50"],
        "scores": {t: entry["normalised"] for t, entry in results["tasks"].items()},
    }


def tokens_a_step(run: Path, tasks: list[str]) -> dict[str, int]:
    """Tokens of a step of each task in a run's sequences, without text."""
    parts = read_run(run)
    return {task: parts.codec(parts.specs[task]).min_step_tokens for task in tasks}


def _records(run: Path) -> list[dict[str, Any]]:
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    return [record for record in records if "step_seconds" in record]


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=sorted(TASKS))
    parser.add_argument("--minutes", type=float, default=5.0, help="training of each arm")
    parser.add_argument("--episodes", type=int, default=10, help="of each task")
    parser.add_argument("--workers", type=int, default=1, help="processes of environments")
    parser.add_argument("--runs", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--again", action="store_true", help="forget the runs that are there")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.again:
        shutil.rmtree(arguments.runs, ignore_errors=True)
    name = arguments.name
    collect(name, arguments.runs)
    kept = arguments.runs / f"{name}-seconds.json"  # a run that goes on keeps its length
    if not kept.is_file():
        kept.write_text(json.dumps(step_seconds(name, arguments.runs)), encoding="utf-8")
    seconds = json.loads(kept.read_text(encoding="utf-8"))
    arms = {}
    for arm in ARMS[name]:
        num_steps = max(NUM_CALIBRATION_STEPS, round(60 * arguments.minutes / seconds[arm]))
        print(f"{arm}: {num_steps:,} steps of {seconds[arm]:.3f} s", flush=True)
        arms[arm] = {"step_seconds": seconds[arm]} | run_arm(
            name,
            arm,
            num_steps,
            episodes=arguments.episodes,
            runs=arguments.runs,
            workers=arguments.workers,
        )
    if arguments.json is not None:
        content = {"episodes": arguments.episodes, "minutes": arguments.minutes, "arms": arms}
        arguments.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    for arm, found in arms.items():
        print(
            f"{arm:20} {found['steps']:6,} steps, {found['environment_steps']:9,} of environments, "
            f"mean {found['mean']:.3f}, {found['at_least_50']} of {len(found['scores'])}"
        )


if __name__ == "__main__":
    try:
        main()
    except Db1Error as error:
        sys.exit(f"ablation: {error}")
