"""Demonstrations of an expert, and a small model that learns from them.

python examples/03_collect_and_train.py [FOLDER [STEPS]]
"""

import sys
from pathlib import Path

import db1

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "data/example")
steps = int(sys.argv[2]) if len(sys.argv) > 2 else 300
task = "classic_control/CartPole-v1"

for summary in db1.collect(task, folder / "data", episodes=20, max_steps=100):
    print(f"{summary.task}: {summary.episodes} episodes, return {summary.mean_return:.1f}")
run = db1.train(
    {
        "name": "cartpole",
        "runs": str(folder / "runs"),
        "vocabulary": {"text_size": 256},
        "sequence": {"length": 96},
        "data": {"root": str(folder / "data"), "tasks": {task: {}}, "evaluation_samples": 8},
        "model": {"num_layers": 2, "num_heads": 2, "width": 64, "memory_length": 96},
        "training": {
            "num_steps": steps, "global_batch_size": 8, "micro_batch_size": 8,
            "learning_rate": 3e-3, "engine": "torch", "checkpoint_every": steps,
        },
    }
)  # fmt: skip
results = db1.evaluate(db1.load(run), [task], episodes=3)
print("returns:", results["tasks"][task]["returns"])
