"""A program that evaluates a suite of broken environments, run by `test_running.py`.

The suite is registered when this file is imported, so that it exists in this program and in the
worker processes that it spawns, and nowhere else.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from db1.evaluation.evaluate import evaluate
from db1.evaluation.execution import EvaluationData, ExecutionConfig, TaskSelection
from db1.evaluation.settings import EvaluationConfig
from db1.experts.base import EXPERTS
from db1.suites.base import SUITES, Suite, TaskEnv
from db1.suites.seeds import seed_for
from db1.tokens.spec import FieldSpec, StepSpec

SPEC = StepSpec(
    observation={"x": FieldSpec(kind="continuous", shape=(1,))},
    action=FieldSpec(kind="discrete", num_values=2),
)
BAD_SEED = seed_for("evaluation", 2)
TASKS = ("works", "aborts", "hangs", "raises", "stumbles")


class FaultyEnv(TaskEnv):
    """Three steps; on the third evaluation seed it does what its task is called after."""

    def _reset(self, seed):
        self.seed = seed
        return {"x": [0.0]}, {}

    def _step(self, action):
        name = self.task_id.split("/")[1]
        if self.seed == BAD_SEED and name == "aborts":
            os.abort()
        while self.seed == BAD_SEED and name == "hangs":
            pass
        if self.seed == BAD_SEED and name == "raises":
            raise RuntimeError("simulator in flames")
        if name == "stumbles" and not MARK.exists():
            MARK.write_text("once is enough")
            os.abort()
        return {"x": [1.0]}, float(action), False, False, {}


class FaultySuite(Suite):
    name, extra, rules = "faulty", "none", "1"

    def task_names(self):
        return list(TASKS)

    def horizon(self, task_name):
        return 3

    def expert_name(self, task_name):
        return "ones"

    def _make_env(self, task_name):
        return FaultyEnv(task_id=f"faulty/{task_name}", step_spec=SPEC, max_steps=3)


class Ones:
    def reset(self, env, seed):
        pass

    def act(self, env, observation):
        return 1


RUN, OUT, POLICY = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
MARK = OUT.with_name(OUT.name + ".mark")
SUITES.register("faulty")(FaultySuite())
EXPERTS.register("ones")(lambda task_name: Ones())

if __name__ == "__main__":
    results = evaluate(
        RUN,
        EvaluationConfig(episodes=4, policy=POLICY, prompt=False, text=False, reference="none"),
        out=OUT,
        selection=TaskSelection(
            tasks=[f"faulty/{name}" for name in TASKS] + ["classic_control/CartPole-v1"]
        ),
        data=EvaluationData(data=OUT.parent),
        execution=ExecutionConfig(workers=2, timeout=3.0, device="cpu"),
    )
    print(json.dumps({"tasks": list(results["tasks"]), "failures": results["failures"]}))
