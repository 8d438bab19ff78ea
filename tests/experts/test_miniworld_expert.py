"""MiniWorld's navigators find their way, and their distances are those of the floor plan."""

import numpy as np
import pytest

from db1.collection.demonstrate import demonstrate
from db1.experts import make_expert
from db1.suites import SUITES, make_env
from db1.suites.seeds import seed_for

if SUITES["miniworld"].missing():
    pytest.skip(SUITES["miniworld"].missing(), allow_module_level=True)

# task: the least return of two episodes; an episode without success returns 0 (Sign: at most 0)
BARS = {
    "FourRooms": 0.8,
    "Hallway": 0.9,
    "MazeS2": 0.8,
    "MazeS3Fast": 0.9,
    "PickupObjects": 5.0,
    "Sidewalk": 0.8,
    "Sign": 1.0,
    "YMaze": 0.8,
}


@pytest.mark.parametrize("task", BARS)
def test_navigators_get_there(task):
    env, expert = make_env(f"miniworld/{task}"), make_expert(f"miniworld/{task}")
    episodes = [demonstrate(env, expert, seed_for("reference", i)) for i in range(2)]
    env.close()
    assert min(episode.total_reward for episode in episodes) >= BARS[task]
    assert all(episode.success for episode in episodes)


def test_success_is_told_where_there_is_a_goal():
    for task, told in (("OneRoom", {"success": False}), ("CollectHealth", {})):
        env = make_env(f"miniworld/{task}")
        assert env.reset(seed=1)[1] == told
        assert env.step(0)[4].get("success") == told.get("success")
        env.close()


def test_noise_is_recovered_from():
    env, expert = make_env("miniworld/FourRooms"), make_expert("miniworld/FourRooms")
    returns = [demonstrate(env, expert, seed, action_noise=0.15).total_reward for seed in range(3)]
    env.close()
    assert min(returns) > 0.5


def test_distances_of_an_empty_room_are_straight():
    from db1.experts.miniworld_map import DistanceField, FloorPlan

    env = make_env("miniworld/OneRoom")
    env.reset(seed=0)
    simulator = env.simulator
    plan = FloorPlan(simulator, ignored=[simulator.box])
    points, _ = plan.grid()
    goal = np.array([5.0, 5.0])
    field = DistanceField(plan, np.linalg.norm(points - goal, axis=1) < 0.15)
    starts = np.array([[1.0, 1.0], [9.0, 5.0], [4.0, 8.0], [1.5, 6.0]])
    lengths, ways = field(starts)
    straight = np.linalg.norm(starts - goal, axis=1)
    assert lengths == pytest.approx(straight, rel=0.06, abs=0.2)
    assert ((goal - starts) / straight[:, None] * ways).sum(axis=1).min() > 0.9
    assert not plan.is_free(np.array([[0.3, 5.0]]))[0] and plan.is_free(goal[None])[0]
    env.close()
