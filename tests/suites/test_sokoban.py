"""Sokoban: rules, rewards, pictures, and that purposes of seeds share no level."""

import numpy as np
import pytest

from db1.suites import SUITES, make_env
from db1.suites.seeds import COLLECTION, EVALUATION, REFERENCE
from db1.suites.sokoban import TILE, SokobanEnv, boxoban_number
from db1.suites.sokoban_levels import Level, generated_level

UP, DOWN, LEFT, RIGHT = 1, 2, 3, 4
WALK_RIGHT = 8


def level_of(*rows):
    """A level drawn in the usual signs: # wall, . target, $ box, * box on target, @ player."""
    board = np.full((10, 10), "#")
    for r, row in enumerate(rows):
        board[r + 1, 1 : 1 + len(row)] = list(row)
    player = tuple(map(int, np.argwhere(board == "@")[0]))
    return Level(board == "#", np.isin(board, [".", "*"]), np.isin(board, ["$", "*"]), player)


def started(*rows):
    env = SokobanEnv("sokoban/generated", "generated")
    env.reset(seed=0)
    env.level = level_of(*rows)
    env.boxes, env.player = env.level.boxes.copy(), env.level.player
    return env


def test_pushes_walks_and_rewards():
    env = started("@$ .  ", "   $ .")
    assert env.step(WALK_RIGHT)[1] == pytest.approx(-0.1)
    assert env.player == (1, 1)  # walking moves no box
    assert env.step(RIGHT)[1] == pytest.approx(-0.1)
    _, reward, ended, _, info = env.step(RIGHT)
    assert (reward, ended, info["success"]) == (pytest.approx(0.9), False, False)
    assert env.step(RIGHT)[1] == pytest.approx(-1.1)  # off the target again


def test_the_last_box_ends_the_game():
    env = started("@$.")
    _, reward, terminated, truncated, info = env.step(RIGHT)
    assert reward == pytest.approx(-0.1 + 1 + 10)
    assert (terminated, truncated, info["success"]) == (True, False, True)


def test_no_push_against_a_wall_or_two_boxes():
    env = started("@$$ .", "    .")
    before = env.boxes.copy()
    env.step(RIGHT)
    assert np.array_equal(env.boxes, before)
    assert env.player == (1, 1)
    env.step(UP)
    assert env.player == (1, 1)


def test_every_cell_is_its_own_tile():
    env = started("@$.*  ")
    board = env._observe()["board"]
    tiles = board.reshape(10, TILE, 10, TILE, 3).transpose(0, 2, 1, 3, 4)
    kinds = {
        name: tiles[cell]
        for name, cell in {
            "wall": (0, 0), "player": (1, 1), "box": (1, 2), "target": (1, 3), "solved": (1, 4),
        }.items()
    }  # fmt: skip
    for name, tile in kinds.items():
        assert tile.astype(float).std(axis=(0, 1)).max() > 5, f"{name} is a plain colour"
        for other, picture in kinds.items():
            assert (name == other) == np.array_equal(tile, picture)
    assert np.array_equal(tiles[1, 5], tiles[1, 6])


def test_generated_levels_are_sound():
    for seed in range(30):
        level = generated_level(seed)
        assert level.boxes.sum() == level.targets.sum() == 4
        assert not (level.walls & (level.boxes | level.targets)).any()
        assert not (level.boxes & level.targets).any()
        assert not level.walls[level.player]
        assert not level.boxes[level.player]
        border = np.ones((10, 10), bool)
        border[1:-1, 1:-1] = False
        assert level.walls[border].all()


def test_no_evaluation_level_is_seen_before():
    levels = {
        purpose: {boxoban_number(seeds.start + i, 1000) for i in range(3000)}
        for purpose, seeds in (("c", COLLECTION), ("r", REFERENCE), ("e", EVALUATION))
    }
    assert [len(levels[purpose]) for purpose in "cre"] == [700, 100, 200]
    assert not levels["c"] & levels["r"]
    assert not (levels["c"] | levels["r"]) & levels["e"]


def test_boxoban_levels_are_read():
    suite = SUITES["sokoban"]
    if suite.task_missing("boxoban-unfiltered"):
        pytest.skip(suite.task_missing("boxoban-unfiltered"))
    env = make_env("sokoban/boxoban-unfiltered")
    env.reset(seed=0)
    assert env.boxes.sum() == env.level.targets.sum() == 4
    assert env.player == (8, 5)
