"""ViZDoom 1.3: ten training scenarios and 67 maps of Freedoom.

    observation  `screen` 80x96x3: the game's 240x320 screen averaged to 72x96, padded
                 `variables`: what the scenario shows, such as health and ammunition (not in maps)
    action       scenarios: one button, or none; maps: 19 buttons, each pressed or not
    reward       the scenario's; in maps what ViZDoom gives for getting on (exit, secrets, kills)
    episode      a step is 4 of the 35 ticks a second; scenarios last to their own time limit (60 s
                 where they have none), maps 10 minutes

Maps are played at the middle difficulty; Freedoom2MAP19, which does not repeat from its seed, is
left out. Deathmatch is played with its 17 buttons alone.

Source: Kempka et al. 2016, "ViZDoom"; the Freedoom project's maps come with the package.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from db1.suites.base import SUITES, Observation, StepResult, Suite, TaskEnv
from db1.suites.frames import padded, shrunk
from db1.tokens.spec import FieldSpec, StepSpec

FRAME_SKIP = 4
LEFT_BEHIND = Path("_vizdoom")
"""Folder that the engine makes in the working directory; empty, as it caches nothing here."""
HEIGHT, WIDTH = 72, 96
SCENARIOS = {
    # name: ticks of an episode
    "Basic": 300,
    "DeadlyCorridor": 2100,
    "Deathmatch": 4200,
    "DefendCenter": 2100,
    "DefendLine": 2100,
    "HealthGathering": 2100,
    "HealthGatheringSupreme": 2100,
    "MyWayHome": 2100,
    "PredictPosition": 300,
    "TakeCover": 2100,
}
_SCRIPTED = frozenset({"Basic", "DefendCenter", "HealthGathering"})
"""Scenarios with an expert."""
MAPS = (
    *(f"Freedoom1E{episode}M{number}" for episode in range(1, 5) for number in range(1, 10)),
    *(f"Freedoom2MAP{number:02d}" for number in range(1, 33) if number != 19),
)
MAP_TICKS = 21_000
MAP_SKILL = 3


class VizdoomEnv(TaskEnv):
    """One scenario or map.

    Args:
        task_id: `vizdoom/<name>`.
        simulator: ViZDoom's gymnasium environment.
        max_steps: Steps until the episode is cut.
    """

    def __init__(self, task_id: str, simulator: Any, max_steps: int) -> None:
        import gymnasium

        space = simulator.action_space
        self._is_hybrid = isinstance(space, gymnasium.spaces.Dict)
        buttons = space["binary"] if self._is_hybrid else space
        if isinstance(buttons, gymnasium.spaces.Discrete):
            action = FieldSpec(kind="discrete", num_values=int(buttons.n))
        else:
            action = FieldSpec(kind="discrete", shape=buttons.shape, num_values=2)
        observation = {"screen": FieldSpec(kind="image", shape=(80, WIDTH, 3))}
        variables = simulator.observation_space.spaces.get("gamevariables")
        if variables is not None:
            observation["variables"] = FieldSpec(kind="continuous", shape=variables.shape)
        spec = StepSpec(observation=observation, action=action)
        super().__init__(task_id=task_id, step_spec=spec, max_steps=max_steps, simulator=simulator)

    def _reset(self, seed: int) -> tuple[Observation, dict[str, Any]]:
        was_there = LEFT_BEHIND.exists()
        raw, _ = self.simulator.reset(seed=seed)
        if not was_there:
            with contextlib.suppress(OSError):
                LEFT_BEHIND.rmdir()
        return self._observe(raw), {}

    def _step(self, action: Any) -> StepResult:
        if self._is_hybrid:
            still = np.zeros(self.simulator.action_space["continuous"].shape, np.float32)
            action = {"binary": action, "continuous": still}
        elif not isinstance(action, int):
            action = action.astype(np.int8)
        raw, reward, terminated, truncated, _ = self.simulator.step(action)
        return self._observe(raw), reward, terminated, truncated and not terminated, {}

    def _observe(self, raw: dict[str, np.ndarray]) -> Observation:
        if self.simulator.state is not None:
            self._screen = self.simulator.state.screen_buffer
        observation: Observation = {"screen": padded(shrunk(raw["screen"], HEIGHT, WIDTH))}
        if "variables" in self.step_spec.observation:
            observation["variables"] = raw["gamevariables"]
        return observation

    def render_frame(self) -> np.ndarray:
        """The game's own screen, (240, 320, 3); its last one where the game is over."""
        return np.array(self._screen)

    def close(self) -> None:
        self.simulator.close()


class Vizdoom(Suite):
    """Training scenarios and Freedoom's maps."""

    name = "vizdoom"
    extra = "vizdoom"
    packages = MappingProxyType({"vizdoom": "vizdoom"})

    def task_names(self) -> list[str]:
        return [*SCENARIOS, *MAPS]

    def horizon(self, task_name: str) -> int:
        return -(-SCENARIOS.get(task_name, MAP_TICKS) // FRAME_SKIP)

    def expert_name(self, task_name: str) -> str | None:
        return "vizdoom_script" if task_name in _SCRIPTED else None

    def _make_env(self, task_name: str) -> VizdoomEnv:
        import gymnasium
        import vizdoom.gymnasium_wrapper  # noqa: F401  (registers the environments)

        version = "v1" if task_name in SCENARIOS else f"S{MAP_SKILL}-v0"
        simulator = gymnasium.make(
            f"Vizdoom{task_name}-{version}",
            frame_skip=FRAME_SKIP,
            disable_env_checker=True,
            doom_config_path=os.devnull,  # else it leaves files in the working directory
            game_args="+gl_cachenodes 0",
            # For experts; it changes neither screens nor rewards.
            objects_info_enabled=task_name in SCENARIOS,
        ).unwrapped
        return VizdoomEnv(f"{self.name}/{task_name}", simulator, self.horizon(task_name))


SUITES.register("vizdoom")(Vizdoom())
