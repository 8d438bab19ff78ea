"""DeepMind Lab: 83 levels, through its Python API where it is built.

    observation  `instruction`  text; " " where a level gives none
                 `screen`       80x96x3: the 72x96 view with 4 black rows above and below
    action       9: forward, backward, strafe left and right, look left and right, forward while
                 looking left or right, fire; each held for 4 frames
    reward       the level's; an episode ends when the level says so

DeepMind Lab is in no package registry. It is built from its source with bazel, which makes a
wheel of the module `deepmind_lab`; the levels of psychlab also want the pictures of Brady et al.
(2008).

Source: Beattie et al. 2016, "DeepMind Lab"; actions and image size of the public DB1 release, after
Espeholt et al. 2018, "IMPALA".
"""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np

from db1.errors import DataError
from db1.suites.base import SUITES, Observation, StepResult, Suite, TaskEnv
from db1.suites.frames import padded
from db1.tokens.spec import FieldSpec, StepSpec

HEIGHT, WIDTH = 72, 96
ACTION_REPEAT = 4
MAX_STEPS = 27_000
"""Most steps of an episode, 30 minutes of 60 frames a second; levels end earlier by themselves."""
_LOOK = 20
ACTIONS = (
    # look right, look up, strafe right, move forward, fire, jump, crouch
    (0, 0, 0, 1, 0, 0, 0),
    (0, 0, 0, -1, 0, 0, 0),
    (0, 0, -1, 0, 0, 0, 0),
    (0, 0, 1, 0, 0, 0, 0),
    (-_LOOK, 0, 0, 0, 0, 0, 0),
    (_LOOK, 0, 0, 0, 0, 0, 0),
    (-_LOOK, 0, 0, 1, 0, 0, 0),
    (_LOOK, 0, 0, 1, 0, 0, 0),
    (0, 0, 0, 0, 1, 0, 0),
)
_LEVELS = {
    # folder of the level scripts: their names
    "contributed/dmlab30": (
        "rooms_collect_good_objects_train rooms_exploit_deferred_effects_train "
        "rooms_select_nonmatching_object rooms_exploit_deferred_effects_test "
        "rooms_collect_good_objects_test rooms_watermaze rooms_keys_doors_puzzle "
        "language_select_described_object language_select_located_object "
        "language_execute_random_task language_answer_quantitative_question "
        "lasertag_one_opponent_small lasertag_three_opponents_small lasertag_one_opponent_large "
        "lasertag_three_opponents_large natlab_fixed_large_map natlab_varying_map_regrowth "
        "natlab_varying_map_randomized skymaze_irreversible_path_hard "
        "skymaze_irreversible_path_varied psychlab_arbitrary_visuomotor_mapping "
        "psychlab_continuous_recognition psychlab_sequential_comparison psychlab_visual_search "
        "explore_object_locations_small explore_object_locations_large "
        "explore_obstructed_goals_small explore_obstructed_goals_large "
        "explore_goal_locations_small explore_goal_locations_large explore_object_rewards_few "
        "explore_object_rewards_many"
    ),
    "": (
        "lt_chasm lt_hallway_slope lt_horseshoe_color lt_space_bounce_hard "
        "nav_maze_random_goal_01 nav_maze_random_goal_02 nav_maze_random_goal_03 "
        "nav_maze_static_01 nav_maze_static_02 nav_maze_static_03 seekavoid_arena_01 "
        "stairway_to_melon"
    ),
    "contributed/psychlab": (
        "multiple_object_tracking glass_pattern_detection motion_discrimination_easy odd_one_out "
        "temporal_bisection cued_temporal_production harlow motion_discrimination "
        "temporal_discrimination landoltC_identification multiple_object_tracking_easy "
        "ready_set_go"
    ),
    "contributed/psychlab/memory_suite_01": (
        "arbitrary_visuomotor_mapping_holdout_extrapolate "
        "continuous_recognition_holdout_interpolate explore_goal_locations_interpolate "
        "arbitrary_visuomotor_mapping_holdout_interpolate continuous_recognition_train "
        "explore_goal_locations_train_large arbitrary_visuomotor_mapping_train "
        "explore_goal_locations_extrapolate explore_goal_locations_train_small "
        "change_detection_holdout_extrapolate explore_goal_locations_holdout_extrapolate "
        "what_then_where_holdout_interpolate change_detection_holdout_interpolate "
        "explore_goal_locations_holdout_interpolate what_then_where_train change_detection_train "
        "explore_goal_locations_holdout_large continuous_recognition_holdout_extrapolate "
        "explore_goal_locations_holdout_small"
    ),
    "contributed/psychlab/visuospatial_suite": (
        "memory_guided_saccade pathfinder pursuit visually_guided_antisaccade "
        "visually_guided_prosaccade visual_match"
    ),
    "contributed/fast_mapping": ("fast_mapping_train slow_mapping_train"),
}
TASKS = {
    name: f"{folder}/{name}" if folder else name
    for folder, names in _LEVELS.items()
    for name in names.split()
}
"""Level script by task name."""
HOW_TO_BUILD = (
    "suite dmlab needs the module deepmind_lab, which no registry has; build it: "
    "git clone https://github.com/google-deepmind/lab && cd lab && "
    "bazel build -c opt //python/pip_package:build_pip_package && "
    "./bazel-bin/python/pip_package/build_pip_package /tmp/dmlab && pip install /tmp/dmlab/*.whl"
)
_SCREEN, _INSTRUCTION = "RGB_INTERLEAVED", "INSTR"


class DmlabEnv(TaskEnv):
    """One level.

    Args:
        task_id: `dmlab/<level>`.
        simulator: A `deepmind_lab.Lab` that observes RGB_INTERLEAVED and INSTR.
    """

    def __init__(self, task_id: str, simulator: Any) -> None:
        spec = StepSpec(
            observation={
                "instruction": FieldSpec(kind="text"),
                "screen": FieldSpec(kind="image", shape=(80, WIDTH, 3)),
            },
            action=FieldSpec(kind="discrete", num_values=len(ACTIONS)),
        )
        super().__init__(task_id=task_id, step_spec=spec, max_steps=MAX_STEPS, simulator=simulator)
        self._last: Observation = {}

    def _reset(self, seed: int) -> tuple[Observation, dict[str, Any]]:
        self.simulator.reset(seed=seed)
        self._last = self._observe()
        return self._last, {}

    def _step(self, action: int) -> StepResult:
        reward = self.simulator.step(np.array(ACTIONS[action], np.intc), num_steps=ACTION_REPEAT)
        running = bool(self.simulator.is_running())
        if running:  # a level that is over has nothing to see
            self._last = self._observe()
        return self._last, reward, not running, False, {}

    def _observe(self) -> Observation:
        raw = self.simulator.observations()
        instruction = raw[_INSTRUCTION]
        text = instruction.decode() if isinstance(instruction, bytes) else str(instruction)
        return {"instruction": text or " ", "screen": padded(raw[_SCREEN])}

    def close(self) -> None:
        self.simulator.close()


class Dmlab(Suite):
    """The levels that the public DB1 release lists."""

    name = "dmlab"
    extra = "dmlab"

    def task_names(self) -> list[str]:
        return list(TASKS)

    def horizon(self, task_name: str) -> int:
        return MAX_STEPS

    def missing(self) -> str | None:
        """Returns how to build DeepMind Lab; None where it is installed."""
        return None if importlib.util.find_spec("deepmind_lab") else HOW_TO_BUILD

    def require(self, task_name: str) -> None:
        """Raises what `make_env` would, without building anything."""
        self.check_task(task_name)
        if (reason := self.missing()) is not None:
            raise DataError(reason)

    def _make_env(self, task_name: str) -> DmlabEnv:
        import deepmind_lab

        simulator = deepmind_lab.Lab(
            TASKS[task_name],
            [_SCREEN, _INSTRUCTION],
            config={"width": str(WIDTH), "height": str(HEIGHT), "logLevel": "WARN"},
        )
        return DmlabEnv(f"{self.name}/{task_name}", simulator)


SUITES.register("dmlab")(Dmlab())
