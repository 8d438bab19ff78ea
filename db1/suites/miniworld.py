"""MiniWorld 2.1: rooms and mazes seen from the first person.

    observation  `screen` 64x80x3: the 60x80 view, padded; Sign has also `goal`, the colour to
                 look for (0 blue, 1 red, 2 green)
    action       the first 3 to 8 of: left, right, forward, back, pick up, drop, toggle, done
    reward       1 - 0.2 steps / limit at the goal, else 0 (CollectHealth: 2 a step alive; Sign: 1
                 or -1)
    success      a reward at the end (not told in CollectHealth and ThreeRooms, which have no goal)

RoomObjects is left out: it has neither goal nor end.

Source: Chevalier-Boisvert et al. 2023, "Minigrid & Miniworld".
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any

from db1.errors import DataError
from db1.suites.base import SUITES, Observation, StepResult, Suite, TaskEnv
from db1.suites.frames import padded
from db1.tokens.spec import FieldSpec, StepSpec

TASKS = {
    # name: steps of an episode
    "CollectHealth": 1000,
    "FourRooms": 250,
    "Hallway": 250,
    "Maze": 1536,
    "MazeS2": 96,
    "MazeS3": 216,
    "MazeS3Fast": 300,
    "OneRoom": 180,
    "OneRoomS6": 100,
    "OneRoomS6Fast": 50,
    "PickupObjects": 400,
    "PutNext": 250,
    "Sidewalk": 150,
    "Sign": 20,
    "TMaze": 280,
    "TMazeLeft": 280,
    "TMazeRight": 280,
    "ThreeRooms": 400,
    "WallGap": 300,
    "YMaze": 280,
    "YMazeLeft": 280,
    "YMazeRight": 280,
}
NUM_COLOURS = 3
NO_EXPERT = frozenset({"CollectHealth", "PutNext", "ThreeRooms"})
"""In CollectHealth the collector starves now and then; ThreeRooms has no reward."""
WITHOUT_GOAL = frozenset({"CollectHealth", "ThreeRooms"})
_COLLECTING = frozenset({"PickupObjects"})


@dataclass
class Drawing:
    """Owner of the walls in OpenGL's display list, which all environments share."""

    owner: Any = None


class MiniWorldEnv(TaskEnv):
    """One MiniWorld task.

    Args:
        task_id: `miniworld/<name>`.
        simulator: The environment of miniworld.
        max_steps: Steps until the episode is cut.
        drawing: Shared by all environments of the process.
    """

    def __init__(self, task_id: str, simulator: Any, max_steps: int, drawing: Drawing) -> None:
        observation = {"screen": FieldSpec(kind="image", shape=(64, 80, 3))}
        self._has_goal = hasattr(simulator.observation_space, "spaces")
        if self._has_goal:
            observation["goal"] = FieldSpec(kind="discrete", num_values=NUM_COLOURS)
        action = FieldSpec(kind="discrete", num_values=int(simulator.action_space.n))
        spec = StepSpec(observation=observation, action=action)
        super().__init__(task_id=task_id, step_spec=spec, max_steps=max_steps, simulator=simulator)
        self._drawing = drawing

    def _reset(self, seed: int) -> tuple[Observation, dict[str, Any]]:
        self.simulator.shadow_window.switch_to()
        raw, _ = self.simulator.reset(seed=seed)
        self._drawing.owner = self
        return self._observe(raw), self._success(False)

    def _step(self, action: int) -> StepResult:
        if self._drawing.owner is not self:
            self.simulator.shadow_window.switch_to()
            self.simulator._render_static()
            self._drawing.owner = self
        raw, reward, terminated, truncated, _ = self.simulator.step(action)
        success = self._success(bool(terminated and reward > 0))
        return self._observe(raw), reward, terminated, truncated and not terminated, success

    def _success(self, reached: bool) -> dict[str, Any]:
        return {} if self.task_id.partition("/")[2] in WITHOUT_GOAL else {"success": reached}

    def _observe(self, raw: Any) -> Observation:
        if self._has_goal:
            return {"screen": padded(raw["obs"]), "goal": raw["goal"]}
        return {"screen": padded(raw)}

    def close(self) -> None:
        """Deletes the frame buffers too, 36 MB that miniworld keeps."""
        if self.simulator is None:
            return
        self.simulator.shadow_window.switch_to()
        for frame_buffer in (self.simulator.obs_fb, self.simulator.vis_fb):
            for number in (frame_buffer.multi_fbo, frame_buffer.final_fbo):
                _delete_frame_buffer(number)
        self.simulator.close()
        self.simulator.shadow_window.close()
        if self._drawing.owner is self:
            self._drawing.owner = None
        self.simulator = None


class MiniWorld(Suite):
    """MiniWorld's tasks, drawn without a display."""

    name = "miniworld"
    extra = "miniworld"
    packages = MappingProxyType({"miniworld": "miniworld", "pyglet": "pyglet"})

    def __init__(self) -> None:
        self._drawing = Drawing()

    def task_names(self) -> list[str]:
        return list(TASKS)

    def horizon(self, task_name: str) -> int:
        return TASKS[task_name]

    def expert_name(self, task_name: str) -> str | None:
        if task_name in NO_EXPERT:
            return None
        return "miniworld_collector" if task_name in _COLLECTING else "miniworld_navigator"

    def missing(self) -> str | None:
        """Returns why the suite cannot run here: its packages, or OpenGL."""
        return super().missing() or _opengl_failure()

    def _make_env(self, task_name: str) -> MiniWorldEnv:
        import gymnasium

        if (reason := self.missing()) is not None:
            raise DataError(reason)
        name = f"MiniWorld-{task_name}-v0"
        simulator = gymnasium.make(name, disable_env_checker=True).unwrapped
        return MiniWorldEnv(f"{self.name}/{task_name}", simulator, TASKS[task_name], self._drawing)


def _delete_frame_buffer(number: Any) -> None:
    """Deletes a frame buffer of the current context with the texture and depth buffer in it."""
    from pyglet import gl

    gl.glBindFramebuffer(gl.GL_FRAMEBUFFER, number)
    attached = gl.GLint()
    for place, delete in (
        (gl.GL_COLOR_ATTACHMENT0, gl.glDeleteTextures),
        (gl.GL_DEPTH_ATTACHMENT, gl.glDeleteRenderbuffers),
    ):
        gl.glGetFramebufferAttachmentParameteriv(
            gl.GL_FRAMEBUFFER, place, gl.GL_FRAMEBUFFER_ATTACHMENT_OBJECT_NAME, attached
        )
        delete(1, gl.GLuint(attached.value))
    gl.glBindFramebuffer(gl.GL_FRAMEBUFFER, 0)
    gl.glDeleteFramebuffers(1, number)


@cache
def _opengl_failure() -> str | None:
    """Returns why miniworld cannot draw here; None when its import opens a context."""
    import pyglet

    pyglet.options["headless"] = True  # read once, when pyglet.window is imported
    try:
        import miniworld  # noqa: F401  (registers the tasks)
        import pyglet.gl
    except Exception as error:
        return (
            f"suite miniworld cannot draw without a display ({error}); "
            "run: apt-get install -y libegl1 libegl-mesa0 libgl1 libglu1-mesa"
        )
    return None


SUITES.register("miniworld")(MiniWorld())
