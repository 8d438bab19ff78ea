"""The controllers of the Fetch arm and of PointMaze."""

import numpy as np
import pytest

from db1.collection.demonstrate import demonstrate
from db1.experts import make_expert
from db1.experts.uniform import UniformExpert
from db1.suites import SUITES, make_env
from db1.suites.seeds import seed_for

if SUITES["robotics"].missing():
    pytest.skip(SUITES["robotics"].missing(), allow_module_level=True)

# task: the mean return that the expert must reach over three episodes
BARS = {
    "FetchReach-v4": -5.0,
    "FetchPush-v4": -30.0,
    "FetchPickAndPlaceDense-v4": -6.0,
    "PointMaze_UMaze-v3": 120.0,
    "PointMaze_OpenDense-v3": 150.0,
}


@pytest.mark.parametrize("task", BARS)
def test_controllers_succeed_and_beat_chance(task):
    env, expert = make_env(f"robotics/{task}"), make_expert(f"robotics/{task}")
    seeds = [seed_for("reference", index) for index in range(3)]
    episodes = [demonstrate(env, expert, seed) for seed in seeds]
    assert all(episode.success for episode in episodes)
    mean = np.mean([episode.total_reward for episode in episodes])
    chance = np.mean([demonstrate(env, UniformExpert(), seed).total_reward for seed in seeds])
    assert mean >= BARS[task] > chance


@pytest.mark.parametrize("task", ["FetchPush-v4", "FetchPickAndPlace-v4", "PointMaze_UMaze-v3"])
def test_noise_is_recovered_from(task):
    env, expert = make_env(f"robotics/{task}"), make_expert(f"robotics/{task}")
    noisy = [demonstrate(env, expert, seed, action_noise=0.1) for seed in range(4)]
    assert sum(bool(episode.success) for episode in noisy) >= 3


@pytest.mark.parametrize("task", ["FetchPickAndPlace-v4", "FetchPush-v4", "PointMaze_UMaze-v3"])
def test_controllers_are_functions_of_the_observation(task):
    env, expert = make_env(f"robotics/{task}"), make_expert(f"robotics/{task}")
    observation, _ = env.reset(seed=0)
    expert.reset(env, 0)
    seen = []
    for _ in range(20):
        seen.append((observation, expert.act(env, observation)))
        observation, *_ = env.step(seen[-1][1])
    env.reset(seed=1)
    expert.reset(env, 1)
    for observation, action in reversed(seen):
        assert np.array_equal(expert.act(env, observation), action)
