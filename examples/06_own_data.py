"""Data of your own: trajectories that you have, written as a store to learn from.

python examples/06_own_data.py [FOLDER]
"""

import sys
from pathlib import Path

import numpy as np

import db1
from db1.store.episodes import EpisodeWriter, StoreHeader
from db1.tokens.spec import Episode, FieldSpec, StepSpec

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "data/example") / "robot" / "push"
spec = StepSpec(
    observation={
        "joints": FieldSpec(kind="continuous", shape=(6,)),
        "order": FieldSpec(kind="text"),
    },
    action=FieldSpec(kind="continuous", shape=(6,)),
)
rng = np.random.default_rng(0)
with EpisodeWriter(folder, StoreHeader(task="robot/push", spec=spec, expert="me")) as writer:
    for _ in range(10):
        steps = int(rng.integers(20, 40))
        observations = {
            "joints": rng.normal(size=(steps, 6)).astype(np.float32),
            "order": np.array(["push the block"] * steps, dtype=object),
        }
        actions = np.tanh(-observations["joints"])
        rewards = np.ones(steps, np.float32)
        writer.append(Episode(observations=observations, actions=actions, rewards=rewards))

store = db1.open_store(folder)
print(f"{store.header.task}: {store.num_episodes} episodes, {store.num_steps} steps")
print("first action:", store.read(0).actions[0].round(2))
