"""Task ids, the registry, and what happens where a package is missing."""

import threading
import time
from types import MappingProxyType

import numpy as np
import pytest

from db1.errors import ConfigError, DataError, MissingExtra
from db1.suites import SUITES, make_env, parse_task_id, task_ids
from db1.suites.base import Suite, TaskEnv
from db1.tokens.spec import FieldSpec, StepSpec


class CountingEnv(TaskEnv):
    """Counts up; ends by itself after `length` steps."""

    def __init__(self, length, max_steps, value=1.0):
        spec = StepSpec(
            observation={"count": FieldSpec(kind="continuous", shape=(1,))},
            action=FieldSpec(kind="discrete", num_values=2),
        )
        super().__init__(task_id="toy/count", step_spec=spec, max_steps=max_steps)
        self.length = length
        self.value = value

    def _reset(self, seed):
        return {"count": 0.0}, {}

    def _step(self, action):
        count = self.num_steps + 1
        return {"count": count * self.value}, 1, count == self.length, False, {}


class AbsentSuite(Suite):
    """Needs a package that nobody has."""

    name = "absent"
    extra = "absent"
    packages = MappingProxyType({"a_package_that_is_not_there": "a-package-that-is-not-there"})

    def task_names(self):
        return ["only"]

    def horizon(self, task_name):
        return 1

    def _make_env(self, task_name):
        raise AssertionError("must not be reached without the package")


def test_unknown_ids_name_near_matches():
    with pytest.raises(ConfigError, match="did you mean 'metaworld'"):
        parse_task_id("metawrld/reach-v3")
    with pytest.raises(ConfigError, match="'reach-v3'"):
        parse_task_id("metaworld/reach-v2")
    with pytest.raises(ConfigError, match="suite/task"):
        parse_task_id("reach-v3")
    with pytest.raises(ConfigError, match="unknown suite"):
        task_ids("atri")
    with pytest.raises(ConfigError, match="'CartPole-v1'"):
        make_env("classic_control/CartPole-v2")


def test_missing_package_names_the_pip_command():
    suite = AbsentSuite()
    assert suite.task_names() == ["only"]
    assert 'pip install "db1[absent]"' in suite.missing()
    assert suite.task_missing("only") == suite.missing()
    for call in (suite.make_env, suite.step_spec, suite.environment_version):
        with pytest.raises(MissingExtra, match=r"db1\[absent\]"):
            call("only")


def test_the_limit_truncates_and_the_task_terminates():
    env = CountingEnv(length=5, max_steps=3)
    env.reset(seed=0)
    flags = [env.step(0)[2:4] for _ in range(3)]
    assert flags == [(False, False), (False, False), (False, True)]
    env = CountingEnv(length=3, max_steps=3)
    env.reset(seed=0)
    flags = [env.step(0)[2:4] for _ in range(3)]
    assert flags[-1] == (True, False)
    with pytest.raises(DataError, match="reset"):
        env.step(0)


def test_observations_are_cast_and_must_be_finite():
    env = CountingEnv(length=3, max_steps=3)
    observation, _ = env.reset(seed=0)
    assert observation["count"].dtype == np.float32 and observation["count"].shape == (1,)
    env = CountingEnv(length=3, max_steps=3, value=np.inf)
    env.reset(seed=0)
    with pytest.raises(DataError, match="toy/count step 1: observation 'count'"):
        env.step(0)


@pytest.mark.parametrize("name", list(SUITES))
def test_registered_under_its_own_name(name):
    assert SUITES[name].name == name


def test_threads_build_one_after_the_other():
    """Simulators import each other in circles: two at once see half a module."""
    inside, most, barrier = 0, 0, threading.Barrier(4)

    class SlowSuite(AbsentSuite):
        packages = MappingProxyType({})

        def _make_env(self, task_name):
            nonlocal inside, most
            inside += 1
            most = max(most, inside)
            time.sleep(0.02)
            inside -= 1

    def build():
        barrier.wait()
        SlowSuite().make_env("only")

    threads = [threading.Thread(target=build) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
