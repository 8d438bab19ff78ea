"""Procgen's 16 games in all modes that make new levels, through envpool.

    observation  `pixels` 64x64x3
    action       15 button combinations, many of them without effect in a given game
    reward       the game's; an episode ends with its level, or when the game's time is up
    level        generated from the seed of the reset; the exploration modes, which always serve
                 one fixed level, are left out

A task is `<game>-<mode>`; the first 16 are those of DB1, heist and maze easy, the others hard.

Source: Cobbe et al. 2020, "Leveraging Procedural Generation to Benchmark Reinforcement Learning".
"""

from __future__ import annotations

import ctypes.util
from types import MappingProxyType
from typing import Any

import numpy as np

from db1.errors import DataError
from db1.suites.base import SUITES, Observation, StepResult, Suite, TaskEnv
from db1.tokens.spec import FieldSpec, StepSpec

NUM_ACTIONS = 15
IMAGE_SIZE = 64
MODES = {
    "bigfish": ("hard", "easy"),
    "bossfight": ("hard", "easy"),
    "caveflyer": ("hard", "easy", "memory"),
    "chaser": ("hard", "easy", "extreme"),
    "climber": ("hard", "easy"),
    "coinrun": ("hard", "easy"),
    "dodgeball": ("hard", "easy", "extreme", "memory"),
    "fruitbot": ("hard", "easy"),
    "heist": ("easy", "hard", "memory"),
    "jumper": ("hard", "easy", "memory"),
    "leaper": ("hard", "easy", "extreme"),
    "maze": ("easy", "hard", "memory"),
    "miner": ("hard", "easy", "memory"),
    "ninja": ("hard", "easy"),
    "plunder": ("hard", "easy"),
    "starpilot": ("hard", "easy", "extreme"),
}
"""Modes of each game; the first is DB1's."""
STEPS = 1000
OTHER_STEPS = {"bigfish": 6000, "bossfight": 4000, "leaper": 500, "maze": 500, "plunder": 4000}
JUMPER_MEMORY_STEPS = 2000
_MAX_SEED = 2**31 - 1


class ProcgenEnv(TaskEnv):
    """One game in one mode; every reset builds a game of the one level that the seed names.

    Args:
        task_id: `procgen/<game>-<mode>`.
        game: Name in envpool, such as `CoinrunHard-v0`.
        max_steps: Steps after which the game's time is up.
    """

    def __init__(self, task_id: str, game: str, max_steps: int) -> None:
        image = FieldSpec(kind="image", shape=(IMAGE_SIZE, IMAGE_SIZE, 3))
        spec = StepSpec(
            observation={"pixels": image},
            action=FieldSpec(kind="discrete", num_values=NUM_ACTIONS),
        )
        super().__init__(task_id=task_id, step_spec=spec, max_steps=max_steps)
        self._game = game

    def _reset(self, seed: int) -> tuple[Observation, dict[str, Any]]:
        import envpool

        if seed > _MAX_SEED:
            raise DataError(f"{self.task_id}: seed {seed}, expected at most {_MAX_SEED}")
        self.close()
        self.simulator = envpool.make(
            self._game,
            env_type="gymnasium",
            num_envs=1,
            num_threads=1,
            seed=seed,
            start_level=seed,
            num_levels=1,
            channel_first=False,
            max_episode_steps=self.max_steps,
        )
        pixels, _ = self.simulator.reset()
        return {"pixels": pixels[0]}, {"success": False}

    def _step(self, action: int) -> StepResult:
        pixels, rewards, terminated, truncated, info = self.simulator.step(
            np.array([action], dtype=np.int32)
        )
        over = bool(terminated[0] or truncated[0])
        success = over and bool(info["prev_level_complete"][0])
        # The games report their own time limit as an end like any other.
        time_is_up = over and not success and self.num_steps + 1 >= self.max_steps
        ends = over and not time_is_up, time_is_up
        return {"pixels": pixels[0]}, float(rewards[0]), *ends, {"success": success}

    def close(self) -> None:
        if self.simulator is not None:
            self.simulator.close()
            self.simulator = None


class Procgen(Suite):
    """All games of Procgen, in the modes of DB1 first."""

    name = "procgen"
    extra = "procgen"
    packages = MappingProxyType({"envpool": "envpool"})

    def task_names(self) -> list[str]:
        first = [f"{game}-{modes[0]}" for game, modes in MODES.items()]
        return first + [f"{game}-{mode}" for game, modes in MODES.items() for mode in modes[1:]]

    def horizon(self, task_name: str) -> int:
        if task_name == "jumper-memory":
            return JUMPER_MEMORY_STEPS
        return OTHER_STEPS.get(task_name.split("-")[0], STEPS)

    def missing(self) -> str | None:
        """Returns why the suite cannot run here: envpool, or the Qt library that it draws with."""
        reason = super().missing()
        if reason is None and ctypes.util.find_library("Qt5Gui") is None:
            return (
                "suite procgen needs the shared library libQt5Gui.so.5; "
                "run: apt-get install -y --no-install-recommends libqt5gui5"
            )
        return reason

    def _make_env(self, task_name: str) -> ProcgenEnv:
        if (reason := self.missing()) is not None:
            raise DataError(reason)
        game, mode = task_name.split("-")
        name = f"{game.capitalize()}{mode.capitalize()}-v0"
        return ProcgenEnv(f"{self.name}/{task_name}", name, self.horizon(task_name))


SUITES.register("procgen")(Procgen())
