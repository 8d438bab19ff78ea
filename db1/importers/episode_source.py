"""Interface between readers of foreign episodes and `import_episodes`; the options they share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from db1.errors import ConfigError, DataError, check_one_of
from db1.formats.fields import BadEpisode, SourceField
from db1.formats.pictures import CHANNELS, FRAMES
from db1.importers.registry import option
from db1.ranges import Checked, Count, NonNegative, Range
from db1.store.frames import IMAGE_FORMATS, RAW

DATA = "data"


@dataclass(frozen=True, kw_only=True)
class EpisodeOptions(Checked):
    """Options of all kinds of episodes.

    `clip_actions`, `skip_bad` and `max_episodes` may differ between runs that fill one store; the
    others are part of it.
    """

    task: str | None = option(
        None, "Task id suite/task of the store; a task of db1 fixes the fields of its steps."
    )
    max_episodes: Count | None = option(None, "Store at most this many episodes.")
    min_return_share: NonNegative | None = option(
        None, "Keep only episodes with this share of the expert's return (Gato: 0.8)."
    )
    expert_return: float | None = option(
        None, "The expert's return, instead of a published one or the best of the data."
    )
    clip_actions: bool = option(
        False, "Clip actions to their space (and count them) instead of refusing them."
    )
    skip_bad: bool = option(False, "Leave out broken episodes (counted) instead of stopping.")
    action_low: float | None = option(None, "Smallest action value, instead of the source's.")
    action_high: float | None = option(None, "Largest action value, instead of the source's.")
    action_bounds: str | None = option(
        None, "`data`: the smallest and largest action of the data become -1 and 1."
    )
    num_actions: Count | None = option(
        None, "Number of discrete actions, instead of the source's or the largest found."
    )
    image_size: Annotated[int, Range(least=16, most=16_384)] | None = option(
        None,
        "Resize images to this many pixels a side; default: pad with zeros to multiples of 16.",
    )
    frames: str = option(
        FRAMES[0],
        "Several channels that are grey frames: keep the `newest`, or `stack` three. `grey` and "
        "`grey-max` (of two steps) are what db1's Atari tasks show of colours.",
    )
    channels: str | None = option(
        None,
        "What two, four or more channels are: `grey` frames, `colour` frames (the newest is kept), "
        "or `rgba` (the alpha is dropped); asked for where it is not clear.",
    )
    order: str | None = option(
        None,
        "Keys of the task in the order in which the source packs their numbers in one vector, "
        "with commas.",
    )
    image_format: str = option(RAW, f"How images lie on disk: {', '.join(IMAGE_FORMATS)}.")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_one_of("--frames", self.frames, FRAMES)
        if self.channels is not None:
            check_one_of("--channels", self.channels, CHANNELS)
        if self.channels in ("colour", "rgba") and self.frames != FRAMES[0]:
            raise ConfigError(f"--frames and --channels {self.channels}: give one of them")
        if (self.action_low is None) != (self.action_high is None):
            raise ConfigError("--action-low and --action-high: give both or neither")
        if self.action_bounds not in (None, DATA):
            raise ConfigError(f"--action-bounds: got {self.action_bounds!r}, expected {DATA}")
        if self.action_bounds is not None and self.action_low is not None:
            raise ConfigError("--action-bounds and --action-low: give one of them")
        check_one_of("--image-format", self.image_format, IMAGE_FORMATS)

    @property
    def pictures(self) -> str | None:
        """Treatment of channels, as `Picture.of` takes it; None: not specified."""
        if self.channels in ("colour", "rgba"):
            return self.channels
        is_said = self.channels == "grey" or self.frames != FRAMES[0]
        return self.frames if is_said else None

    def lasting(self) -> dict[str, Any]:
        """The options that shape the stored episodes, where they are not the default."""
        transient = {"task", "max_episodes", "clip_actions", "skip_bad", "image_format"}
        default = asdict(type(self)())
        return {
            key: str(value) if isinstance(value, Path) else value
            for key, value in asdict(self).items()
            if key not in transient and value != default[key]
        }


@dataclass(frozen=True, kw_only=True)
class SourceEpisode:
    """One episode as the source has it.

    Args:
        observations: By source key, T steps on the first axis; one further, final observation is
            allowed.
        actions: T actions.
        rewards: T numbers.
        terminated: The task itself ended.
        truncated: A time limit ended it.
        seed: Of the environment's reset; -1 when unknown.
        success: Whether the task was solved; None when unknown.
        metadata: Kept with the episode; JSON-able.
    """

    observations: Mapping[str, Any]
    actions: Any
    rewards: Any
    terminated: bool = False
    truncated: bool = False
    seed: int = -1
    success: bool | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


Load = Callable[[], SourceEpisode]


class EpisodeSource(ABC):
    """Episodes of one task in a foreign format.

    Attributes:
        name: Data set id or absolute path.
        task: Task id that the source suggests; None when it names none.
        observation: Observation field by source key.
        action: The action field.
        origin: Kept in the store's header: kind, name, version, licence, ... (JSON-able).
        num_episodes: Number of episodes.
        references: Published `random` and `expert` returns, as far as known.
        notes: Sentences for the user, such as about what is ignored.
    """

    name: str
    task: str | None = None
    observation: Mapping[str, SourceField]
    action: SourceField
    origin: Mapping[str, Any]
    num_episodes: int
    references: Mapping[str, float] = {}
    notes: tuple[str, ...] = ()
    packed_by_key: bool = False
    """Numbers of several fields lie in one vector in alphabetical order of the task's keys."""

    @abstractmethod
    def episodes(self, first: int) -> Iterator[Load]:
        """Yields what loads the episodes `first`, `first` + 1, ...

        A load raises BadEpisode when that episode alone is broken.
        """

    @abstractmethod
    def returns(self) -> Iterator[float]:
        """Yields the return of every episode, reading no more than it must."""

    def action_range(self) -> tuple[np.ndarray, np.ndarray]:
        """Smallest and largest values of continuous actions over all episodes, float64 (*shape,).

        Raises:
            DataError: No episode with a step.
        """
        low, high = None, None
        for load in self.episodes(0):
            try:
                actions = np.asarray(load().actions, np.float64)
            except BadEpisode:
                continue  # the import says so when it comes there
            if len(actions):
                here = actions.min(axis=0), actions.max(axis=0)
                low = here[0] if low is None else np.minimum(low, here[0])
                high = here[1] if high is None else np.maximum(high, here[1])
        if low is None or high is None:
            raise DataError(f"{self.name}: no episode with a step")
        return low, high

    def close(self) -> None:  # noqa: B027  (most sources hold no file open)
        """Lets the files go."""


def action_field(inferred: SourceField, options: EpisodeOptions) -> SourceField:
    """Applies --action-low, --action-high and --num-actions to what the source says."""
    if inferred.kind == "continuous" and options.action_low is not None:
        return replace(inferred, low=None, high=None).with_bounds(
            options.action_low, options.action_high, "--action-low and --action-high"
        )
    if inferred.kind == "discrete" and options.num_actions is not None:
        return replace(inferred, num_values=options.num_actions)
    return inferred


def reward_array(rewards: Any) -> np.ndarray:
    """Rewards as numbers (T,), from (T,) or (T, 1)."""
    array = np.asarray(rewards)
    return array.reshape(len(array)) if array.ndim == 2 and array.shape[1] == 1 else array
