"""Sokoban: push four boxes onto four targets in a 10x10 room.

    observation  `board` 160x160x3: a tile of 16x16 pixels, so one image patch, for each cell
    action       9: nothing; push up, down, left, right (walks where no box is in the way); walk
                 up, down, left, right (never moves a box)
    reward       -0.1 a step, 1 for a box that gets on a target, -1 for one that leaves it, and 10
                 at the end
    episode      until all boxes stand on targets, at most 120 steps

`boxoban-unfiltered` has DeepMind's 1,000 test levels: seeds of demonstrations draw from the first
700, references from the next 100, evaluation from the last 200. `generated` makes another level
for every seed.

Source: gym-sokoban's rules and rewards (Sokoban-v0), which the public DB1 release uses.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np

from db1.errors import MissingExtra
from db1.suites.base import SUITES, Observation, StepResult, Suite, TaskEnv
from db1.suites.seeds import EVALUATION, REFERENCE
from db1.suites.sokoban_levels import (
    STEPS,
    Level,
    boxoban_level,
    generated_level,
    num_boxoban_levels,
)
from db1.tokens.spec import FieldSpec, StepSpec

HORIZON = 120
TILE = 16
NUM_ACTIONS = 9
GENERATED, BOXOBAN = "generated", "boxoban-unfiltered"
STEP_REWARD, BOX_REWARD, FINISH_REWARD = -0.1, 1.0, 10.0
_REFERENCE_SHARE, _EVALUATION_SHARE = 0.1, 0.2


class SokobanEnv(TaskEnv):
    """One family of levels.

    Args:
        task_id: `sokoban/<family>`.
        family: `generated` or `boxoban-unfiltered`.
    """

    level: Level
    boxes: np.ndarray
    """bool (10, 10), where the boxes stand now."""
    player: tuple[int, int]

    def __init__(self, task_id: str, family: str) -> None:
        spec = StepSpec(
            observation={"board": FieldSpec(kind="image", shape=(10 * TILE, 10 * TILE, 3))},
            action=FieldSpec(kind="discrete", num_values=NUM_ACTIONS),
        )
        super().__init__(task_id=task_id, step_spec=spec, max_steps=HORIZON)
        self._family = family
        self._tiles = _tiles()

    @property
    def num_solved(self) -> int:
        """Boxes that stand on targets."""
        return int((self.boxes & self.level.targets).sum())

    def _reset(self, seed: int) -> tuple[Observation, dict[str, Any]]:
        self.level = (
            generated_level(seed)
            if self._family == GENERATED
            else boxoban_level(boxoban_number(seed, num_boxoban_levels()))
        )
        self.boxes = self.level.boxes.copy()
        self.player = self.level.player
        return self._observe(), {"success": False}

    def _step(self, action: int) -> StepResult:
        before = self.num_solved
        if action > 0:
            self._move((action - 1) % 4, may_push=action <= 4)
        solved = self.num_solved == int(self.level.targets.sum())
        reward = STEP_REWARD + BOX_REWARD * (self.num_solved - before) + FINISH_REWARD * solved
        return self._observe(), reward, solved, False, {"success": solved}

    def _move(self, direction: int, may_push: bool) -> None:
        dr, dc = STEPS[direction]
        ahead = (self.player[0] + dr, self.player[1] + dc)
        if self.level.walls[ahead]:
            return
        if self.boxes[ahead]:
            beyond = (ahead[0] + dr, ahead[1] + dc)
            if not may_push or self.level.walls[beyond] or self.boxes[beyond]:
                return
            self.boxes[ahead], self.boxes[beyond] = False, True
        self.player = ahead

    def _observe(self) -> Observation:
        cells = self.level.walls.astype(np.int64)
        cells[self.level.targets] = 2
        cells[self.boxes] = 3
        cells[self.boxes & self.level.targets] = 4
        cells[self.player] = 6 if self.level.targets[self.player] else 5
        board = self._tiles[cells]
        return {"board": board.transpose(0, 2, 1, 3, 4).reshape(10 * TILE, 10 * TILE, 3)}

    def action_names(self) -> tuple[str, ...]:
        ways = ("up", "down", "left", "right")
        return ("nothing", *(f"push {way}" for way in ways), *(f"walk {way}" for way in ways))


class Sokoban(Suite):
    """Boxoban's levels and generated ones."""

    name = "sokoban"
    extra = "sokoban"
    rules = "1"

    def task_names(self) -> list[str]:
        return [BOXOBAN, GENERATED]

    def horizon(self, task_name: str) -> int:
        return HORIZON

    def expert_name(self, task_name: str) -> str:
        return "sokoban_solver"

    def require(self, task_name: str) -> None:
        """Raises what `make_env` would; only the Boxoban levels need a package."""
        super().require(task_name)
        if task_name == BOXOBAN and importlib.util.find_spec("envpool") is None:
            raise MissingExtra("envpool", self.extra, f"{self.name}/{task_name}")

    def task_missing(self, task_name: str) -> str | None:
        try:
            self.require(task_name)
        except MissingExtra as error:
            return str(error)
        return None

    def _make_env(self, task_name: str) -> SokobanEnv:
        return SokobanEnv(f"{self.name}/{task_name}", task_name)


def boxoban_number(seed: int, num_levels: int) -> int:
    """Returns the number of the level of a seed; purposes of seeds never share a level."""
    num_evaluation = int(num_levels * _EVALUATION_SHARE)
    num_reference = int(num_levels * _REFERENCE_SHARE)
    num_collection = num_levels - num_evaluation - num_reference
    if seed in REFERENCE:
        return num_collection + (seed - REFERENCE.start) % num_reference
    if seed in EVALUATION:
        return num_collection + num_reference + (seed - EVALUATION.start) % num_evaluation
    return seed % num_collection


def _tiles() -> np.ndarray:
    """Pictures of a cell, uint8 (7, 16, 16, 3).

    Floor, wall, target, box, box on target, player, player on target. All but the floor have
    their own pattern, since an image patch is standardised before the model sees it and a plain
    colour would be lost.
    """
    y, x = np.mgrid[:TILE, :TILE]
    radius = np.hypot(y - 7.5, x - 7.5)
    floor = np.full((TILE, TILE, 3), 40, np.uint8)
    wall = floor.copy()
    wall[:] = (150, 90, 60)
    wall[(y % 5 == 0) | ((x + 4 * (y // 5 % 2)) % 8 == 0)] = (90, 50, 30)
    target = floor.copy()
    target[np.abs(y - 7.5) + np.abs(x - 7.5) < 5] = (220, 60, 60)

    def with_box(ground: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
        tile = ground.copy()
        tile[1:-1, 1:-1] = colour
        cross = (np.abs(y - x) < 2) | (np.abs(y + x - 15) < 2)
        edge = np.maximum(np.abs(y - 7.5), np.abs(x - 7.5)) > 5.6
        tile[(cross | edge) & (np.maximum(np.abs(y - 7.5), np.abs(x - 7.5)) < 7)] = (90, 60, 20)
        return tile

    def with_player(ground: np.ndarray) -> np.ndarray:
        tile = ground.copy()
        tile[(radius < 6.5) & (y > 6)] = (60, 90, 220)
        tile[np.hypot(y - 4.5, x - 7.5) < 3.6] = (240, 200, 150)
        return tile

    box, solved = with_box(floor, (200, 160, 80)), with_box(target, (80, 200, 90))
    return np.stack([floor, wall, target, box, solved, with_player(floor), with_player(target)])


SUITES.register("sokoban")(Sokoban())
