"""The tour expert is optimal, from the start and from any state noise leads to."""

import itertools

import numpy as np
import pytest

from db1.collection.demonstrate import demonstrate
from db1.experts import make_expert
from db1.suites import make_env

pytest.importorskip("elkai", reason='pip install "db1[tsp]"')

from db1.experts.tsp import shortest_path


def way_home(env, order):
    return sum(env.distances[a, b] for a, b in itertools.pairwise([*order, env.start]))


@pytest.mark.parametrize("seed", range(4))
def test_the_rest_of_a_spoiled_tour_is_the_shortest(seed):
    env, rng = make_env("tsp/uniform20"), np.random.default_rng(seed)
    observation, _ = env.reset(seed=seed)
    for _ in range(13):
        observation, *_ = env.step(env.sample_action(rng, observation))
    path = shortest_path(env)
    rest = np.flatnonzero(~env.visited)
    assert path[0] == env.current and sorted(path[1:]) == rest.tolist()
    best = min(way_home(env, [env.current, *order]) for order in itertools.permutations(rest))
    assert way_home(env, path) == pytest.approx(best)


def test_the_tour_is_walked_towards_the_nearer_neighbour():
    env, expert = make_env("tsp/uniform20"), make_expert("tsp/uniform20")
    env.reset(seed=5)
    expert.reset(env, 5)
    tour = expert._plan
    distances = env.distances[env.start]
    assert tour[0] == env.start and distances[tour[1]] <= distances[tour[-1]]
    episode = demonstrate(env, expert, 5)
    assert episode.total_reward == pytest.approx(-way_home(env, tour), abs=1e-5)


def test_noise_costs_little_because_the_rest_is_planned_anew():
    env, expert = make_env("tsp/uniform50"), make_expert("tsp/uniform50")
    calm = [demonstrate(env, expert, seed).total_reward for seed in range(3)]
    noisy = [demonstrate(env, expert, seed, action_noise=0.1).total_reward for seed in range(3)]
    chance = -26.0
    assert chance / 2 < np.mean(noisy) < np.mean(calm)


def test_fixed_instances_are_solved_once(monkeypatch):
    import db1.experts.tsp as tsp

    calls = []
    solve = tsp._solve
    monkeypatch.setattr(tsp, "_solve", lambda distances: calls.append(1) or solve(distances))
    env, expert = make_env("tsp/tsp100-2"), make_expert("tsp/tsp100-2")
    returns = [demonstrate(env, expert, seed).total_reward for seed in range(3)]
    assert len(calls) == 1
    assert returns == pytest.approx([returns[0]] * 3, abs=1e-4)
