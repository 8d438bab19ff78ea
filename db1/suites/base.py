"""Interface of suites: tasks by name, each a `TaskEnv` that speaks one `StepSpec`.

A suite is one file in this folder. It subclasses `TaskEnv` (the environment) and `Suite` (the list
of its tasks) and enters one instance with `SUITES.register(name)(instance)`. Its environment
library is imported inside functions, so that listing tasks needs no optional package.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import string
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import gymnasium
import numpy as np

from db1.errors import ConfigError, DataError, MissingExtra, nearest
from db1.registry import Registry
from db1.suites.seeds import COLLECTION
from db1.suites.task_words import TASK_WORDS
from db1.tokens.instruction import Instruction, name_in_words
from db1.tokens.spec import FieldSpec, StepSpec

Observation = dict[str, Any]
StepResult = tuple[Observation, float, bool, bool, dict[str, Any]]


class TaskEnv(gymnasium.Env, ABC):
    """One task as a gymnasium environment over the fields of a `StepSpec`.

    Subclasses write `_reset` and `_step`; this class checks seeds and actions, casts observations
    to the dtypes of the spec and cuts an episode after `max_steps` steps (truncated).

    Args:
        task_id: `suite/task`.
        step_spec: Fields of one step.
        max_steps: The most steps an episode can have; None where the task itself ends it and the
            limit differs between episodes.
        simulator: The environment underneath; experts may look at it.

    Attributes:
        render_mode: `rgb_array` lets `render` draw; None: it returns None.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 15}

    def __init__(
        self, *, task_id: str, step_spec: StepSpec, max_steps: int | None, simulator: Any = None
    ) -> None:
        self.render_mode: str | None = None
        self.task_id = task_id
        self.step_spec = step_spec
        self.max_steps = max_steps
        self.simulator = simulator
        self.num_steps = 0
        self.last_action: Any = None
        """The action that was really executed last; None right after a reset."""
        self._running = False
        self._seen: Observation = {}
        self.observation_space = gymnasium.spaces.Dict(
            {key: _space(field) for key, field in step_spec.observation.items()}
        )
        self.action_space = _action_space(step_spec.action)

    @abstractmethod
    def _reset(self, seed: int) -> tuple[Observation, dict[str, Any]]:
        """Starts the episode that `seed` names; equal seeds give equal episodes."""

    @abstractmethod
    def _step(self, action: Any) -> StepResult:
        """Executes a checked action: an int, or float32 of the action's shape in [-1, 1]."""

    def render_frame(self) -> np.ndarray:
        """The state as a person would watch it: uint8 (H, W, 3) of any size.

        Here: the image that was observed last. Suites whose observations are numbers draw their
        simulation. Never changes the episode.

        Raises:
            DataError: When the task has no picture, or nothing can be drawn here.
        """
        for key, field in self.step_spec.observation.items():
            if field.kind == "image" and key in self._seen:
                return as_rgb(self._seen[key])
        raise DataError(f"{self.task_id}: no picture, its observations are numbers or text")

    def render(self) -> np.ndarray | None:
        """See `gymnasium.Env.render`: uint8 (H, W, 3); `render_frame` draws in any mode."""
        return self.render_frame() if self.render_mode == "rgb_array" else None

    def action_names(self) -> tuple[str, ...] | None:
        """Meaning of each value of a discrete action, in words; None where it is not known."""
        return None

    def native_observation(self, observation: Observation) -> Any:
        """The observation as the environment underneath gave it, for policies written for that.

        Here: the array itself where there is a single field, else the fields by key.
        """
        return next(iter(observation.values())) if len(observation) == 1 else observation

    def from_native_action(self, action: Any) -> Any:
        """Turns an action of the environment underneath into one of the spec; here: as it is."""
        return action

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Starts the episode that `seed` names.

        Args:
            seed: None: the next one of a generator that the last seed started, always among those
                of collection, never one that evaluations use.
            options: Unused.

        Returns:
            The observation by key (arrays of the spec's shape and dtype, text as str) and info.

        Raises:
            DataError: For a negative seed.
        """
        if seed is not None and seed < 0:
            raise DataError(f"{self.task_id}: reset(seed={seed}), expected a seed of at least 0")
        super().reset(seed=None if seed is None else int(seed))
        if seed is None:
            seed = COLLECTION.start + int(self.np_random.integers(len(COLLECTION)))
        self.num_steps = 0
        self.last_action = None
        self._running = True
        observation, info = self._reset(int(seed))
        return self._cast(observation), info

    def step(self, action: Any) -> StepResult:
        """Executes one action; see `gymnasium.Env.step`.

        Raises:
            DataError: When the action lies outside the space, or the episode is over.
        """
        if not self._running:
            raise DataError(f"{self.task_id}: step() outside an episode; call reset(seed=...)")
        checked = self.check_action(action)
        observation, reward, terminated, truncated, info = self._step(checked)
        self.num_steps += 1
        self.last_action = checked
        if self.max_steps is not None and self.num_steps >= self.max_steps and not terminated:
            truncated = True
        self._running = not (terminated or truncated)
        return self._cast(observation), float(reward), bool(terminated), bool(truncated), info

    def check_action(self, action: Any) -> Any:
        """Returns the action as an int or float32 array; DataError when it is no allowed one."""
        where = f"{self.task_id} step {self.num_steps}: action"
        field = self.step_spec.action
        array = np.asarray(action)
        field.check(array, where)
        if field.kind == "discrete":
            if array.dtype.kind not in "iu":
                raise DataError(f"{where}: got dtype {array.dtype}, expected an integer")
            return int(array) if field.shape == () else array.astype(np.int32)
        if np.abs(array).max(initial=0.0) > 1.0:
            raise DataError(
                f"{where}: got {array[np.abs(array) > 1.0].flat[0]}, expected -1..1; "
                f"clip the action before step()"
            )
        return array.astype(np.float32)

    def sample_action(self, rng: np.random.Generator, observation: Observation) -> Any:
        """Draws an action uniformly from those allowed in `observation`."""
        spec = self.step_spec
        if spec.action.kind == "continuous":
            return rng.uniform(-1.0, 1.0, size=spec.action.shape).astype(np.float32)
        if spec.action_mask is None:
            drawn = rng.integers(spec.action.num_values, size=spec.action.shape)
            return int(drawn) if spec.action.shape == () else drawn.astype(np.int32)
        return int(rng.choice(np.flatnonzero(observation[spec.action_mask])))

    def _cast(self, observation: Mapping[str, Any]) -> Observation:
        cast = {}
        for key, field in self.step_spec.observation.items():
            value = observation[key]
            if field.kind != "text":
                value = np.array(value, dtype=field.dtype).reshape(field.shape)
                if field.kind == "continuous" and not np.isfinite(value).all():
                    raise DataError(
                        f"{self.task_id} step {self.num_steps}: observation {key!r} has "
                        f"{int((~np.isfinite(value)).sum())} values not finite; "
                        f"the simulation diverged"
                    )
            cast[key] = value
        self._seen = cast
        return cast


class Suite(ABC):
    """A family of tasks that share one environment library.

    Attributes:
        name: First part of the task ids.
        extra: pip extra of db1 that installs the library.
        packages: Distribution name of each needed package by its import name.
        rules: Version of the rules where db1 itself makes them; raised when returns change.
        instruction_field: Text field of the observation that tells an episode's task in words, the
            same in all its steps; None: there is none.
        is_open: `task_names` lists none or some of the tasks; `check_task` knows the others.
    """

    name: str
    extra: str
    packages: Mapping[str, str] = MappingProxyType({})
    rules: str | None = None
    instruction_field: str | None = None
    is_open: bool = False

    @abstractmethod
    def task_names(self) -> list[str]:
        """Returns the names of all tasks; needs no optional package."""

    @abstractmethod
    def _make_env(self, task_name: str) -> TaskEnv:
        """Builds the environment of a known task; the packages are there."""

    @abstractmethod
    def horizon(self, task_name: str) -> int | None:
        """Returns the most steps an episode can have; None where it differs by episode."""

    def expert_name(self, task_name: str) -> str | None:
        """Returns the name of the task's expert in `db1.experts`; None where there is none."""
        return None

    def words(self, task_name: str) -> str:
        """Returns what the task is to do, in words; for one that db1 has none for, its name."""
        task_id = f"{self.name}/{task_name}"
        return TASK_WORDS.get(task_id) or name_in_words(task_id)

    def instruction(self, task_name: str) -> Instruction:
        """Returns the task in words, and the field in which its episodes say it themselves."""
        return Instruction(text=self.words(task_name), field=self.instruction_field)

    def make_env(self, task_name: str) -> TaskEnv:
        """Builds a task's environment.

        Raises:
            ConfigError: For an unknown task.
            MissingExtra: When the suite's packages are not installed.
        """
        self.require(task_name)
        with _BUILDING:
            return self._make_env(task_name)

    def require(self, task_name: str) -> None:
        """Raises what `make_env` would: ConfigError or MissingExtra, without building anything."""
        self.check_task(task_name)
        absent = self._absent_packages()
        if absent:
            raise MissingExtra(absent[0], self.extra, f"{self.name}/{task_name}")

    def step_spec(self, task_name: str) -> StepSpec:
        """Returns the fields of one step; builds the environment to find out."""
        env = self.make_env(task_name)
        try:
            return env.step_spec
        finally:
            env.close()

    def environment_version(self, task_name: str) -> dict[str, str]:
        """Returns what must agree for returns to be comparable: id, package versions, horizon."""
        self.require(task_name)
        versions = {name: _version(name) for name in self.packages.values()}
        if self.rules is not None:
            versions["rules"] = self.rules
        horizon = self.horizon(task_name)
        return {
            "id": f"{self.name}/{task_name}",
            **versions,
            "horizon": "by episode" if horizon is None else str(horizon),
        }

    def missing(self) -> str | None:
        """Returns why the suite cannot run here, with the pip command; None when it can."""
        return self.packages_missing()

    def packages_missing(self) -> str | None:
        """Returns which package is not installed, with the pip command; None when all are.

        Quick: nothing is imported, drawn or opened to find out.
        """
        absent = self._absent_packages()
        if not absent:
            return None
        return str(MissingExtra(absent[0], self.extra, f"suite {self.name}"))

    def packed_order(self, task_name: str) -> tuple[str, ...]:
        """Keys of the observation in the order in which data sets pack their numbers in one vector.

        Empty where that is not known, or there is one field.
        """
        return ()

    def task_missing(self, task_name: str) -> str | None:
        """Returns why this task cannot run here; None when it can."""
        self.check_task(task_name)
        return self.missing()

    def check_task(self, task_name: str) -> None:
        """Raises ConfigError for a task that the suite does not have."""
        names = self.task_names()
        if task_name not in names:
            raise ConfigError(
                f"unknown task '{self.name}/{task_name}', {self.name} has {len(names)} tasks"
                f"{nearest(task_name, names)}; run `db1 tasks --suite {self.name}`"
            )

    def _absent_packages(self) -> list[str]:
        return [
            package
            for module, package in self.packages.items()
            if importlib.util.find_spec(module) is None
        ]


@functools.cache
def _version(package: str) -> str:
    """Version of an installed package; reading it takes milliseconds, and there are many tasks."""
    return importlib.metadata.version(package)


SUITES: Registry[Suite] = Registry("suite")
_BUILDING = threading.RLock()
"""Threads build one after the other: simulators import each other's modules in circles."""


def rescaled(action: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Maps numbers (...,) in [-1, 1] linearly to [low, high], float64 (...,)."""
    return low + (action.astype(np.float64) + 1.0) / 2.0 * (np.asarray(high, np.float64) - low)


def as_rgb(image: np.ndarray) -> np.ndarray:
    """uint8 (H, W, C) -> (H, W, 3): the newest frame of a stack, for people and for the model.

    Three, six, nine ... channels are colour frames, any other number are grey ones.
    """
    channels = image.shape[2]
    if channels == 3:
        return image
    if channels % 3:
        return np.repeat(image[:, :, -1:], 3, axis=2)
    return image[:, :, -3:]


class TextSpace(gymnasium.spaces.Text):
    """Any text, whatever its length and characters; samples are printable."""

    def __init__(self) -> None:
        super().__init__(max_length=64, min_length=0, charset=string.printable)

    def contains(self, x: Any) -> bool:
        """True for every str."""
        return isinstance(x, str)


def _action_space(field: FieldSpec) -> gymnasium.Space:
    if field.kind == "continuous":
        return gymnasium.spaces.Box(-1.0, 1.0, field.shape, np.float32)
    return _space(field)


def _space(field: FieldSpec) -> gymnasium.Space:
    if field.kind == "text":
        return TextSpace()
    if field.kind == "image":
        return gymnasium.spaces.Box(0, 255, field.shape, np.uint8)
    if field.kind == "continuous":
        return gymnasium.spaces.Box(-np.inf, np.inf, field.shape, np.float32)
    if field.shape == ():
        return gymnasium.spaces.Discrete(field.num_values)
    return gymnasium.spaces.MultiDiscrete(np.full(field.shape, field.num_values), dtype=np.int32)
