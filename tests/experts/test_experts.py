"""Every expert acts within its task's space and clearly beats chance."""

import numpy as np
import pytest

from db1.collection.demonstrate import demonstrate
from db1.errors import ConfigError, DataError
from db1.experts import EXPERTS, make_expert
from db1.experts.uniform import UniformExpert
from db1.suites import SUITES, make_env, parse_task_id, task_ids
from db1.suites.seeds import seed_for

# task: (episodes, the mean return that the expert must reach, the most that chance may reach)
BARS = {
    "babyai/GoToRedBallGrey": (10, 0.85, 0.6),
    "babyai/PutNextS7N4Carrying": (3, 0.9, 0.3),
    "babyai/BossLevel": (2, 0.7, 0.3),
    "classic_control/Acrobot-v1": (1, -100, -150),
    "classic_control/CartPole-v1": (3, 500, 100),
    "classic_control/MountainCar-v0": (4, -115, -199),
    "classic_control/MountainCarContinuous-v0": (3, 95, 10),
    "classic_control/Pendulum-v1": (10, -200, -800),
    "dmc/cartpole-balance": (1, 990, 500),
    "dmc/cartpole-swingup": (1, 860, 150),
    "dmc/pendulum-swingup": (1, 600, 300),
    "dmc/point_mass-easy": (1, 800, 200),
    "dmc/reacher-easy": (1, 930, 500),
    "atari/Breakout": (3, 31, 5),
    "minigrid/DoorKey-6x6-v0": (3, 0.9, 0.4),
    "miniworld/Hallway": (2, 0.9, 0.5),
    "modular_rl/hopper_3": (1, 1500, 500),
    "mujoco/Reacher-v5": (1, -8, -25),
    "robotics/FetchReach-v4": (3, -5, -30),
    "sokoban/generated": (5, 9, 0),
    "vizdoom/HealthGathering": (1, 2000, 900),
    "metaworld/drawer-close-v3": (1, 3000, 2500),
    "metaworld/reach-v3": (1, 4500, 2000),
    "tsp/uniform20": (10, -4.4, -7.0),
    "tsp/tsp100-0": (1, -9.0, -30.0),
}


@pytest.mark.parametrize("task_id", BARS)
def test_experts_beat_chance_clearly(task_id):
    suite, task_name = parse_task_id(task_id)
    if suite.task_missing(task_name):
        pytest.skip(suite.task_missing(task_name))
    if suite.name == "tsp":
        pytest.importorskip("elkai", reason='pip install "db1[tsp]"')
    episodes, wanted, chance = BARS[task_id]
    env, expert = make_env(task_id), make_expert(task_id)
    seeds = [seed_for("reference", index) for index in range(episodes)]
    played = [demonstrate(env, expert, seed) for seed in seeds]
    for episode in played:
        episode.check(env.step_spec, task_id)
    assert np.mean([episode.total_reward for episode in played]) >= wanted
    random = [demonstrate(env, UniformExpert(), seed).total_reward for seed in seeds]
    assert np.mean(random) <= chance
    if suite.name in ("babyai", "metaworld"):
        assert all(episode.success for episode in played)
    env.close()


def test_each_suite_with_an_expert_has_a_bar():
    with_expert = {
        name
        for name in SUITES
        if any(SUITES[name].expert_name(task) for task in SUITES[name].task_names())
    }
    assert with_expert == {task_id.partition("/")[0] for task_id in BARS}


def test_named_experts_are_registered():
    named = {
        parse_task_id(task_id)[0].expert_name(parse_task_id(task_id)[1]) for task_id in task_ids()
    }
    assert named - {None} == set(EXPERTS)


def test_a_task_without_expert_is_refused():
    with pytest.raises(ConfigError, match="babyai/KeyInBox has no expert; 93 of 96"):
        make_expert("babyai/KeyInBox")


def test_the_bot_goes_on_under_noise():
    if SUITES["babyai"].missing():
        pytest.skip(SUITES["babyai"].missing())
    for level in ("GoToRedBallGrey", "PutNextLocal", "UnlockToUnlock", "GoToSeqS5R2"):
        env, bot = make_env(f"babyai/{level}"), make_expert(f"babyai/{level}")
        episodes = [demonstrate(env, bot, seed, action_noise=0.2) for seed in range(5)]
        assert np.mean([bool(episode.success) for episode in episodes]) >= 0.8, level


def test_the_bot_says_when_it_has_no_plan():
    if SUITES["babyai"].missing():
        pytest.skip(SUITES["babyai"].missing())
    from db1.experts.babyai import BabyAIBotExpert

    env = make_env("babyai/KeyInBox")
    with pytest.raises(DataError, match="babyai/KeyInBox step .*no plan"):
        demonstrate(env, BabyAIBotExpert("KeyInBox"), 0)


STATELESS = [
    "classic_control/Acrobot-v1",
    "classic_control/CartPole-v1",
    "classic_control/MountainCar-v0",
    "classic_control/Pendulum-v1",
    "dmc/cartpole-swingup",
    "dmc/pendulum-swingup",
    "dmc/point_mass-easy",
    "dmc/reacher-easy",
    "metaworld/reach-v3",
]


@pytest.mark.parametrize("task_id", STATELESS)
def test_controllers_are_functions_of_the_observation(task_id):
    """What a learner sees must be enough to know what the expert does."""
    suite, task_name = parse_task_id(task_id)
    if suite.task_missing(task_name):
        pytest.skip(suite.task_missing(task_name))
    env, expert = make_env(task_id), make_expert(task_id)
    observation, _ = env.reset(seed=0)
    expert.reset(env, 0)
    seen = []
    for _ in range(20):
        action = expert.act(env, observation)
        seen.append((observation, action))
        observation, *_ = env.step(action)
    env.reset(seed=1)
    expert.reset(env, 1)
    for observation, action in reversed(seen):
        assert np.array_equal(expert.act(env, observation), action)
    env.close()
