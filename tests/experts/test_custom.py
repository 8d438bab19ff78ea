"""Experts of one's own: functions, policies of Stable-Baselines3, agents in CleanRL's style."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

import db1
from db1.collection.demonstrate import demonstrate
from db1.errors import ConfigError, DataError
from db1.experts.custom import custom_expert
from db1.suites import make_env

HERE = Path(__file__).parent
FILE = str(HERE / "my_expert.py")
GYM, OWN = "gym/CartPole-v1", "classic_control/CartPole-v1"


@pytest.mark.parametrize("task", [GYM, OWN])
def test_a_function_acts_and_is_measured(task: str, tmp_path: Path) -> None:
    made = db1.collect(
        task, tmp_path, episodes=3, expert=f"{FILE}:balance", reference_episodes=2, max_steps=60
    )[0]
    assert made.mean_return == 60.0 and made.expert_return > 4 * made.random_return
    store = db1.open_store(made.path)
    assert store.header.expert == f"{FILE}:balance"
    references = json.loads((made.path / "references.json").read_text())
    assert references["expert"]["policy"] == f"{FILE}:balance"
    with pytest.raises(DataError, match="expert"):
        db1.collect(task, tmp_path, episodes=4, expert=lambda state: 0)


def test_a_callable_and_a_class_with_a_reset(tmp_path: Path) -> None:
    env = make_env(GYM)
    by_name = custom_expert(f"{FILE}:Balancer", env)
    before = type(by_name._policy).episodes
    episodes = [demonstrate(env, by_name, seed, max_steps=20) for seed in (0, 1)]
    assert type(by_name._policy).episodes == before + 2
    given = custom_expert(by_name._policy, env)
    assert given.name.endswith(":Balancer")
    again = demonstrate(env, given, 1, max_steps=20)
    assert (again.actions == episodes[1].actions).all()


@pytest.mark.parametrize(
    "task, source, message",
    [
        ("gym/Pendulum-v1", "torque", "expected \\[-2.0\\]..\\[2.0\\]; clip it"),
        (GYM, "clumsy", "IndexError.*gym/CartPole-v1 step 0, for an observation ndarray"),
        (GYM, "NOT_A_FUNCTION", "a int, expected a function"),
        (GYM, "balanse", "has no 'balanse'; did you mean 'balance'"),
    ],
)
def test_what_an_expert_does_wrong_is_one_clear_error(task, source, message) -> None:
    env = make_env(task)
    with pytest.raises(ConfigError, match=message):
        demonstrate(env, custom_expert(f"{FILE}:{source}", env), 0)


@pytest.mark.parametrize(
    "source, message",
    [
        ("nothing", "expected module:function"),
        ("no_such_module:act", "no_such_module cannot be imported"),
        ("nowhere.py:act", "no such file"),
        ("nowhere.zip", "no such file"),
        (f"nowhere.pt@{FILE}:Agent", "no file nowhere.pt"),
    ],
)
def test_an_expert_that_is_not_there_is_one_clear_error(source: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        custom_expert(source, make_env(GYM))


def test_without_an_expert_a_registered_environment_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give one of your own .--expert module:function"):
        db1.collect(GYM, tmp_path, episodes=1)


def test_a_policy_of_stable_baselines(tmp_path: Path) -> None:
    sb3 = pytest.importorskip("stable_baselines3", reason='needs pip install "db1[experts]"')
    env = make_env(GYM)
    for kind in (sb3.PPO, sb3.DQN, sb3.A2C):
        model = kind("MlpPolicy", "CartPole-v1", seed=0, device="cpu")
        path = tmp_path / f"{kind.__name__}.zip"
        model.save(path)
        expert = custom_expert(str(path), env)
        observation, _ = env.reset(seed=1)
        expected = int(model.predict(observation["state"], deterministic=True)[0])
        assert expert.act(env, observation) == expected
    with pytest.raises(ConfigError, match="not saved by Stable-Baselines3"):
        (tmp_path / "broken.zip").write_bytes(b"PK")
        custom_expert(str(tmp_path / "broken.zip"), env)


def test_an_agent_in_cleanrl_s_style(tmp_path: Path) -> None:
    sys.path.append(str(HERE))
    from types import SimpleNamespace

    from my_expert import Agent

    env = make_env(GYM)
    spaces = SimpleNamespace(
        single_observation_space=env.simulator.observation_space,
        single_action_space=env.simulator.action_space,
    )
    agent = Agent(spaces)
    weights = tmp_path / "agent.cleanrl_model"
    torch.save(agent.state_dict(), weights)
    expert = custom_expert(f"{weights}@{FILE}:Agent", env)
    observation, _ = env.reset(seed=1)
    scores = agent.actor(torch.from_numpy(observation["state"])[None])
    assert expert.act(env, observation) == int(scores.argmax())
    torch.save({"other": torch.zeros(1)}, weights)
    with pytest.raises(ConfigError, match="the weights do not fit the class"):
        custom_expert(f"{weights}@{FILE}:Agent", env)
