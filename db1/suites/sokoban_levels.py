"""Sokoban levels: made by playing backwards from the solved state, or DeepMind's Boxoban levels.

A level made here starts solved: a carved room with all boxes on targets. Boxes are then pulled
about at random, and the position is kept in which they have come furthest from where they stood;
playing the pulls backwards solves it, so every level is solvable.

Source: Racaniere et al. 2017, "Imagination-Augmented Agents" (reverse play); Guez et al. 2018,
"An investigation of model-free planning" (the Boxoban levels).
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from db1.errors import DataError

SIZE = 10
NUM_BOXES = 4
STEPS = ((-1, 0), (1, 0), (0, -1), (0, 1))
"""Up, down, left, right as changes of (row, column)."""
_WALK_CELLS = 35
_PULLS = 1500
_LEAST_DISTANCE = 12
"""Steps that all boxes together must have moved; else another room is tried."""


@dataclass(frozen=True)
class Level:
    """The start of a game; all positions are (row, column) on a 10x10 board.

    Args:
        walls: bool (10, 10).
        targets: bool (10, 10).
        boxes: bool (10, 10), as many as targets.
        player: Where the player stands.
    """

    walls: np.ndarray
    targets: np.ndarray
    boxes: np.ndarray
    player: tuple[int, int]


def generated_level(seed: int) -> Level:
    """Returns the level with four boxes that `seed` names."""
    rng = np.random.default_rng((10_10_4, seed))
    while True:
        floor = _carved_room(rng)
        cells = np.argwhere(floor)
        if len(cells) < 4 * NUM_BOXES:
            continue
        chosen = cells[rng.choice(len(cells), NUM_BOXES + 1, replace=False)]
        targets = [tuple(map(int, cell)) for cell in chosen[:NUM_BOXES]]
        player = tuple(map(int, chosen[NUM_BOXES]))
        boxes, player, distance = _pulled(floor, targets, player, rng)
        if distance >= _LEAST_DISTANCE:
            return Level(~floor, _marked(targets), _marked(boxes), player)


def boxoban_level(number: int) -> Level:
    """Returns one of the 1,000 levels of Boxoban's unfiltered test set that envpool ships."""
    fixed, movable = _boxoban_levels()[number].transpose(2, 0, 1)
    row, column = np.argwhere(movable == 3)[0]
    return Level(fixed == 1, fixed == 2, movable == 4, (int(row), int(column)))


def num_boxoban_levels() -> int:
    """Returns how many Boxoban levels are installed."""
    return len(_boxoban_levels())


@cache
def _boxoban_levels() -> np.ndarray:
    """Reads uint8 (levels, 10, 10, 2): wall 1 and target 2; player 3 and box 4."""
    spec = importlib.util.find_spec("envpool")
    if spec is None or spec.origin is None:
        raise DataError("the Boxoban levels come with envpool; run: pip install 'db1[sokoban]'")
    path = Path(spec.origin).parent / "jumanji/assets/boxoban/unfiltered-test.npy"
    if not path.exists():
        raise DataError(f"{path}: no Boxoban levels here, expected those of envpool 1.2.5")
    return np.load(path, allow_pickle=False)


def _marked(cells: list[tuple[int, int]]) -> np.ndarray:
    board = np.zeros((SIZE, SIZE), dtype=bool)
    board[tuple(np.array(cells).T)] = True
    return board


def _carved_room(rng: np.random.Generator) -> np.ndarray:
    """Floor cells, bool (10, 10): the trace of a random walk that carves small stamps."""
    floor = np.zeros((SIZE, SIZE), dtype=bool)
    row, column = (int(n) for n in rng.integers(2, SIZE - 2, size=2))
    direction = 0
    for _ in range(_WALK_CELLS):
        if rng.random() < 0.35:
            direction = int(rng.integers(4))
        row = int(np.clip(row + STEPS[direction][0], 1, SIZE - 2))
        column = int(np.clip(column + STEPS[direction][1], 1, SIZE - 2))
        height, width = rng.integers(1, 3, size=2)
        floor[row : min(row + height, SIZE - 1), column : min(column + width, SIZE - 1)] = True
    return floor


def _pulled(
    floor: np.ndarray,
    targets: list[tuple[int, int]],
    player: tuple[int, int],
    rng: np.random.Generator,
) -> tuple[list[tuple[int, int]], tuple[int, int], int]:
    """Walks and pulls at random; returns the boxes and player of the furthest position."""
    boxes = list(targets)
    best = (boxes, player, 0)
    for _ in range(_PULLS):
        dr, dc = STEPS[int(rng.integers(4))]
        ahead = (player[0] + dr, player[1] + dc)
        behind = (player[0] - dr, player[1] - dc)
        if not floor[ahead] or ahead in boxes:
            continue
        if behind in boxes and rng.random() < 0.8:
            boxes = [player if box == behind else box for box in boxes]
        player = ahead
        distances = [
            abs(box[0] - target[0]) + abs(box[1] - target[1])
            for box, target in zip(boxes, targets, strict=True)
        ]
        if not set(boxes) & set(targets) and sum(distances) > best[2]:
            best = (boxes, player, sum(distances))
    return best
