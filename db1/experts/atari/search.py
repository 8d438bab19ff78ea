"""A planner for Atari games on copies of the emulator's state.

    plan kept from last time   a a a b b b b c c . . .     `horizon` steps, what is executed now
    candidate: new tail        a a a|d d e e e e e f f     branches off at a random step
    candidate: new plan        g g g g h i i i i j j j     each action held for a while

Every few steps all candidates are played from a copy of the console's state on a console of the
planner's own, which has sticky actions like the real one but its own random numbers: what the
planner knows is the game, never which of its actions will stick. The best plan's first steps are
executed; its rest is kept, and has to win again next time.

Source: rolling-horizon planning by random mutation (Perez et al. 2013, "Rolling horizon evolution
versus tree search"), with actions held as in Lipovetzky et al. 2015, "Classical planning with
simulators: results on the Atari video games".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from db1.experts.base import EXPERTS
from db1.ranges import Checked
from db1.suites.atari import FRAME_SKIP
from db1.suites.base import Observation, TaskEnv


@dataclass(frozen=True, kw_only=True)
class SearchConfig(Checked):
    """Depth and breadth of the planner's search.

    Attributes:
        horizon: Steps (of 4 frames) of a plan.
        num_candidates: Plans played at every decision, the kept one included.
        commit: Steps executed between decisions.
        discount: Weight of a reward one step later.
        mean_hold: Mean number of steps for which a drawn action is held.
        life_value: Price of a life, in units of the largest reward of one step seen so far.
        habit: Button that plans are mostly made of; None: all buttons alike.
        habit_share: Chance that a held action is the habit without being drawn.
        until_reward: Whether a plan ends with its first reward: where every point starts over.
        progress: What a state is worth by its memory, uint8 (128,), in points; a plan earns the
            difference between its end and its start. For games whose points come late.
    """

    horizon: int = 30
    num_candidates: int = 10
    commit: int = 4
    discount: float = 0.99
    mean_hold: float = 5.0
    life_value: float = 20.0
    habit: str | None = None
    habit_share: float = 0.0
    until_reward: bool = False
    progress: Callable[[np.ndarray], float] | None = None


def _freeway_progress(ram: np.ndarray) -> float:
    return int(ram[14]) / 172.0  # the chicken's way across the road


def _pong_progress(ram: np.ndarray) -> float:
    ball, paddle = int(ram[54]), int(ram[51])
    return -abs(paddle - (ball or 128)) / 200.0  # the paddle level with the ball, or in the middle


GUIDES: dict[str, SearchConfig] = {
    "Freeway": SearchConfig(horizon=20, habit="UP", habit_share=0.7, progress=_freeway_progress),
    "Pong": SearchConfig(
        horizon=60,
        num_candidates=16,
        commit=3,
        mean_hold=3.0,
        until_reward=True,
        progress=_pong_progress,
    ),
    "RoadRunner": SearchConfig(horizon=45, num_candidates=16, habit="LEFT", habit_share=0.4),
    "TimePilot": SearchConfig(horizon=20, num_candidates=20, commit=2),
}
"""Settings of the games that need others than the usual ones."""


class AtariSearchExpert:
    """Plays any game by looking ahead; a function of the game, the episode's seed and the actions.

    Args:
        game: The game's name, as in `ALE/<game>-v5`.
        config: How far and how broadly it looks; None: the game's own settings.
    """

    def __init__(self, game: str, config: SearchConfig | None = None) -> None:
        self._game = game
        self._config = config or GUIDES.get(game, SearchConfig())
        self._console: Any = None
        self._actions: list[Any] = []
        self._habit = 0
        self._plan = np.zeros(0, dtype=np.int64)
        self._num_executed = 0
        self._largest_reward = 1.0
        self._rng = np.random.default_rng(0)

    def reset(self, env: TaskEnv, seed: int) -> None:
        """Starts a console of its own and drops the plan."""
        self._rng = np.random.default_rng((seed, len(self._game)))
        self._console = copy_console(env, int(self._rng.integers(2**31)))
        self._actions = list(env.simulator.unwrapped.ale.getMinimalActionSet())
        if self._config.habit is not None:
            names = env.simulator.unwrapped.get_action_meanings()
            self._habit = names.index(self._config.habit)
        self._plan = self._random_plan(self._config.horizon)
        self._num_executed = self._config.commit
        self._largest_reward = 1.0

    def act(self, env: TaskEnv, observation: Observation) -> int:
        """Returns the plan's next action; plans again every `commit` steps, and after noise."""
        executed = self._num_executed
        disturbed = executed > 0 and env.last_action != self._plan[executed - 1]
        if executed >= self._config.commit or disturbed:
            self._replan(env.simulator.unwrapped.ale.cloneState())
        action = int(self._plan[self._num_executed])
        self._num_executed += 1
        return action

    def _replan(self, state: Any) -> None:
        executed = self._num_executed
        kept = np.concatenate([self._plan[executed:], self._random_plan(executed)])
        plans = [kept, *(self._candidate(kept) for _ in range(self._config.num_candidates - 1))]
        values = [self._value(plan, state) for plan in plans]
        self._plan = plans[int(np.argmax(values))]
        self._num_executed = 0

    def _candidate(self, kept: np.ndarray) -> np.ndarray:
        """Returns a new plan: half of them follow the kept plan for a while."""
        start = int(self._rng.integers(len(kept))) if self._rng.random() < 0.5 else 0
        return np.concatenate([kept[:start], self._random_plan(len(kept) - start)])

    def _random_plan(self, num_steps: int) -> np.ndarray:
        changes = self._rng.random(num_steps) < 1.0 / self._config.mean_hold
        changes[:1] = True
        drawn = self._rng.integers(len(self._actions), size=int(changes.sum()))
        drawn[self._rng.random(len(drawn)) < self._config.habit_share] = self._habit
        return drawn[np.cumsum(changes) - 1]

    def _value(self, plan: np.ndarray, state: Any) -> float:
        """Plays a plan and returns the discounted rewards less the price of lives lost."""
        console, config = self._console, self._config
        console.restoreState(state)
        lives = console.lives()
        value, weight = 0.0, 1.0
        for action in plan:
            reward = console.act(self._actions[action])
            if reward:
                self._largest_reward = max(self._largest_reward, abs(reward))
                value += weight * reward
                if config.until_reward:
                    break
            over = console.game_over()
            if over or console.lives() < lives:
                value -= weight * config.life_value * self._largest_reward
                lives = console.lives()
            if over:
                break
            weight *= config.discount
        if config.progress is not None:
            value += config.progress(console.getRAM())
        return value


def copy_console(env: TaskEnv, seed: int) -> Any:
    """Builds a second console of the environment's game, with sticky actions of its own.

    Returns:
        An `ale_py.ALEInterface` whose `act` lasts one step (`FRAME_SKIP` frames).
    """
    import ale_py

    game_env = env.simulator.unwrapped
    console = ale_py.ALEInterface()
    console.setInt("random_seed", seed)
    console.setInt("frame_skip", FRAME_SKIP)
    console.setFloat(
        "repeat_action_probability", game_env.ale.getFloat("repeat_action_probability")
    )
    console.loadROM(ale_py.roms.get_rom_path(game_env.spec.kwargs["game"]))
    return console


EXPERTS.register("atari_search")(AtariSearchExpert)
