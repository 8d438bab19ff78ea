"""Any environment that is registered with Gymnasium: `gym/<id>`.

    gym/CartPole-v1
    gym/minigrid:MiniGrid-Empty-8x8-v0     the module in front registers it when it is imported
    gym/my_environment:Lamp-v0             my_environment.py in the working folder does, too

Fields follow from its spaces (`spaces.py`). An episode ends as the environment says, after
`max_episode_steps` of its registration, or after 10,000 steps where it has none. `success` is what
its info says under `success` or `is_success`.
"""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import gymnasium
import numpy as np

from db1.errors import ConfigError, DataError, Db1Error, nearest
from db1.runtime import draw_off_screen
from db1.suites.base import SUITES, Observation, StepResult, Suite, TaskEnv
from db1.suites.known_code import remember
from db1.suites.plugins import import_place
from db1.suites.spaces import StepAdapter

LONGEST = 10_000
"""Steps after which an episode without a limit of its own is cut off."""
_SUCCESS = ("success", "is_success")


class GymEnv(TaskEnv):
    """A registered environment behind the fields of a step.

    Args:
        task_id: `gym/<id>`.
        env: As `gymnasium.make` gives it.
        max_steps: Steps after which an episode is cut off.

    Raises:
        DataError: When its spaces cannot be expressed in tokens.
    """

    def __init__(self, task_id: str, env: gymnasium.Env, max_steps: int) -> None:
        self._adapter = StepAdapter(env.observation_space, env.action_space, task_id)
        spec = self._adapter.spec
        super().__init__(task_id=task_id, step_spec=spec, max_steps=max_steps, simulator=env)
        self._native: Any = None

    def _reset(self, seed: int) -> tuple[Observation, dict[str, Any]]:
        self._native, info = self.simulator.reset(seed=seed)
        return self._adapter.read(self._native), self._info(info)

    def _step(self, action: Any) -> StepResult:
        native = self._adapter.to_native(action)
        self._native, reward, terminated, truncated, info = self.simulator.step(native)
        observation = self._adapter.read(self._native)
        return observation, reward, terminated, truncated and not terminated, self._info(info)

    def native_observation(self, observation: Observation) -> Any:
        return self._native

    def from_native_action(self, action: Any) -> Any:
        return self._adapter.from_native(action)

    def render_frame(self) -> np.ndarray:
        """The environment's own `rgb_array`, or the image observed last: uint8 (H, W, 3)."""
        if self.simulator.render_mode != "rgb_array":
            return super().render_frame()
        draw_off_screen()
        return np.asarray(self.simulator.render(), dtype=np.uint8)

    def close(self) -> None:
        self.simulator.close()

    def _info(self, info: Mapping[str, Any]) -> dict[str, Any]:
        told = next((info[key] for key in _SUCCESS if key in info), None)
        rest = {key: value for key, value in info.items() if key not in _SUCCESS}
        return rest if told is None else rest | {"success": bool(told)}


class Gym(Suite):
    """Every registered environment of Gymnasium; none is listed, all can be named."""

    name = "gym"
    extra = "all"
    packages = MappingProxyType({"gymnasium": "gymnasium"})
    is_open = True

    def task_names(self) -> list[str]:
        return []

    def check_task(self, task_name: str) -> None:
        """Raises ConfigError for an id that is not registered, or whose module fails."""
        registration(task_name)

    def horizon(self, task_name: str) -> int:
        return registration(task_name).max_episode_steps or LONGEST

    def environment_version(self, task_name: str) -> dict[str, str]:
        spec = registration(task_name)
        module = str(spec.entry_point).split(":")[0].split(".")[0]
        package, version = _distribution(module)
        return {
            "id": f"{self.name}/{task_name}",
            "gymnasium": importlib.metadata.version("gymnasium"),
            package: version,
            "horizon": str(self.horizon(task_name)),
        }

    def _make_env(self, task_name: str) -> GymEnv:
        task_id = f"{self.name}/{task_name}"
        spec = registration(task_name)
        draw_off_screen()
        try:
            mode = {"render_mode": "rgb_array"} if _draws(spec) else {}
            env = gymnasium.make(spec, disable_env_checker=True, **mode)
        except Db1Error:
            raise
        except Exception as error:  # whatever somebody else's environment raises
            raise _unmade(task_id, error) from error
        return GymEnv(task_id, env, self.horizon(task_name))


def registration(task_name: str) -> Any:
    """Gymnasium's `EnvSpec` of `[module:]id`; imports the module.

    Raises:
        ConfigError: For an id that is not registered, or a module that cannot be imported.
    """
    module, colon, name = task_name.rpartition(":")
    if colon:
        _import_module(module, f"gym/{task_name}")
    try:
        return gymnasium.spec(name)
    except gymnasium.error.Error:
        known = gymnasium.registry
        raise ConfigError(
            f"gym/{task_name}: no environment {name!r} is registered with Gymnasium"
            f"{nearest(name, known)}; a module that registers it goes in front: gym/MODULE:{name}"
        ) from None


def _import_module(name: str, where: str) -> None:
    """Imports the module in front of an id.

    Raises:
        ConfigError: When it is not there, or raises while it is imported.
    """
    draw_off_screen()
    remember(name)
    try:
        import_place(name)
    except Exception as error:  # a module may raise anything
        reason = f"{type(error).__name__}: {error}"
        raise ConfigError(
            f"{where}: the module {name!r} cannot be imported ({reason}); it must be installed, or "
            f"be {name}.py in {Path.cwd()}"
        ) from error


def _draws(spec: Any) -> bool:
    """Tells whether an environment can be made with images."""
    point = spec.entry_point
    creator = point if callable(point) else gymnasium.envs.registration.load_env_creator(point)
    metadata = getattr(creator, "metadata", None)
    return isinstance(metadata, Mapping) and "rgb_array" in (metadata.get("render_modes") or ())


def _unmade(task_id: str, error: Exception) -> Db1Error:
    reason = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, ModuleNotFoundError) and error.name:
        reason = f"the package {error.name!r} is not installed; run: pip install {error.name}"
        return DataError(f"{task_id}: {reason}")
    return DataError(f"{task_id}: cannot be made ({type(error).__name__}: {reason})")


@cache
def _distribution(module: str) -> tuple[str, str]:
    """Name and version of the installed package that brings a module; `local` for a file."""
    for name in importlib.metadata.packages_distributions().get(module, ()):
        return name, importlib.metadata.version(name)
    return module, str(getattr(sys.modules.get(module), "__version__", "local"))


SUITES.register("gym")(Gym())
