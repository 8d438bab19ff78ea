"""ViZDoom's scripts; and the list of things that they need changes nothing in the game."""

import numpy as np
import pytest

from db1.collection.demonstrate import demonstrate
from db1.experts import make_expert
from db1.suites import SUITES, make_env
from db1.suites.seeds import seed_for

if SUITES["vizdoom"].missing():
    pytest.skip(SUITES["vizdoom"].missing(), allow_module_level=True)

# task: the mean return that the expert must reach over three episodes
BARS = {"Basic": 60.0, "DefendCenter": 15.0, "HealthGathering": 2000.0}


@pytest.mark.parametrize("task", BARS)
def test_scripts_reach_their_returns(task):
    env, expert = make_env(f"vizdoom/{task}"), make_expert(f"vizdoom/{task}")
    returns = [demonstrate(env, expert, seed_for("reference", i)).total_reward for i in range(3)]
    env.close()
    assert np.mean(returns) >= BARS[task]


def test_the_list_of_things_changes_no_screen():
    frames = []
    for is_listed in (True, False):
        env = make_env("vizdoom/DefendCenter")
        game = env.simulator.game
        assert game.is_objects_info_enabled()
        game.close()
        game.set_objects_info_enabled(is_listed)
        game.init()
        observation, _ = env.reset(seed=0)
        rng = np.random.default_rng(0)
        seen = []
        for _ in range(30):
            observation, reward, *_ = env.step(env.sample_action(rng, observation))
            seen.append((observation["screen"], reward))
        frames.append(seen)
        env.close()
    for (screen, reward), (other, as_before) in zip(*frames, strict=True):
        assert np.array_equal(screen, other) and reward == as_before
