"""Spec of one step of a task: the contract between suites, stores, sequences and policies.

A *field* is one array of a step (an observation entry or the action). A *step* has named
observation fields and one action field. An *episode* holds the arrays of all its steps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from db1.errors import DataError
from db1.json_shape import check_shape

KINDS = ("text", "image", "discrete", "continuous")
_DTYPES = {"text": "object", "image": "uint8", "discrete": "int32", "continuous": "float32"}


PATCH_SIZE = 16
"""Side of an image patch in pixels (Gato; released DB1 model)."""
MAX_SIZE = 1 << 31
"""Numbers in one field of a step."""
_FIELD_SHAPE = {"kind": str, "shape?": [int], "num_values?": (int, type(None))}
_SPEC_SHAPE = {
    "observation": {str: _FIELD_SHAPE},
    "action": _FIELD_SHAPE,
    "action_mask?": (str, type(None)),
}


@dataclass(frozen=True, kw_only=True)
class FieldSpec:
    """One array of a step.

    Args:
        kind: `text` (a str), `image` (uint8, shape (H, W, C), H and W multiples of 16),
            `discrete` (int32, each value in [0, num_values)) or `continuous` (float32).
        shape: Shape of one step's value; () for text and single numbers.
        num_values: Number of values a discrete field can take, at most 1,024; else None.

    Raises:
        DataError: For an unknown kind, or a shape or count that does not fit it.
    """

    kind: str
    shape: tuple[int, ...] = ()
    num_values: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        if any(n < 0 for n in self.shape) or math.prod(self.shape) > MAX_SIZE:
            raise DataError(f"shape {self.shape}, expected at most {MAX_SIZE:,} numbers in a step")
        if self.num_values is not None and self.num_values < 1:
            raise DataError(f"num_values {self.num_values}, expected at least 1")
        if self.kind not in KINDS:
            raise DataError(f"field kind {self.kind!r}, expected one of {KINDS}")
        if (self.kind == "discrete") != (self.num_values is not None):
            raise DataError(f"num_values {self.num_values} does not fit a {self.kind} field")
        if self.kind == "image" and (
            len(self.shape) != 3 or any(n % PATCH_SIZE for n in self.shape[:2])
        ):
            raise DataError(
                f"image shape {self.shape}, expected (height, width, channels) in multiples "
                f"of {PATCH_SIZE} pixels; let the suite resize or pad it"
            )

    @property
    def dtype(self) -> np.dtype:
        """NumPy dtype of the field's stored values (object for text)."""
        return np.dtype(_DTYPES[self.kind])

    @property
    def size(self) -> int:
        """Number of scalars in one step's value."""
        return int(np.prod(self.shape, dtype=np.int64))

    def check(self, value: Any, where: str) -> None:
        """Raises DataError unless `value` (one step) lies in the field; `where` names its place."""
        if self.kind == "text":
            if not isinstance(value, str):
                raise DataError(f"{where}: got {type(value).__name__}, expected a str")
            return
        array = np.asarray(value)
        if array.shape != self.shape:
            raise DataError(f"{where}: got shape {array.shape}, expected {self.shape}")
        self.check_values(array, where)

    def check_values(self, values: np.ndarray, where: str) -> None:
        """Raises DataError unless every number in `values` (...,) lies in the field."""
        if self.kind == "discrete":
            bad = (values < 0) | (values >= self.num_values)
            if bad.any():
                raise DataError(
                    f"{where}: value {values[bad].flat[0]}, expected 0..{self.num_values - 1}"
                )
        elif self.kind == "continuous" and not np.isfinite(values).all():
            raise DataError(f"{where}: {int((~np.isfinite(values)).sum())} values not finite")


@dataclass(frozen=True, kw_only=True)
class StepSpec:
    """Fields of one environment step.

    Args:
        observation: Field by key. In the token sequence text comes first, then images, then
            numbers, each group in lexicographic order of its keys.
        action: The action field: `discrete` or `continuous`. Continuous actions are in [-1, 1];
            a suite rescales an environment that has other bounds.
        action_mask: Key of a discrete observation field of 0/1 with one entry for each value of a
            discrete action; only actions with a 1 may be taken. None: all may.
    """

    observation: Mapping[str, FieldSpec]
    action: FieldSpec
    action_mask: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "observation", dict(sorted(self.observation.items())))
        if self.action.kind not in ("discrete", "continuous"):
            raise DataError(f"action kind {self.action.kind!r}, expected discrete or continuous")
        if not self.observation:
            raise DataError("a step needs at least one observation field")
        if self.action_mask is not None:
            mask = self.observation.get(self.action_mask)
            if mask is None or mask.size != self.action.num_values:
                raise DataError(
                    f"action_mask {self.action_mask!r} must name an observation field with "
                    f"{self.action.num_values} entries"
                )

    def to_dict(self) -> dict[str, Any]:
        """Returns a JSON-able description; `from_dict` reads it back."""
        return {
            "observation": {key: asdict(spec) for key, spec in self.observation.items()},
            "action": asdict(self.action),
            "action_mask": self.action_mask,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> StepSpec:
        """Builds the spec that `to_dict` described.

        Raises:
            DataError: It has another shape, or describes fields that cannot be.
        """
        check_shape(data, _SPEC_SHAPE, "step spec")
        return cls(
            observation={key: FieldSpec(**value) for key, value in data["observation"].items()},
            action=FieldSpec(**data["action"]),
            action_mask=data.get("action_mask"),
        )


@dataclass(frozen=True, kw_only=True)
class Episode:
    """One episode, or a stretch of one.

    Args:
        observations: Array by key, first axis the T steps; text is an object array of str (T,).
        actions: The actions that a learner should imitate, shape (T, *action shape).
        rewards: float32 (T,).
        seed: Seed that the environment was reset with; -1 when unknown.
        terminated: True when the task itself ended (not a time limit).
        success: Whether the task reports success; None where it has no such notion.
        metadata: What else is known about the whole episode, JSON-able and small; stores keep it.
    """

    observations: Mapping[str, np.ndarray]
    actions: np.ndarray
    rewards: np.ndarray
    seed: int = -1
    terminated: bool = False
    success: bool | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.actions)

    @property
    def total_reward(self) -> float:
        """The undiscounted return."""
        return float(np.sum(self.rewards, dtype=np.float64))

    def check(self, spec: StepSpec, where: str) -> None:
        """Raises DataError unless every array has the spec's shape, and its values lie in it."""
        if set(self.observations) != set(spec.observation):
            raise DataError(
                f"{where}: observation keys {sorted(self.observations)}, "
                f"expected {sorted(spec.observation)}"
            )
        if len(self) == 0:
            raise DataError(f"{where}: an episode of length 0")
        arrays = {
            f"observation {key!r}": (self.observations[key], spec.observation[key])
            for key in spec.observation
        }
        arrays["action"] = (self.actions, spec.action)
        for name, (values, field_spec) in arrays.items():
            if values.shape != (len(self), *field_spec.shape):
                raise DataError(
                    f"{where}: {name} has shape {values.shape}, "
                    f"expected {(len(self), *field_spec.shape)}"
                )
            field_spec.check_values(values, f"{where}: {name}")
        if self.rewards.shape != (len(self),) or not np.isfinite(self.rewards).all():
            raise DataError(f"{where}: rewards must be {len(self)} finite numbers")


def num_patches(height: int, width: int, patch_size: int) -> int:
    """Number of patches of an image, row-major.

    Raises:
        DataError: When a side is not a multiple of the patch.
    """
    if height % patch_size or width % patch_size:
        raise DataError(
            f"image of {height}x{width} pixels, expected multiples of the patch size {patch_size}; "
            "let the suite resize or pad it"
        )
    return (height // patch_size) * (width // patch_size)
