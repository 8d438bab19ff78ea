"""A moment of an episode as it is shown: the picture, what is seen, what may be done."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from db1.inference.agent import Agent
from db1.rollout.episode import Transition
from db1.suites import TaskEnv
from db1.tokens.scalar import ScalarTokenizer
from db1.tokens.spec import PATCH_SIZE
from db1.viewer.picture import Painter

NUM_LIKELY = 6
NUM_COLUMNS = 41
"""Columns of the distribution of a continuous action over -1..1."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One field of the observation as the model gets it.

    Args:
        key: Its name.
        kind: `text`, `image`, `discrete` or `continuous`.
        value: str, uint8 (H, W, C), or numbers; continuous ones as their bins tell them.
        num_tokens: How many tokens it makes; None where nobody counts.
        patch_size: Side of an image patch in pixels.
    """

    key: str
    kind: str
    value: Any
    num_tokens: int | None = None
    patch_size: int = PATCH_SIZE


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One number of an action: what was chosen, among what.

    Args:
        name: `action`, or `action 2 of 4`.
        chosen: In words.
        chosen_value: The number itself.
        likely: (words, probability), likeliest first; empty for policies without probabilities.
        columns: float (41,), probability over -1..1; None for discrete actions.
    """

    name: str
    chosen: str
    chosen_value: float
    likely: tuple[tuple[str, float], ...] = ()
    columns: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Scene of one moment.

    Args:
        title: Task, policy and seed.
        frame: uint8 (H, W, 3).
        seen: Fields in the order of their tokens.
        choices: One for each number of the action; empty when the episode is over.
        step: Steps done so far.
        reward: Of the step before.
        total_reward: Return so far.
        end: How the episode ended; None while it goes on.
    """

    title: str
    frame: np.ndarray
    seen: tuple[Seen, ...]
    choices: tuple[Choice, ...]
    step: int
    reward: float
    total_reward: float
    end: str | None


class Spectator:
    """Turns the moments of an episode into scenes for a display; an `Observer`.

    Args:
        title: Shown in every scene.
        show: The display.
        agent: The model's agent, for its probabilities; None for other policies.
    """

    def __init__(
        self, title: str, show: Callable[[Scene], None], agent: Agent | None = None
    ) -> None:
        self._title = title
        self._show = show
        self._agent = agent
        self._painter = Painter()
        if agent is not None:
            agent.keep_probabilities = True

    @property
    def reason(self) -> str | None:
        """Reason why bars are drawn in place of images; None: images are."""
        return self._painter.reason

    def __call__(self, env: TaskEnv, moment: Transition) -> None:
        self._show(
            Scene(
                title=self._title,
                frame=self._painter.picture(env, moment.observation),
                seen=self._seen(env, moment.observation),
                choices=() if moment.is_last else self._choices(env, moment.action),
                step=moment.step,
                reward=moment.reward,
                total_reward=moment.total_reward,
                end=_end(moment) if moment.is_last else None,
            )
        )

    def _seen(self, env: TaskEnv, observation: Mapping[str, Any]) -> tuple[Seen, ...]:
        fields = env.step_spec.observation
        order = ("text", "image", "continuous", "discrete")
        keys = sorted(fields, key=lambda key: (min(order.index(fields[key].kind), 2), key))
        return tuple(self._field(key, fields[key].kind, observation[key]) for key in keys)

    def _field(self, key: str, kind: str, value: Any) -> Seen:
        if kind in ("text", "image") or self._agent is None:
            count = None if kind in ("text", "image") else int(np.size(value))
            side = PATCH_SIZE if self._agent is None else self._agent.codec.patches.image
            return Seen(key=key, kind=kind, value=value, num_tokens=count, patch_size=side)
        if kind == "continuous":
            scalar = self._agent.codec.scalar
            value = scalar.decode_observation(scalar.encode_observation(np.asarray(value)))
        return Seen(key=key, kind=kind, value=value, num_tokens=int(np.size(value)))

    def _choices(self, env: TaskEnv, action: Any) -> tuple[Choice, ...]:
        values = np.atleast_1d(np.asarray(action)).ravel()
        kept = None if self._agent is None else self._agent.last_probabilities
        field, names = env.step_spec.action, env.action_names()
        choices = []
        for number, value in enumerate(values.tolist()):
            name = "action" if len(values) == 1 else f"action {number + 1} of {len(values)}"
            probabilities = None if kept is None else kept[0, number]
            if field.kind == "discrete":
                choices.append(_discrete(name, int(value), probabilities, names))
            else:
                scalar = None if self._agent is None else self._agent.codec.scalar
                choices.append(_continuous(name, float(value), probabilities, scalar))
        return tuple(choices)


def _discrete(
    name: str, value: int, probabilities: np.ndarray | None, names: tuple[str, ...] | None
) -> Choice:
    def word(number: int) -> str:
        return str(number) if names is None else f"{number} {names[number]}"

    likely: tuple[tuple[str, float], ...] = ()
    if probabilities is not None:
        best = np.argsort(-probabilities, kind="stable")[:NUM_LIKELY]
        likely = tuple((word(int(i)), float(probabilities[i])) for i in best)
    return Choice(name=name, chosen=word(value), chosen_value=float(value), likely=likely)


def _continuous(
    name: str,
    value: float,
    probabilities: np.ndarray | None,
    scalar: ScalarTokenizer | None,
) -> Choice:
    words = f"{value:+.3f}"
    if probabilities is None or scalar is None:
        return Choice(name=name, chosen=words, chosen_value=value)
    values = scalar.decode_action(np.arange(len(probabilities)))
    places = np.clip(((values + 1) / 2 * NUM_COLUMNS).astype(int), 0, NUM_COLUMNS - 1)
    columns = np.bincount(places, weights=probabilities, minlength=NUM_COLUMNS)
    best = np.argsort(-probabilities, kind="stable")[:NUM_LIKELY]
    likely = tuple((f"{values[i]:+.3f}", float(probabilities[i])) for i in best)
    return Choice(name=name, chosen=words, chosen_value=value, likely=likely, columns=columns)


def _end(moment: Transition) -> str:
    words = f"over after {moment.step} steps, return {moment.total_reward:.6g}"
    if moment.success is None:
        return words
    return f"{words}, {'succeeded' if moment.success else 'no success'}"
