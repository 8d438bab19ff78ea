"""A program with a suite of broken environments, run by `test_collect_faults.py`.

The suite is registered when this file is imported, so that it exists in this program and in the
worker processes that it spawns, and nowhere else.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from db1.collection import CollectExecution, CollectRequest, collect_many
from db1.experts.base import EXPERTS
from db1.suites.base import SUITES, Suite, TaskEnv
from db1.tokens.spec import FieldSpec, StepSpec

SPEC = StepSpec(
    observation={"x": FieldSpec(kind="continuous", shape=(1,))},
    action=FieldSpec(kind="discrete", num_values=2),
)


class FaultyEnv(TaskEnv):
    """Three steps; on seed 2 it does what its task is called after."""

    def _reset(self, seed):
        self.seed = seed
        return {"x": [0.0]}, {}

    def _step(self, action):
        name = self.task_id.split("/")[1]
        if self.seed == 2 and name == "dies":
            os._exit(9)
        if self.seed == 2 and name == "hangs":
            time.sleep(600)
        if self.seed == 2 and name == "raises":
            raise RuntimeError("simulator in flames")
        return {"x": [1.0]}, float(action), False, False, {}


class FaultySuite(Suite):
    name, extra, rules = "faulty", "none", "1"

    def task_names(self):
        return ["works", "dies", "hangs", "raises"]

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


SUITES.register("faulty")(FaultySuite())
EXPERTS.register("ones")(lambda task_name: Ones())

if __name__ == "__main__":
    tasks = ["faulty/dies", "faulty/hangs", "faulty/raises", "faulty/works"]
    tasks.append("classic_control/CartPole-v1")
    done = collect_many(
        dict.fromkeys(tasks, CollectRequest(episodes=4, reference_episodes=1)),
        Path(sys.argv[1]),
        CollectExecution(processes=2, timeout=6.0),
    )
    result = {"done": [s.task for s in done.summaries], "failures": done.failures}
    print(json.dumps(result))
