"""MiniGrid's planners reach every kind of goal, by short ways, and go on under noise."""

from itertools import pairwise

import numpy as np
import pytest

from db1.collection.demonstrate import demonstrate
from db1.errors import DataError
from db1.experts import make_expert
from db1.suites import SUITES, make_env
from db1.suites.seeds import seed_for

if SUITES["minigrid"].missing():
    pytest.skip(SUITES["minigrid"].missing(), allow_module_level=True)

_NAMES = (
    "BlockedUnlockPickup-v0 DoorKey-6x6-v0 Dynamic-Obstacles-8x8-v0 Empty-Random-6x6-v0 "
    "Fetch-8x8-N3-v0 FourRooms-v0 GoToDoor-6x6-v0 GoToObject-8x8-N2-v0 KeyCorridorS4R3-v0 "
    "LavaCrossingS9N2-v0 LavaGapS6-v0 LockedRoom-v0 MemoryS11-v0 MultiRoom-N4-S5-v1 "
    "ObstructedMaze-1Dlhb-v0 ObstructedMaze-Full-v1 PutNear-8x8-N3-v0 RedBlueDoors-6x6-v0 "
    "SimpleCrossingS9N2-v0 Unlock-v0 UnlockPickup-v0"
)
ONE_OF_EACH = _NAMES.split()


@pytest.mark.parametrize("task", ONE_OF_EACH)
def test_goals_are_reached(task):
    env, expert = make_env(f"minigrid/{task}"), make_expert(f"minigrid/{task}")
    for index in range(3):
        episode = demonstrate(env, expert, seed_for("reference", index))
        episode.check(env.step_spec, task)
        assert episode.success and episode.total_reward > 0.5


@pytest.mark.parametrize(
    "task", ["KeyCorridorS4R3-v0", "ObstructedMaze-1Dlhb-v0", "DoorKey-6x6-v0"]
)
def test_noise_is_recovered_from(task):
    env, expert = make_env(f"minigrid/{task}"), make_expert(f"minigrid/{task}")
    for seed in range(5):
        assert demonstrate(env, expert, seed, action_noise=0.2).success


def test_the_way_through_an_empty_room_is_a_shortest_one():
    env, expert = (
        make_env("minigrid/Empty-Random-6x6-v0"),
        make_expert("minigrid/Empty-Random-6x6-v0"),
    )
    for seed in range(20):
        env.reset(seed=seed)
        simulator = env.simulator
        across, down = np.array([4, 4]) - simulator.agent_pos
        # Each direction with cells to go in it has to be faced once.
        needed = ({0} if across else set()) | ({1} if down else set())
        turns = min(
            sum(min((b - a) % 4, (a - b) % 4) for a, b in pairwise((simulator.agent_dir, *order)))
            for order in ((0, 1), (1, 0), (0,), (1,))
            if set(order) == needed
        )
        assert len(demonstrate(env, expert, seed)) == across + down + turns


def test_memory_looks_before_it_walks():
    env, expert = make_env("minigrid/MemoryS11-v0"), make_expert("minigrid/MemoryS11-v0")
    for seed in range(10):
        observation, _ = env.reset(seed=seed)
        expert.reset(env, seed)
        ended = seen = False
        while not ended:
            seen = seen or env.simulator.agent_sees(1, env.simulator.height // 2 - 1)
            observation, reward, terminated, truncated, _ = env.step(expert.act(env, observation))
            ended = terminated or truncated
        assert seen and reward > 0


def test_a_goal_out_of_reach_is_said_so():
    env, expert = make_env("minigrid/Unlock-v0"), make_expert("minigrid/Unlock-v0")
    observation, _ = env.reset(seed=0)
    grid = env.simulator.grid
    for index, thing in enumerate(grid.grid):
        if thing is not None and thing.type == "key":
            grid.grid[index] = None
    expert.reset(env, 0)
    with pytest.raises(DataError, match="minigrid/Unlock-v0 step 0: no way to the goal"):
        expert.act(env, observation)


@pytest.mark.slow
@pytest.mark.parametrize("task", SUITES["minigrid"].task_names())
def test_every_task_with_an_expert_is_solved(task):
    if SUITES["minigrid"].expert_name(task) is None:
        pytest.skip(f"{task} has no goal and so no expert")
    env, expert = make_env(f"minigrid/{task}"), make_expert(f"minigrid/{task}")
    assert all(demonstrate(env, expert, seed_for("reference", i)).success for i in range(10))
