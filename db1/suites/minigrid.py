"""The MiniGrid tasks of minigrid 3.2.0: the grid world of BabyAI with other goals.

    observation  `mission`    text, the same in every step of an episode
                 `direction`  discrete 0..3: right, down, left, up
                 `grid`       7x7x3 discrete 0..10: type, colour and state of each visible cell
    action       7 values: left, right, forward, pickup, drop, toggle, done; 3 with obstacles
    reward       1 - 0.9 steps / limit when the goal is reached, else 0; -1 for running into a
                 moving obstacle

Left out: tasks that start every episode alike (Empty without Random, DistShift), versions that
newer ones replace, and the WFC mazes, whose patterns the package lacks.
"""

from __future__ import annotations

from types import MappingProxyType

from db1.suites.babyai import GridEnv
from db1.suites.base import SUITES, Suite

_NAMES = (
    "BlockedUnlockPickup-v0 LavaCrossingS9N1-v0 LavaCrossingS9N2-v0 LavaCrossingS9N3-v0 "
    "LavaCrossingS11N5-v0 SimpleCrossingS9N1-v0 SimpleCrossingS9N2-v0 SimpleCrossingS9N3-v0 "
    "SimpleCrossingS11N5-v0 DoorKey-5x5-v0 DoorKey-6x6-v0 DoorKey-8x8-v0 DoorKey-16x16-v0 "
    "Dynamic-Obstacles-5x5-v0 Dynamic-Obstacles-Random-5x5-v0 Dynamic-Obstacles-6x6-v0 "
    "Dynamic-Obstacles-Random-6x6-v0 Dynamic-Obstacles-8x8-v0 Dynamic-Obstacles-16x16-v0 "
    "Empty-Random-5x5-v0 Empty-Random-6x6-v0 Fetch-5x5-N2-v0 Fetch-6x6-N2-v0 Fetch-8x8-N3-v0 "
    "FourRooms-v0 GoToDoor-5x5-v0 GoToDoor-6x6-v0 GoToDoor-8x8-v0 GoToObject-6x6-N2-v0 "
    "GoToObject-8x8-N2-v0 KeyCorridorS3R1-v0 KeyCorridorS3R2-v0 KeyCorridorS3R3-v0 "
    "KeyCorridorS4R3-v0 KeyCorridorS5R3-v0 KeyCorridorS6R3-v0 LavaGapS5-v0 LavaGapS6-v0 "
    "LavaGapS7-v0 LockedRoom-v0 MemoryS17Random-v0 MemoryS13Random-v0 MemoryS13-v0 MemoryS11-v0 "
    "MemoryS9-v0 MemoryS7-v0 MultiRoom-N2-S4-v0 MultiRoom-N4-S5-v1 MultiRoom-N6-v0 "
    "ObstructedMaze-1Dl-v0 ObstructedMaze-1Dlh-v0 ObstructedMaze-1Dlhb-v0 ObstructedMaze-2Dl-v0 "
    "ObstructedMaze-2Dlh-v0 ObstructedMaze-2Dlhb-v1 ObstructedMaze-1Q-v1 ObstructedMaze-2Q-v1 "
    "ObstructedMaze-Full-v1 Playground-v0 PutNear-6x6-N2-v0 PutNear-8x8-N3-v0 RedBlueDoors-6x6-v0 "
    "RedBlueDoors-8x8-v0 Unlock-v0 UnlockPickup-v0"
)
TASKS = tuple(_NAMES.split())
NO_EXPERT = frozenset({"Playground-v0"})
"""Tasks without any goal."""
_OTHER_EXPERTS = {
    # start of the tasks' names: expert
    "Memory": "minigrid_memory_planner",
    "Dynamic-Obstacles": "minigrid_obstacle_planner",
}


class MiniGrid(Suite):
    """Tasks of minigrid beside BabyAI; a task is named without `MiniGrid-`."""

    name = "minigrid"
    extra = "babyai"
    packages = MappingProxyType({"minigrid": "minigrid"})
    instruction_field = "mission"

    def task_names(self) -> list[str]:
        return list(TASKS)

    def horizon(self, task_name: str) -> None:
        return None

    def expert_name(self, task_name: str) -> str | None:
        if task_name in NO_EXPERT:
            return None
        for start, name in _OTHER_EXPERTS.items():
            if task_name.startswith(start):
                return name
        return "minigrid_planner"

    def _make_env(self, task_name: str) -> GridEnv:
        return GridEnv(f"{self.name}/{task_name}", f"MiniGrid-{task_name}")


SUITES.register("minigrid")(MiniGrid())
