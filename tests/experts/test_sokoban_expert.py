"""The Sokoban solver solves; and says so where it cannot."""

import numpy as np
import pytest

from db1.collection.demonstrate import demonstrate
from db1.errors import DataError
from db1.experts import make_expert
from db1.experts.sokoban import solve
from db1.suites import SUITES, make_env
from db1.suites.seeds import REFERENCE
from db1.suites.sokoban_levels import Level


@pytest.mark.parametrize("family", ["generated", "boxoban-unfiltered"])
def test_levels_are_solved(family):
    reason = SUITES["sokoban"].task_missing(family)
    if reason:
        pytest.skip(reason)
    env, expert = make_env(f"sokoban/{family}"), make_expert(f"sokoban/{family}")
    for seed in range(REFERENCE.start, REFERENCE.start + 20):
        episode = demonstrate(env, expert, seed)
        assert episode.success
        assert episode.rewards.sum() == pytest.approx(14 - 0.1 * len(episode.rewards), abs=1e-4)


def test_the_plan_survives_noise():
    env, expert = make_env("sokoban/generated"), make_expert("sokoban/generated")
    outcomes = []
    for seed in range(15):
        try:
            outcomes.append(demonstrate(env, expert, seed, action_noise=0.1).success)
        except DataError as error:  # a random push can make a level unsolvable
            assert "no solution" in str(error)
    assert sum(outcomes) >= 8
    assert all(outcomes)


def test_solutions_are_short_where_the_shortest_is_known():
    env = make_env("sokoban/generated")
    env.reset(seed=0)
    board = np.ones((10, 10), bool)
    board[1:4, 1:8] = False
    one = np.zeros((10, 10), bool)
    boxes, targets = one.copy(), one.copy()
    boxes[2, 3], targets[2, 6] = True, True
    env.level = Level(board, targets, boxes, (2, 5))
    env.boxes, env.player = boxes.copy(), (2, 5)
    # Round the box (1 up or down, 3 left, 1 back) and three pushes.
    assert len(solve(env)) == 8


def test_an_unsolvable_level_is_said_so():
    env = make_env("sokoban/generated")
    env.reset(seed=0)
    walls = np.ones((10, 10), bool)
    walls[1:4, 1:4] = False
    boxes, targets = np.zeros((10, 10), bool), np.zeros((10, 10), bool)
    boxes[1, 1], targets[3, 3] = True, True
    env.level = Level(walls, targets, boxes, (2, 2))
    env.boxes, env.player = boxes.copy(), (2, 2)
    with pytest.raises(DataError, match="sokoban/generated step 0: no solution"):
        solve(env)


@pytest.mark.slow
@pytest.mark.release
def test_200_boxoban_levels():
    if SUITES["sokoban"].task_missing("boxoban-unfiltered"):
        pytest.skip(SUITES["sokoban"].task_missing("boxoban-unfiltered"))
    env, expert = make_env("sokoban/boxoban-unfiltered"), make_expert("sokoban/boxoban-unfiltered")
    solved = sum(bool(demonstrate(env, expert, seed).success) for seed in range(200))
    assert solved >= 190
