"""Checks an episode against its spec and casts it to the stored dtypes, before it is written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from db1.errors import DataError
from db1.json_shape import parse_json
from db1.tokens.spec import Episode, FieldSpec, StepSpec


def checked_arrays(episode: Episode, spec: StepSpec, where: str) -> dict[str, np.ndarray]:
    """Returns the episode's columns (T, ...) in stored dtypes (text as object), checked.

    Raises:
        DataError: An array does not fit; the message starts with `where`.
    """
    observations = {
        key: _cast(value, spec.observation[key], f"{where}: observation {key!r}")
        if key in spec.observation
        else np.asarray(value)
        for key, value in episode.observations.items()
    }
    checked = Episode(
        observations=observations,
        actions=_cast(episode.actions, spec.action, f"{where}: action"),
        rewards=_cast(episode.rewards, FieldSpec(kind="continuous"), f"{where}: rewards"),
    )
    checked.check(spec, where)
    arrays = {f"observations.{key}": observations[key] for key in spec.observation}
    return arrays | {"actions": checked.actions, "rewards": checked.rewards}


def metadata_line(metadata: Mapping[str, Any], where: str) -> bytes:
    """Returns an episode's metadata as one JSON line; nothing where there is none.

    Raises:
        DataError: It holds something that JSON does not give back as it was.
    """
    if not metadata:
        return b""
    try:
        content = dict(metadata)
        line = json.dumps(content, allow_nan=False)
        is_kept = parse_json(line) == content
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{where}: metadata that is not JSON ({error}); use str, int, float, bool, None, "
            "lists and dicts"
        ) from None
    if not is_kept:
        raise DataError(
            f"{where}: metadata that JSON changes ({metadata!r}); use lists instead of tuples and "
            "str keys"
        )
    return line.encode("ascii") + b"\n"


def _cast(values: Any, spec: FieldSpec, where: str) -> np.ndarray:
    """Casts to the stored dtype where that keeps the values' meaning; raises DataError else."""
    try:
        array = np.asarray(values, dtype=object if spec.kind == "text" else None)
    except ValueError as error:
        raise DataError(f"{where}: no array of {spec.dtype} ({error})") from None
    if spec.kind == "text":
        for value in array.flat:
            spec.check(value, where)
            if not _is_unicode(value):
                raise DataError(f"{where}: {value!r} is not valid Unicode text (a lone surrogate)")
        return array
    kinds = {"image": "u", "discrete": "iub", "continuous": "fiub"}[spec.kind]
    if array.dtype.kind not in kinds or (spec.kind == "image" and array.dtype != np.uint8):
        raise DataError(f"{where}: got dtype {array.dtype}, expected {spec.dtype}")
    spec.check_values(array, where)
    with np.errstate(over="ignore"):  # a float64 beyond float32 turns infinite: check finds it
        return array.astype(spec.dtype)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
