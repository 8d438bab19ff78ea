"""The travelling salesman's rules: candidates, mask, rewards."""

import numpy as np
import pytest

from db1.errors import DataError
from db1.suites import make_env
from db1.suites.tsp import (
    MAX_CANDIDATES,
    NUM_CLUSTERED,
    clustered_cities,
    uniform_cities,
)


def walk(env, seed, choose):
    observation, _ = env.reset(seed=seed)
    order, rewards, terminated = [env.start], [], False
    while not terminated:
        action = choose(observation)
        order.append(int(env.candidates[action]))
        observation, reward, terminated, truncated, _ = env.step(action)
        rewards.append(reward)
        assert not truncated
    return order, rewards


def nearest(observation):
    return int(np.flatnonzero(observation["unvisited"])[0])


def farthest(observation):
    return int(np.flatnonzero(observation["unvisited"])[-1])


@pytest.mark.parametrize("task", ["uniform20", "uniform100", "tsp200-5"])
@pytest.mark.parametrize("choose", [nearest, farthest])
def test_the_return_is_minus_the_length_of_the_tour(task, choose):
    env = make_env(f"tsp/{task}")
    order, rewards = walk(env, 3, choose)
    assert sorted(order) == list(range(env.num_cities))
    closed = env.cities[[*order, order[0]]]
    length = np.linalg.norm(np.diff(closed, axis=0), axis=1).sum()
    assert sum(rewards) == pytest.approx(-length)
    legs = np.linalg.norm(np.diff(closed, axis=0), axis=1)
    assert rewards[:-1] == pytest.approx(-legs[:-2])
    assert rewards[-1] == pytest.approx(-(legs[-2] + legs[-1]))


def test_candidates_are_the_nearest_cities_and_relative():
    env = make_env("tsp/uniform100")
    observation, _ = env.reset(seed=8)
    order = np.argsort(np.linalg.norm(env.cities - env.cities[0], axis=1))[1:51]
    assert np.array_equal(env.candidates, order)
    assert np.allclose(observation["candidates"], env.cities[order] - env.cities[0], atol=1e-6)
    assert observation["unvisited"].all() and np.array_equal(observation["start"], [0, 0])
    observation, *_ = env.step(4)
    assert env.current == order[4]
    assert np.allclose(observation["start"], env.cities[0] - env.cities[order[4]], atol=1e-6)
    back = np.flatnonzero(env.candidates == 0)
    assert observation["unvisited"][back] == 0 and observation["unvisited"].sum() == 49


def test_with_every_near_city_visited_the_nearest_unvisited_come_first():
    env = make_env("tsp/tsp200-0")
    observation, _ = env.reset(seed=1)
    fell_back = 0
    while True:
        order = np.argsort(env.distances[env.current], kind="stable")
        order = order[order != env.current]
        unvisited = order[~env.visited[order]]
        if env.visited[order[:MAX_CANDIDATES]].all():
            fell_back += 1
            head = unvisited[:MAX_CANDIDATES]
            assert np.array_equal(env.candidates[: len(head)], head)
            assert observation["unvisited"][: len(head)].all()
            assert not observation["unvisited"][len(head) :].any()
        else:
            assert np.array_equal(env.candidates, order[:MAX_CANDIDATES])
        assert len(set(env.candidates)) == MAX_CANDIDATES
        observation, _, terminated, _, _ = env.step(nearest(observation))
        if terminated:
            break
    assert fell_back > 0


def test_a_visited_city_is_refused_and_changes_nothing():
    env = make_env("tsp/uniform20")
    env.reset(seed=2)
    env.step(0)
    back = int(np.flatnonzero(env.candidates == env.start)[0])
    current = env.current
    with pytest.raises(DataError, match=f"tsp/uniform20 step 1: action {back} is a visited city"):
        env.step(back)
    assert env.current == current and env.num_steps == 1


def test_fixed_instances_keep_their_cities_and_differ():
    env = make_env("tsp/tsp100-7")
    env.reset(seed=0)
    cities, start = env.cities, env.start
    starts = set()
    for seed in range(20):
        env.reset(seed=seed)
        assert np.array_equal(env.cities, cities)
        starts.add(env.start)
    assert len(starts) > 5
    env.reset(seed=0)
    assert env.start == start
    other = make_env("tsp/tsp100-8")
    other.reset(seed=0)
    assert not np.array_equal(other.cities, cities)


def test_uniform_instances_start_at_city_zero_with_new_cities():
    env = make_env("tsp/uniform50")
    env.reset(seed=0)
    cities = env.cities
    env.reset(seed=1)
    assert env.start == 0 and not np.array_equal(env.cities, cities)
    assert cities.min() >= 0 and cities.max() <= 1


def test_clustered_instances_are_clustered_and_differ():
    instances = [clustered_cities(i, 200) for i in range(NUM_CLUSTERED)]
    uniform = uniform_cities(0, 200)

    def nearest(cities):
        distances = np.linalg.norm(cities[:, None] - cities[None], axis=-1)
        return np.sort(distances, axis=1)[:, 1].mean()

    for cities in instances:
        assert cities.shape == (200, 2)
        assert ((cities >= 0) & (cities <= 1)).all()
        assert nearest(cities) < 0.75 * nearest(uniform)
    assert len({cities.tobytes() for cities in instances}) == NUM_CLUSTERED
