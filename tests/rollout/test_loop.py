from __future__ import annotations

import numpy as np
import pytest

from db1.errors import ConfigError, DataError
from db1.rollout.loop import rollout
from db1.rollout.policies import ExpertPolicy, RandomPolicy
from db1.suites import make_env
from db1.suites.seeds import seed_for

CARTPOLE = "classic_control/CartPole-v1"
ACROBOT = "classic_control/Acrobot-v1"
SEEDS = [seed_for("evaluation", i) for i in range(5)]


def test_equals_a_plain_loop() -> None:
    results = rollout(CARTPOLE, RandomPolicy(seed=3), SEEDS)
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
        who = ExpertPolicy(task) if policy == "expert" else RandomPolicy()
        return rollout(task, who, SEEDS[:3], num_environments=num_environments)

    assert run(1) == run(2) == run(16)


def test_expert_beats_chance_and_success_is_told() -> None:
    expert = rollout(ACROBOT, ExpertPolicy(ACROBOT), SEEDS[:2])
    chance = rollout(ACROBOT, RandomPolicy(), SEEDS[:2])
    assert min(r.total_reward for r in expert) > max(r.total_reward for r in chance)
    assert all(result.success is True for result in expert)


def test_progress_counts_every_episode() -> None:
    calls: list[tuple[int, int]] = []
    rollout(CARTPOLE, RandomPolicy(), SEEDS, lambda *call: calls.append(call), num_environments=2)
    assert calls[-1] == (5, 5)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)


def test_refuses_other_seeds() -> None:
    with pytest.raises(DataError, match="no evaluation seed"):
        rollout(CARTPOLE, RandomPolicy(), [seed_for("reference", 0)])
    with pytest.raises(ConfigError, match="1 repeated seeds"):
        rollout(CARTPOLE, RandomPolicy(), [SEEDS[0], SEEDS[0]])
    with pytest.raises(ConfigError, match="num_environments"):
        rollout(CARTPOLE, RandomPolicy(), SEEDS, num_environments=0)


def test_cuts_episodes_off() -> None:
    whole = rollout(ACROBOT, RandomPolicy(), SEEDS[:2])
    cut = rollout(ACROBOT, RandomPolicy(), SEEDS[:2], max_steps=7, num_environments=1)
    assert [result.length for result in whole] == [500, 500]
    assert [(result.length, result.total_reward) for result in cut] == [(7, -7.0)] * 2
