"""A stranger's journey: an installed wheel, an empty folder, an environment of one's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.append(str(Path(__file__).parent / "api"))  # for toy

ENVIRONMENT = """
import gymnasium
import numpy as np
from gymnasium import spaces


class Lamp(gymnasium.Env):
    observation_space = spaces.Dict(shown=spaces.Discrete(8), dial=spaces.Box(0, 7, (1,)))
    action_space = spaces.Discrete(3, start=-1)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.shown, self.dial = self.np_random.integers(8), int(self.np_random.integers(8))
        return self.seen(), {}

    def step(self, action):
        self.dial = int(np.clip(self.dial + action, 0, 7))
        on = self.dial == self.shown
        return self.seen(), float(on), False, False, {"is_success": on}

    def seen(self):
        return {"shown": self.shown, "dial": np.array([self.dial], np.float32)}


gymnasium.register("Lamp-v0", Lamp, max_episode_steps=10)
"""
EXPERT = """
import numpy as np


def act(seen):
    return int(np.sign(seen["shown"] - seen["dial"][0]))
"""
TRAINING = """
name: lamp
init_from: {run}
task: gym/lamp:Lamp-v0
data: {{root: data, evaluation_samples: 8}}
training:
  num_steps: 100
  global_batch_size: 8
  micro_batch_size: 8
  learning_rate: 1.0e-3
  engine: torch
  checkpoint_every: 100
"""
ACT = """
import sys
import db1
from db1.client import Client

assert db1.__file__.startswith(sys.argv[2]), db1.__file__
env = db1.make_env("gym/lamp:Lamp-v0")
with Client(sys.argv[1]).agent(env) as agent:
    observation, _ = env.reset(seed=2_000_000)
    over, steps = False, 0
    while not over:
        observation, _, terminated, truncated, _ = env.step(agent.act(observation))
        over, steps = terminated or truncated, steps + 1
print("steps", steps)
"""


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_from_a_wheel_to_a_served_policy_of_one_s_own(tmp_path: Path) -> None:
    from toy import make_run

    site, home = tmp_path / "site", tmp_path / "empty"
    home.mkdir()
    run = make_run(tmp_path / "given" / "run")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    wheel = ["wheel", "--no-deps", "--no-build-isolation", "-w", tmp_path, ROOT]
    subprocess.run([*pip, *map(str, wheel)], check=True)
    built = next(tmp_path.glob("*.whl"))
    subprocess.run([*pip, "install", "--no-deps", "--target", str(site), str(built)], check=True)
    environment = {**os.environ, "PYTHONPATH": str(site), "PYTHONUNBUFFERED": "1"}

    def db1(*arguments: object) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "db1", *map(str, arguments)],
            cwd=home, env=environment, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    (home / "lamp.py").write_text(ENVIRONMENT)
    (home / "my_expert.py").write_text(EXPERT)
    (home / "lamp.yaml").write_text(TRAINING.format(run=run))
    task, started = "gym/lamp:Lamp-v0", time.monotonic()
    assert "9 of 9 checks passed" in db1("tasks", "check", task)
    db1(
        "collect", task, "--expert", "my_expert.py:act", "--episodes", 20, "--out", "data",
        "--reference-episodes", 10, "--processes", 1,
    )  # fmt: skip
    references = json.loads((home / "data" / task / "references.json").read_text())
    assert references["expert"]["policy"] == "my_expert.py:act"
    assert references["expert"]["mean"] > references["random"]["mean"]
    db1("train", "lamp.yaml")
    db1(
        "eval", "runs/lamp", "--task", task, "--episodes", 10, "--no-prompt", "--no-pairs",
        "--out", "results", "--workers", 0,
    )  # fmt: skip
    entry = json.loads((home / "results/results.json").read_text())["tasks"][task]
    assert len(entry["returns"]) == 10 and entry["normalised"] is not None
    command = [sys.executable, "-m", "db1", "serve", "runs/lamp", "--port", "0"]
    with subprocess.Popen(
        command, cwd=home, env=environment, stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            address = server.stdout.readline().split()[1]
            acted = subprocess.run(
                [sys.executable, "-c", ACT, address, str(site)],
                cwd=home, env=environment, capture_output=True, text=True,
            )  # fmt: skip
        finally:
            server.terminate()
    assert acted.stdout == "steps 10\n", acted.stderr
    print(f"{time.monotonic() - started:.0f} s without building the wheel")
