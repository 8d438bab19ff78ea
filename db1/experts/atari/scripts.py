"""Scripted players that read the objects' places from the console's memory.

Source of the addresses: Anand et al. 2019, "Unsupervised State Representation Learning in Atari"
(AtariARI), checked here against play; the rules of play are our own.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from db1.experts.base import EXPERTS
from db1.suites.base import Observation, TaskEnv


class Player(Protocol):
    """Plays one episode of one game."""

    def move(self, ram: np.ndarray) -> str:
        """Returns the button to press, as ALE names it.

        Args:
            ram: The console's memory, int64 (128,).
        """


class BreakoutPlayer:
    """Stands where the ball will come down, and serves when there is none.

    All lengths are in the memory's units, close to pixels.
    """

    BALL_X, BALL_Y, PADDLE_X = 99, 101, 72  # addresses; the ball's y is 0 while there is no ball
    PADDLE_TOP = 180
    LEFT_WALL, RIGHT_WALL = 57, 203
    OFFSET = -6.0  # from the ball's x to the paddle's that meets it
    COASTING = 1.0  # steps for which the paddle goes on at its speed once the button is free
    TOLERANCE = 10.0  # half of the way that one press moves the paddle

    def __init__(self) -> None:
        self._ball: tuple[int, int] | None = None
        self._paddle: int | None = None

    def move(self, ram: np.ndarray) -> str:
        """Returns the button that brings the paddle under the ball's landing place.

        Args:
            ram: The console's memory, uint8 (128,).
        """
        ball, paddle = (int(ram[self.BALL_X]), int(ram[self.BALL_Y])), int(ram[self.PADDLE_X])
        target = self._landing(ball) + self.OFFSET
        speed = 0 if self._paddle is None else paddle - self._paddle
        self._ball, self._paddle = (ball if ball[1] else None), paddle
        if not ball[1]:
            return "FIRE"
        error = target - (paddle + self.COASTING * speed)
        if abs(error) < self.TOLERANCE:
            return "NOOP"
        return "RIGHT" if error > 0 else "LEFT"

    def _landing(self, ball: tuple[int, int]) -> float:
        """Returns where the ball meets the paddle's height; below it while the ball rises."""
        if self._ball is None or ball[1] <= self._ball[1]:
            return ball[0]
        across, down = ball[0] - self._ball[0], ball[1] - self._ball[1]
        landing = ball[0] + across * max(self.PADDLE_TOP - ball[1], 0) / down
        return fold(landing, self.LEFT_WALL, self.RIGHT_WALL)


def fold(place: float, low: float, high: float) -> float:
    """Returns where something that bounces between two walls ends up.

    Example: `fold(12, 0, 10)` is 8, `fold(-3, 0, 10)` is 3.
    """
    span = high - low
    phase = (place - low) % (2 * span)
    return low + min(phase, 2 * span - phase)


PLAYERS: dict[str, type[Player]] = {"Breakout": BreakoutPlayer}


class AtariScriptExpert:
    """Plays a game by the rules written for it.

    Args:
        game: A key of `PLAYERS`.
    """

    def __init__(self, game: str) -> None:
        self._make_player = PLAYERS[game]
        self._player: Player = self._make_player()
        self._buttons: dict[str, int] = {}

    def reset(self, env: TaskEnv, seed: int) -> None:
        """Starts a new player."""
        names = env.simulator.unwrapped.get_action_meanings()
        self._buttons = {name: action for action, name in enumerate(names)}
        self._player = self._make_player()

    def act(self, env: TaskEnv, observation: Observation) -> int:
        """Returns the button that the player presses next."""
        ram = env.simulator.unwrapped.ale.getRAM().astype(np.int64)
        return self._buttons[self._player.move(ram)]


EXPERTS.register("atari_script")(AtariScriptExpert)
