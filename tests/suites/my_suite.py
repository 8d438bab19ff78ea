"""A suite as somebody else would write it: a lamp that is to be switched on."""

from __future__ import annotations

from db1.experts.base import EXPERTS
from db1.suites import SUITES, Suite, TaskEnv
from db1.tokens.spec import FieldSpec, StepSpec

SPEC = StepSpec(
    observation={"lamp": FieldSpec(kind="discrete", num_values=4)},
    action=FieldSpec(kind="discrete", num_values=4),
)


class LampEnv(TaskEnv):
    """The action must be the number that is shown."""

    def _reset(self, seed):
        self._state = seed
        return self._show(), {"success": False}

    def _step(self, action):
        right = action == self._state % 4
        self._state = self._state * 5 + 1
        return self._show(), float(right), False, False, {"success": bool(right)}

    def _show(self):
        return {"lamp": self._state % 4}


class Lamps(Suite):
    """One task."""

    name, extra, rules = "lamps", "none", "1"

    def task_names(self):
        return ["Match"]

    def horizon(self, task_name):
        return 8

    def expert_name(self, task_name):
        return "lamp_matcher"

    def _make_env(self, task_name):
        return LampEnv(task_id=f"lamps/{task_name}", step_spec=SPEC, max_steps=8)


class Matcher:
    """Answers with what is shown."""

    def reset(self, env, seed):
        pass

    def act(self, env, observation):
        return int(observation["lamp"])


SUITES.register("lamps")(Lamps())
EXPERTS.register("lamp_matcher")(lambda task_name: Matcher())
