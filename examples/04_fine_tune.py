"""A model learns another task from a few demonstrations.

python examples/04_fine_tune.py [MODEL [TASK [FOLDER [STEPS]]]]
"""

import sys
from pathlib import Path

import db1

place = sys.argv[1] if len(sys.argv) > 1 else "base"
task = sys.argv[2] if len(sys.argv) > 2 else "metaworld/window-close-v3"
folder = Path(sys.argv[3] if len(sys.argv) > 3 else "data/example")
steps = int(sys.argv[4]) if len(sys.argv) > 4 else 100

db1.collect(task, folder / "data", episodes=10, reference_episodes=5)
run = db1.train(
    {
        "init_from": place, "task": task, "episodes": 5, "name": "fine-tuned",
        "runs": str(folder / "runs"), "data": {"root": str(folder / "data")},
        "training": {
            "num_steps": steps, "global_batch_size": 8, "micro_batch_size": 8,
            "learning_rate": 1e-3, "engine": "torch", "checkpoint_every": steps,
        },
    }
)  # fmt: skip
for name, model in (("before", db1.load(place)), ("after", db1.load(run))):
    results = db1.evaluate(model, [task], episodes=5, data=folder / "data", prompt=False)
    print(f"{name}: normalised {results['tasks'][task]['normalised']:.2f}")
