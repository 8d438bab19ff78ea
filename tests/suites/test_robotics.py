"""Gymnasium-Robotics: the list is the package's, and steps are its own."""

import numpy as np
import pytest

from db1.suites import SUITES, make_env
from db1.suites.robotics import TASKS

if SUITES["robotics"].missing():
    pytest.skip(SUITES["robotics"].missing(), allow_module_level=True)


def registered():
    import gymnasium
    import gymnasium_robotics

    gymnasium.register_envs(gymnasium_robotics)
    return gymnasium.registry


def test_tasks_and_steps_are_the_packages():
    registry = registered()
    for name, steps in TASKS.items():
        assert registry[name].max_episode_steps == steps, name


@pytest.mark.parametrize("name", ["FetchPush-v4", "AdroitHandDoor-v1", "PointMaze_UMazeDense-v3"])
def test_steps_equal_the_plain_environments(name):
    import gymnasium

    registered()
    plain = gymnasium.make(name, disable_env_checker=True).unwrapped
    env = make_env(f"robotics/{name}")
    raw, _ = plain.reset(seed=4)
    observation, _ = env.reset(seed=4)
    rng = np.random.default_rng(0)
    bounds = plain.action_space
    for _ in range(20):
        action = env.sample_action(rng, observation)
        scaled = bounds.low + (action.astype(np.float64) + 1) / 2 * (bounds.high - bounds.low)
        raw, reward, *_ = plain.step(scaled.astype(np.float32))
        observation, ours, *_ = env.step(action)
        assert ours == pytest.approx(float(reward))
        fields = raw if isinstance(raw, dict) else {"state": raw}
        for key, value in fields.items():
            assert observation[key] == pytest.approx(np.asarray(value, np.float32))
