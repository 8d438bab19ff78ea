"""A model is scored on unseen seeds, as `db1 eval` does.

python examples/02_evaluate.py [MODEL [TASK...]]
"""

import sys

import db1

place = sys.argv[1] if len(sys.argv) > 1 else "base"
tasks = sys.argv[2:] or ["babyai/GoToLocal", "tsp/uniform20"]

model = db1.load(place)
results = db1.evaluate(model, tasks, episodes=5)
for task, entry in results["tasks"].items():
    mean = sum(entry["returns"]) / len(entry["returns"])
    score = "no reference" if entry["normalised"] is None else f"{entry['normalised']:.2f}"
    print(f"{task}: return {mean:.3f}, from random (0) to expert (1): {score}")
for task, why in results["failures"].items():
    print(f"{task} failed: {why}")
