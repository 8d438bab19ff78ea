"""The BabyAI levels of minigrid 3.2.0: a partly visible grid and an English mission.

    observation  `mission`    text, the same in every step of an episode
                 `direction`  discrete 0..3: right, down, left, up
                 `grid`       7x7x3 discrete 0..10: type, colour and state of each visible cell
    action       7 values: left, right, forward, pickup, drop, toggle, done
    reward       1 - 0.9 steps / limit when the mission is done, else 0

The step limit of an episode follows from its maze and its mission.
"""

from __future__ import annotations

import contextlib
import io
import logging
from types import MappingProxyType
from typing import Any

import numpy as np

from db1.suites.base import SUITES, Observation, StepResult, Suite, TaskEnv
from db1.tokens.spec import FieldSpec, StepSpec

logger = logging.getLogger(__name__)

OBSERVATION = {
    "mission": FieldSpec(kind="text"),
    "direction": FieldSpec(kind="discrete", num_values=4),
    "grid": FieldSpec(kind="discrete", shape=(7, 7, 3), num_values=11),
}
_NAMES = (
    "ActionObjDoor BlockedUnlockPickup BossLevel BossLevelNoUnlock FindObjS5 FindObjS6 FindObjS7 "
    "GoTo GoToDoor GoToImpUnlock GoToLocal GoToLocalS5N2 GoToLocalS6N2 GoToLocalS6N3 "
    "GoToLocalS6N4 GoToLocalS7N4 GoToLocalS7N5 GoToLocalS8N2 GoToLocalS8N3 GoToLocalS8N4 "
    "GoToLocalS8N5 GoToLocalS8N6 GoToLocalS8N7 GoToObj GoToObjDoor GoToObjMaze GoToObjMazeOpen "
    "GoToObjMazeS4 GoToObjMazeS4R2 GoToObjMazeS5 GoToObjMazeS6 GoToObjMazeS7 GoToObjS4 GoToObjS6 "
    "GoToOpen GoToRedBall GoToRedBallGrey GoToRedBallNoDists GoToRedBlueBall GoToSeq GoToSeqS5R2 "
    "KeyCorridor KeyCorridorS3R1 KeyCorridorS3R2 KeyCorridorS3R3 KeyCorridorS4R3 KeyCorridorS5R3 "
    "KeyCorridorS6R3 KeyInBox MiniBossLevel MoveTwoAcrossS5N2 MoveTwoAcrossS8N9 OneRoomS12 "
    "OneRoomS16 OneRoomS20 OneRoomS8 Open OpenDoor OpenDoorColor OpenDoorDebug OpenDoorLoc "
    "OpenDoorsOrderN2 OpenDoorsOrderN2Debug OpenDoorsOrderN4 OpenDoorsOrderN4Debug "
    "OpenRedBlueDoors OpenRedBlueDoorsDebug OpenRedDoor OpenTwoDoors Pickup PickupAbove "
    "PickupDist PickupDistDebug PickupLoc PutNextLocal PutNextLocalS5N3 PutNextLocalS6N4 "
    "PutNextS4N1 PutNextS5N1 PutNextS5N2 PutNextS5N2Carrying PutNextS6N3 PutNextS6N3Carrying "
    "PutNextS7N4 PutNextS7N4Carrying Synth SynthLoc SynthS5R2 SynthSeq UnblockPickup Unlock "
    "UnlockLocal UnlockLocalDist UnlockPickup UnlockPickupDist UnlockToUnlock"
)
TILE = 16
"""Pixels of a cell in a rendered frame."""
LEVELS = tuple(_NAMES.split())
NO_EXPERT = frozenset({"KeyInBox", "OpenDoorsOrderN2Debug", "OpenDoorsOrderN4Debug"})
"""Levels that minigrid's bot cannot solve: it opens no boxes, and other doors on its way."""


class GridEnv(TaskEnv):
    """One task of minigrid.

    Args:
        task_id: `suite/task`.
        gym_id: The id under which minigrid registers it.
    """

    def __init__(self, task_id: str, gym_id: str) -> None:
        import gymnasium
        import minigrid  # noqa: F401  (registers the tasks)

        simulator = gymnasium.make(gym_id, disable_env_checker=True).unwrapped
        action = FieldSpec(kind="discrete", num_values=int(simulator.action_space.n))
        spec = StepSpec(observation=OBSERVATION, action=action)
        super().__init__(task_id=task_id, step_spec=spec, max_steps=None, simulator=simulator)

    def _reset(self, seed: int) -> tuple[Observation, dict[str, Any]]:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):  # minigrid prints each rejected maze
            raw, _ = self.simulator.reset(seed=seed)
        if printed.getvalue():
            logger.debug("%s seed %d: %s", self.task_id, seed, printed.getvalue().strip())
        return _observation(raw), {"success": False}

    def _step(self, action: int) -> StepResult:
        raw, reward, terminated, truncated, _ = self.simulator.step(action)
        info = {"success": bool(terminated and reward > 0)}
        return _observation(raw), reward, terminated, truncated and not terminated, info

    def render_frame(self) -> np.ndarray:
        """The whole grid from above, uint8 (H, W, 3); what the agent sees of it is lit."""
        return np.asarray(self.simulator.get_frame(highlight=True, tile_size=TILE), np.uint8)

    def action_names(self) -> tuple[str, ...]:
        names = ("left", "right", "forward", "pickup", "drop", "toggle", "done")
        return names[: self.step_spec.action.num_values]


class BabyAI(Suite):
    """The 96 levels that minigrid registers; a task is named without `BabyAI-` and version."""

    name = "babyai"
    extra = "babyai"
    packages = MappingProxyType({"minigrid": "minigrid"})
    instruction_field = "mission"

    def task_names(self) -> list[str]:
        return list(LEVELS)

    def horizon(self, task_name: str) -> None:
        return None

    def expert_name(self, task_name: str) -> str | None:
        return None if task_name in NO_EXPERT else "babyai_bot"

    def _make_env(self, task_name: str) -> GridEnv:
        return GridEnv(f"{self.name}/{task_name}", gym_id(task_name))


def gym_id(task_name: str) -> str:
    """Returns the id under which minigrid registers a level."""
    return f"BabyAI-{task_name}-{'v1' if task_name == 'GoToObjS6' else 'v0'}"


def _observation(raw: dict[str, Any]) -> Observation:
    return {"mission": raw["mission"], "direction": raw["direction"], "grid": raw["image"]}


SUITES.register("babyai")(BabyAI())
