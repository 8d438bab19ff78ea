"""The adapter to DeepMind Lab, against a stand-in that keeps the documented Python API.

DeepMind Lab itself is in no package registry, so what these tests cannot show is that its levels
load; they show what the adapter asks of it and makes of its answers.
"""

import sys
from types import ModuleType

import numpy as np
import pytest

from db1.errors import DataError
from db1.suites import SUITES, make_env
from db1.suites.dmlab import ACTIONS, TASKS


class Lab:
    """`deepmind_lab.Lab` as its users' guide describes it; counts frames, ends after 40."""

    def __init__(self, level, observations, config=None, renderer="software", **_):
        assert level in TASKS.values()
        self.size = int(config["height"]), int(config["width"])
        self.names = observations
        self.steps = []
        self.frame = None

    def reset(self, episode=-1, seed=None):
        self.frame, self.seed, self.steps = 0, seed, []

    def is_running(self):
        return self.frame is not None and self.frame < 40

    def observations(self):
        if not self.is_running():
            raise RuntimeError("Environment in wrong status for call to observations()")
        screen = np.full((*self.size, 3), 10 + self.frame, np.uint8)
        values = {"RGB_INTERLEAVED": screen, "INSTR": b"Go to the red ball"}
        return {name: values[name] for name in self.names}

    def step(self, action, num_steps=1):
        assert action.dtype == np.intc
        assert action.shape == (7,)
        self.steps.append((tuple(action), num_steps))
        self.frame += num_steps
        return 0.5

    def close(self):
        self.frame = None


@pytest.fixture
def lab(monkeypatch):
    module = ModuleType("deepmind_lab")
    module.Lab = Lab
    module.__spec__ = SUITES.__class__  # find_spec wants one that is not None
    monkeypatch.setitem(sys.modules, "deepmind_lab", module)


def test_levels_are_those_of_db1():
    assert len(TASKS) == 83
    assert TASKS["rooms_watermaze"] == "contributed/dmlab30/rooms_watermaze"
    assert TASKS["nav_maze_static_01"] == "nav_maze_static_01"


def test_without_the_module_the_build_is_described():
    if SUITES["dmlab"].missing() is None:
        pytest.skip("deepmind_lab is installed")
    with pytest.raises(DataError, match="bazel build"):
        make_env("dmlab/rooms_watermaze")


def test_an_episode(lab):
    env = make_env("dmlab/rooms_watermaze")
    observation, _ = env.reset(seed=9)
    assert env.simulator.seed == 9
    assert observation["instruction"] == "Go to the red ball"
    screen = observation["screen"]
    assert screen.shape == (80, 96, 3)
    assert (screen[:4] == 0).all()
    assert (screen[-4:] == 0).all()
    assert (screen[4:-4] == 10).all()
    ended = False
    while not ended:
        observation, reward, ended, truncated, _ = env.step(env.num_steps % 9)
        assert (reward, truncated) == (0.5, False)
    assert env.simulator.steps == [(ACTIONS[i % 9], 4) for i in range(10)]
    assert (observation["screen"][4:-4] == 10 + 36).all()  # the last one that was to be seen
    env.close()
