from __future__ import annotations

import numpy as np
import pytest

from db1.errors import ConfigError, DataError
from db1.rollout.episode import StopWatching, Transition
from db1.rollout.loop import rollout, watch
from db1.rollout.policies import make_model_free_policy
from db1.suites import TaskEnv, make_env
from db1.suites.seeds import seed_for

CARTPOLE = "classic_control/CartPole-v1"
ACROBOT = "classic_control/Acrobot-v1"
SEEDS = [seed_for("evaluation", i) for i in range(5)]


def policy_of(task: str, name: str = "random", seed: int = 0):
    return make_model_free_policy(task, name=name, seed=seed)


def test_equals_a_plain_loop() -> None:
    results = rollout(CARTPOLE, policy_of(CARTPOLE, "random", 3), SEEDS)
    for seed, result in zip(SEEDS, results, strict=True):
        env, rng, rewards = make_env(CARTPOLE), np.random.default_rng([3, seed]), []
        observation, over = env.reset(seed=seed)[0], False
        while not over:
            action = env.sample_action(rng, observation)
            observation, reward, terminated, truncated, _ = env.step(action)
            rewards.append(reward)
            over = terminated or truncated
        assert (result.seed, result.length) == (seed, len(rewards))
        assert result.total_reward == pytest.approx(sum(rewards))
        assert result.success is None


@pytest.mark.parametrize(
    ("task", "policy"), [(CARTPOLE, "random"), (ACROBOT, "random"), (CARTPOLE, "expert")]
)
def test_the_number_of_environments_changes_nothing(task: str, policy: str) -> None:
    def run(num_environments: int) -> list:
        who = policy_of(task, policy)
        return rollout(task, who, SEEDS[:3], num_environments=num_environments)

    assert run(1) == run(2) == run(16)


def test_expert_beats_chance_and_success_is_told() -> None:
    expert = rollout(ACROBOT, policy_of(ACROBOT, "expert"), SEEDS[:2])
    chance = rollout(ACROBOT, policy_of(ACROBOT), SEEDS[:2])
    assert min(r.total_reward for r in expert) > max(r.total_reward for r in chance)
    assert all(result.success is True for result in expert)


def test_progress_counts_every_episode() -> None:
    calls: list[tuple[int, int]] = []
    rollout(
        CARTPOLE, policy_of(CARTPOLE), SEEDS, lambda *call: calls.append(call), num_environments=2
    )
    assert calls[-1] == (5, 5)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)


def test_refuses_other_seeds() -> None:
    with pytest.raises(DataError, match="no evaluation seed"):
        rollout(CARTPOLE, policy_of(CARTPOLE), [seed_for("reference", 0)])
    with pytest.raises(ConfigError, match="1 repeated seeds"):
        rollout(CARTPOLE, policy_of(CARTPOLE), [SEEDS[0], SEEDS[0]])
    with pytest.raises(ConfigError, match="num_environments"):
        rollout(CARTPOLE, policy_of(CARTPOLE), SEEDS, num_environments=0)


def test_cuts_episodes_off() -> None:
    whole = rollout(ACROBOT, policy_of(ACROBOT), SEEDS[:2])
    cut = rollout(ACROBOT, policy_of(ACROBOT), SEEDS[:2], max_steps=7, num_environments=1)
    assert [result.length for result in whole] == [500, 500]
    assert [(result.length, result.total_reward) for result in cut] == [(7, -7.0)] * 2


def test_an_observer_sees_every_state_and_changes_nothing() -> None:
    seen: list[Transition] = []
    watched = watch(ACROBOT, policy_of(ACROBOT), SEEDS[:2], lambda env, now: seen.append(now))
    assert watched == rollout(ACROBOT, policy_of(ACROBOT), SEEDS[:2])
    for row, result in enumerate(watched):
        mine = [now for now in seen if now.row == row]
        assert [now.step for now in mine] == list(range(result.length + 1))
        assert [now.is_last for now in mine] == [False] * result.length + [True]
        assert sum(now.reward for now in mine) == mine[-1].total_reward == result.total_reward


def test_an_observer_ends_all_episodes() -> None:
    def stop(env: TaskEnv, now: Transition) -> None:
        if now.step == 3:
            raise StopWatching

    with pytest.raises(StopWatching):
        watch(ACROBOT, policy_of(ACROBOT), SEEDS[:2], stop)
