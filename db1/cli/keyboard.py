"""A person's actions from the keyboard: one key a step.

arrows             actions called left, right, up, forward, down, backward
1 2 3 ... a b c    the other values of a discrete action, in their order
d/a  w/s  e/q ...  plus and minus one of each number of a continuous action; space: all 0
Escape, Ctrl-D, .  ends; the running episode is dropped
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from db1.collection.person import StopPlaying
from db1.errors import ConfigError
from db1.suites.base import Observation, TaskEnv

_ARROWS = {"\x1b[A": "up", "\x1b[B": "down", "\x1b[C": "right", "\x1b[D": "left"}
_WORDS = {"up": ("up", "forward"), "down": ("down", "backward"), "left": ("left",),
          "right": ("right",)}  # fmt: skip
_CHOICES = "1234567890abcdefghijklmnopqrstuvwxyz"
_PAIRS = ("da", "ws", "eq", "rf", "tg", "yh", "uj", "ik")
_END = ("\x1b", "\x04", "\x03", ".", "")

ReadKey = Callable[[], str]
"""Waits for a key and returns it; an empty text at the end of the input."""
Tell = Callable[[str], None]


class Keyboard:
    """Asks a person for actions.

    Args:
        env: The task's environment.
        read_key: Waits for a key.
        tell: Shows a line.

    Raises:
        ConfigError: For actions that cannot be keyed.
    """

    def __init__(self, env: TaskEnv, read_key: ReadKey, tell: Tell) -> None:
        self.actions = key_actions(env)
        self._read_key, self._tell = read_key, tell

    def choose(self, env: TaskEnv, observation: Observation) -> Any:
        """Waits for a key that stands for an allowed action.

        Raises:
            StopPlaying: When the person ends.
        """
        mask = env.step_spec.action_mask
        while True:
            key = self._read_key()
            if key in _END:
                raise StopPlaying
            if key not in self.actions:
                self._tell(f"no action; keys: {describe(self.actions, env)}")
                continue
            action = self.actions[key]
            if mask is not None and not np.ravel(observation[mask])[int(action)]:
                self._tell("not allowed here")
                continue
            return action


def key_actions(env: TaskEnv) -> dict[str, Any]:
    """The action that each key stands for.

    Raises:
        ConfigError: For several choices at once, or more values or numbers than there are keys.
    """
    field = env.step_spec.action
    if field.kind == "continuous":
        if field.size > len(_PAIRS):
            raise ConfigError(
                f"{env.task_id}: an action of {field.size} numbers, expected at most {len(_PAIRS)} "
                "for a keyboard; collect with --expert"
            )
        keys: dict[str, Any] = {" ": np.zeros(field.shape, np.float32)}
        for number, pair in enumerate(_PAIRS[: field.size]):
            for key, sign in zip(pair, (1.0, -1.0), strict=True):
                value = np.zeros(field.size, np.float32)
                value[number] = sign
                keys[key] = value.reshape(field.shape)
        return keys
    if field.shape != () or field.num_values > len(_CHOICES):
        raise ConfigError(
            f"{env.task_id}: {field.size} choices of {field.num_values} values a step, expected "
            f"one of at most {len(_CHOICES)} for a keyboard; collect with --expert"
        )
    names = env.action_names() or ()
    keys = {_CHOICES[value]: value for value in range(field.num_values)}
    for arrow, direction in _ARROWS.items():
        found = [names.index(word) for word in _WORDS[direction] if word in names]
        if found:
            keys[arrow] = found[0]
    return keys


def describe(actions: Mapping[str, Any], env: TaskEnv) -> str:
    """One line about the keys."""
    names = env.action_names()
    parts = []
    for key, action in actions.items():
        shown = _ARROWS.get(key, "space" if key == " " else key)
        if np.ndim(action) or names is None:
            value = np.ravel(action).tolist()
            parts.append(f"{shown} {value if len(value) > 1 else value[0]:}")
        else:
            parts.append(f"{shown} {names[int(action)]}")
    return ", ".join(parts) + "; . ends"


@contextmanager
def raw_keys() -> Iterator[ReadKey]:
    """Gives a reader of single keys: of the terminal without Enter, or of a pipe's characters."""
    if not sys.stdin.isatty():
        yield _piped_key
        return
    import termios
    import tty

    number = sys.stdin.fileno()
    before = termios.tcgetattr(number)
    tty.setcbreak(number)
    try:
        yield lambda: _terminal_key(number)
    finally:
        termios.tcsetattr(number, termios.TCSADRAIN, before)


def _piped_key() -> str:
    """The next character that is no line end."""
    while (key := sys.stdin.read(1)) in ("\n", "\r"):
        pass
    return key


def _terminal_key(number: int) -> str:
    """One key; arrows come as three bytes at once."""
    return os.read(number, 8).decode("utf-8", errors="ignore")
