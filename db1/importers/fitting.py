"""From a source's fields to the step spec of the store, or to one of db1's own tasks.

Without a known spec every field keeps its key. With one, fields are matched by key where all keys
agree, else by kind: texts and images pair up in the order of their keys; numbers of one kind are
flattened, put one after the other in the order of their keys, and cut into the spec's fields.

Example: JAT's BabyAI has 148 discrete numbers, `babyai/*` has `direction` () and `grid` (7, 7, 3):
number 0 becomes the direction and the other 147 the grid.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from db1.errors import ConfigError, DataError
from db1.formats.fields import BadEpisode, SourceField, is_same_shape
from db1.tokens.spec import KINDS, FieldSpec, StepSpec


@dataclass(frozen=True, kw_only=True)
class Fitting:
    """Mapping from the observations of a source to those of a step spec.

    Args:
        observation: Source field by key, its pictures already with the stored size.
        action: The action.
        spec: What is stored.
        by_key: Whether the keys of source and spec are the same.
        order: Keys of the spec in the order in which the source packs their numbers.
    """

    observation: Mapping[str, SourceField]
    action: SourceField
    spec: StepSpec
    by_key: bool
    order: tuple[str, ...] = ()

    def observations(
        self, converted: Mapping[str, np.ndarray], where: str
    ) -> Mapping[str, np.ndarray]:
        """Regroups converted source observations (T, ...) into those of the spec.

        Raises:
            BadEpisode: A value outside the spec's field.
        """
        if self.by_key:
            return self._checked(converted, where)
        fitted: dict[str, np.ndarray] = {}
        for kind in KINDS:
            sources = [key for key in sorted(self.observation) if self._kind(key) == kind]
            targets = {k: f for k, f in self.spec.observation.items() if f.kind == kind}
            if kind in ("text", "image"):
                pairs = zip(targets, sources, strict=True)
                fitted |= {target: converted[source] for target, source in pairs}
            elif targets:
                in_order = [key for key in self.order if key in targets] or list(targets)
                targets = {key: targets[key] for key in in_order}
                fitted |= _cut(_flattened([converted[key] for key in sources]), targets)
        return self._checked(fitted, where)

    def _kind(self, key: str) -> str:
        return self.observation[key].kind

    def _checked(self, arrays: Mapping[str, np.ndarray], where: str) -> Mapping[str, np.ndarray]:
        for key, field in self.spec.observation.items():
            try:
                if field.kind != "text":
                    field.check_values(arrays[key], f"{where}: observation {key!r}")
            except DataError as error:
                raise BadEpisode(str(error)) from None
        return arrays


def fit(
    observation: Mapping[str, SourceField],
    action: SourceField,
    known: StepSpec | None,
    where: str,
    *,
    order: Sequence[str] | None = None,
    known_order: Callable[[], Sequence[str]] = tuple,
) -> Fitting:
    """Fits a source to a known step spec, or gives it one of its own.

    Args:
        observation: Source field by key.
        action: The action.
        known: Spec of the task; None for a task that db1 does not have.
        where: Names the source and the task.
        order: Keys of the task in the order in which the source packs their numbers (--order).
        known_order: Gives an order that is known without --order; empty: none is.

    Raises:
        ConfigError: An order of other keys, or of numbers that are not packed.
        DataError: The source cannot be the known task (names both specs), or nothing says in which
            order it packs its numbers.
    """
    if known is None:
        if order is not None:
            raise ConfigError(f"{where}: --order is for tasks of db1 with several fields")
        spec = StepSpec(
            observation={key: field.spec for key, field in observation.items()}, action=action.spec
        )
        return Fitting(observation=observation, action=action, spec=spec, by_key=True)
    action = _shaped_like(action, known.action)
    by_key = set(observation) == set(known.observation)
    problem = _action_problem(action, known.action) or (
        _key_problem(observation, known) if by_key else _kind_problem(observation, known)
    )
    if problem:
        found = {key: _named(field) for key, field in sorted(observation.items())}
        wanted = {key: _named(field) for key, field in known.observation.items()}
        raise DataError(
            f"{where}: {problem}; the source has {found} and action {_named(action)}, the task "
            f"{wanted} and action {_named(known.action)}; name another --task"
        )
    action = replace(action, num_values=known.action.num_values)
    fitted = _sized_like(observation, known, by_key)
    keys = () if by_key and order is None else _packing(known, order, known_order, by_key, where)
    return Fitting(observation=fitted, action=action, spec=known, by_key=by_key, order=keys)


def _packing(
    known: StepSpec,
    order: Sequence[str] | None,
    known_order: Callable[[], Sequence[str]],
    by_key: bool,
    where: str,
) -> tuple[str, ...]:
    """Keys of the fields of numbers in the order in which the source packs them; () where one is.

    Raises:
        ConfigError: As `fit`.
        DataError: As `fit`.
    """
    kinds = [
        {key: field for key, field in known.observation.items() if field.kind == kind}
        for kind in ("continuous", "discrete")
    ]
    packed = [key for fields in kinds if len(fields) > 1 for key in fields]
    if order is not None:
        if by_key or sorted(order) != sorted(packed):
            is_packed = bool(packed) and not by_key
            expected = f"expected each once: {', '.join(packed)}" if is_packed else "nothing to cut"
            raise ConfigError(f"{where}: --order {','.join(order)}, {expected}")
        return tuple(order)
    if not packed:
        return ()
    found = tuple(key for key in known_order() if key in packed)
    if sorted(found) != sorted(packed):
        sizes = ", ".join(f"{key} ({known.observation[key].size})" for key in packed)
        raise DataError(
            f"{where}: the numbers of {sizes} lie in one vector, and nothing says in which order; "
            "give it: --order " + ",".join(packed) + " (in the source's own order)"
        )
    return found


def _sized_like(
    observation: Mapping[str, SourceField], known: StepSpec, by_key: bool
) -> dict[str, SourceField]:
    """The fields with pictures of the known sizes."""
    targets = iter([field for field in known.observation.values() if field.kind == "image"])
    fitted = {}
    for key, field in sorted(observation.items()):
        if field.picture is not None:
            target = known.observation[key] if by_key else next(targets)
            if target.shape != field.picture.stored_shape:
                field = replace(field, picture=field.picture.resized(*target.shape[:2]))
        elif by_key and field.kind != "text":
            field = replace(field, shape=known.observation[key].shape)
        fitted[key] = field
    return fitted


def _shaped_like(action: SourceField, known: FieldSpec) -> SourceField:
    """The action with the task's shape and kind, where only axes of one or whole floats differ."""
    if action.shape != known.shape and is_same_shape(action.shape, known.shape):
        bounds = {
            name: None if bound is None else np.reshape(bound, known.shape)
            for name, bound in (("low", action.low), ("high", action.high))
        }
        action = replace(action, shape=known.shape, **bounds)
    is_whole = known.kind == "discrete" and action.dtype.startswith("float")
    if is_whole and action.kind == "continuous" and action.low is None:
        action = replace(action, kind="discrete", num_values=known.num_values)
    return action


def _action_problem(action: SourceField, known: FieldSpec) -> str | None:
    if action.kind != known.kind or action.shape != known.shape:
        return "another action"
    if known.num_values is not None and (action.num_values or 0) > known.num_values:
        return f"actions up to {(action.num_values or 0) - 1}"
    return None


def _key_problem(observation: Mapping[str, SourceField], known: StepSpec) -> str | None:
    for key, target in known.observation.items():
        field = observation[key]
        is_same = field.kind == target.kind and (
            field.kind == "image" or is_same_shape(field.shape, target.shape)
        )
        if not is_same:
            return f"another observation {key!r}"
    return None


def _kind_problem(observation: Mapping[str, SourceField], known: StepSpec) -> str | None:
    for kind in KINDS:
        sources = [field for field in observation.values() if field.kind == kind]
        targets = [field for field in known.observation.values() if field.kind == kind]
        if kind in ("text", "image"):
            if len(sources) != len(targets):
                return f"{len(sources)} {kind} observations, the task has {len(targets)}"
        elif sum(_size(f) for f in sources) != sum(f.size for f in targets):
            numbers = sum(_size(f) for f in sources), sum(f.size for f in targets)
            return f"{numbers[0]} {kind} numbers, the task has {numbers[1]}"
    return None


def _size(field: SourceField) -> int:
    return int(np.prod(field.shape, dtype=np.int64))


def _named(field: SourceField | FieldSpec) -> str:
    values = f" of {field.num_values} values" if field.num_values is not None else ""
    return f"{field.kind} {field.shape}{values}"


def _flattened(arrays: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([array.reshape(len(array), -1) for array in arrays], axis=1)


def _cut(flat: np.ndarray, targets: Mapping[str, FieldSpec]) -> dict[str, np.ndarray]:
    cut, start = {}, 0
    for key in targets:
        stop = start + targets[key].size
        cut[key] = flat[:, start:stop].reshape(len(flat), *targets[key].shape)
        start = stop
    return cut
