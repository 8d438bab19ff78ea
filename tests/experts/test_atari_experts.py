"""The Atari experts: full games beat the human reference, short ones show that they play."""

from dataclasses import replace

import numpy as np
import pytest

from db1.collection.demonstrate import demonstrate
from db1.experts import make_expert
from db1.experts.atari.scripts import PLAYERS, fold
from db1.experts.atari.search import GUIDES, AtariSearchExpert, SearchConfig
from db1.experts.uniform import UniformExpert
from db1.suites import SUITES, make_env
from db1.suites.atari import GAMES, SCRIPTED_GAMES, SEARCHED_GAMES
from db1.suites.seeds import seed_for

pytestmark = pytest.mark.skipif(
    bool(SUITES["atari"].missing()), reason=SUITES["atari"].missing() or ""
)
HUMAN = {"Breakout": 30.5, "Freeway": 29.6}
"""Mean returns of a human player, as JAT lists them (Gallouedec et al. 2024)."""


def play(game, seeds, *, max_steps=None, expert=None, **options):
    env = make_env(f"atari/{game}")
    expert = expert or make_expert(f"atari/{game}")
    episodes = [demonstrate(env, expert, seed, max_steps=max_steps, **options) for seed in seeds]
    env.close()
    return episodes


SMALL = SearchConfig(horizon=15, num_candidates=6)
SHORT = [
    ("Breakout", None, 300, 5),
    ("Freeway", replace(GUIDES["Freeway"], num_candidates=5), 70, 1),
    ("Boxing", SMALL, 100, 3),
]


@pytest.mark.parametrize(("game", "config", "steps", "wanted"), SHORT)
def test_a_short_game_already_scores(game, config, steps, wanted):
    expert = AtariSearchExpert(game, config) if config else None
    (episode,) = play(game, [seed_for("reference", 0)], max_steps=steps, expert=expert)
    (random,) = play(game, [seed_for("reference", 0)], max_steps=steps, expert=UniformExpert())
    assert episode.total_reward >= wanted > random.total_reward


def test_an_episode_depends_on_the_seed_only():
    small = SearchConfig(horizon=8, num_candidates=4)
    expert = AtariSearchExpert("SpaceInvaders", small)
    first, other, again = play("SpaceInvaders", [5, 6, 5], max_steps=30, expert=expert)
    assert np.array_equal(first.actions, again.actions)
    assert np.array_equal(first.observations["pixels"], again.observations["pixels"])
    assert not np.array_equal(first.actions, other.actions)


def test_looking_ahead_leaves_the_real_console_alone():
    """Replaying the actions without the planner gives the same screens, sticky actions included."""
    small = SearchConfig(horizon=8, num_candidates=4)
    (episode,) = play("Pong", [7], max_steps=40, expert=AtariSearchExpert("Pong", small))
    env = make_env("atari/Pong")
    observation, _ = env.reset(seed=7)
    for action, pixels in zip(episode.actions, episode.observations["pixels"], strict=True):
        assert np.array_equal(observation["pixels"], pixels)
        observation, *_ = env.step(int(action))
    env.close()


def test_the_planner_plans_anew_after_noise():
    env = make_env("atari/Pong")
    expert = AtariSearchExpert("Pong", SearchConfig(horizon=8, num_candidates=4, commit=8))
    observation, _ = env.reset(seed=3)
    expert.reset(env, 3)
    wanted = expert.act(env, observation)
    kept = expert._plan.copy()
    observation, *_ = env.step((wanted + 1) % env.action_space.n)
    expert.act(env, observation)
    assert expert._num_executed == 1
    assert len(expert._plan) == len(kept)
    env.close()


class OnePointThenAnother:
    """A console that gives a point, then takes it away twice."""

    def __init__(self):
        self.rewards = []

    def restoreState(self, state):
        self.rewards = [0.0, 1.0, -1.0, -1.0]

    def act(self, action):
        return self.rewards.pop(0)

    def lives(self):
        return 0

    def game_over(self):
        return False


@pytest.mark.parametrize(("until_reward", "value"), [(False, 0.5 - 0.25 - 0.125), (True, 0.5)])
def test_a_plan_may_end_with_its_first_reward(until_reward, value):
    config = SearchConfig(discount=0.5, until_reward=until_reward)
    expert = AtariSearchExpert("Pong", config)
    expert._console, expert._actions = OnePointThenAnother(), [0]
    assert expert._value(np.zeros(4, dtype=np.int64), None) == value


@pytest.mark.parametrize(("place", "folded"), [(4, 4), (12, 8), (-3, 3), (24, 4), (10, 10)])
def test_fold_bounces_between_the_walls(place, folded):
    assert fold(place, 0, 10) == folded


def test_the_lists_name_games_once():
    assert set(GAMES) >= SCRIPTED_GAMES | SEARCHED_GAMES
    assert not SCRIPTED_GAMES & SEARCHED_GAMES
    assert set(PLAYERS) == SCRIPTED_GAMES
    assert set(GUIDES) <= SEARCHED_GAMES


@pytest.mark.slow
@pytest.mark.release
@pytest.mark.parametrize("game", HUMAN)
def test_full_games_beat_the_human_reference(game):
    seeds = [seed_for("reference", index) for index in range(3 if game == "Breakout" else 1)]
    episodes = play(game, seeds)
    assert np.mean([episode.total_reward for episode in episodes]) > HUMAN[game]
