"""Ranges of numbers, declared with the fields of a configuration and checked in one place.

    @dataclass(frozen=True, kw_only=True)
    class Sampling(Checked):
        num_samples: Count = 1
        temperature: Positive = 1.0
        top_p: Annotated[float, Range(above=0, most=1)] | None = None

    Sampling(temperature=-1.0)      RangeError: temperature: got -1.0, expected above 0

Numbers without a declared range must be finite, too, and integers fit 64 bits.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from db1.errors import ConfigError

INT64_MAX = 2**63 - 1


class RangeError(ConfigError):
    """A number outside the range of its field; the message begins with the field's name."""


@dataclass(frozen=True, kw_only=True)
class Range:
    """An interval of numbers.

    Args:
        least: Smallest number in it.
        above: All numbers are above this one.
        most: Largest number in it.
        below: All numbers are below this one.
    """

    least: float | None = None
    above: float | None = None
    most: float | None = None
    below: float | None = None

    def __contains__(self, value: float) -> bool:
        return (
            (self.least is None or value >= self.least)
            and (self.above is None or value > self.above)
            and (self.most is None or value <= self.most)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        parts = (
            ("at least", self.least),
            ("above", self.above),
            ("at most", self.most),
            ("below", self.below),
        )
        return " and ".join(f"{word} {_short(limit)}" for word, limit in parts if limit is not None)


FINITE = Range()
Count = Annotated[int, Range(least=1)]
Natural = Annotated[int, Range(least=0)]
Seed = Annotated[int, Range(least=0)]
Positive = Annotated[float, Range(above=0)]
Weight = Annotated[float, Range(least=0, most=1e9)]
"""Of a part beside its neighbours; larger ones would leave no digits for the others."""
NonNegative = Annotated[float, Range(least=0)]
Share = Annotated[float, Range(least=0, most=1)]
Rate = Annotated[float, Range(least=0, below=1)]


class Checked:
    """Base of configurations: checks every number when an instance is made."""

    def __post_init__(self) -> None:
        check_ranges(self)


def check_ranges(config: Any) -> None:
    """Checks the numbers of a dataclass against the ranges of its fields.

    Raises:
        RangeError: Naming the field, its value and its range.
    """
    for name, found in _ranges_of(type(config)).items():
        for place, value in _numbers(getattr(config, name), name):
            check_number(value, found, place)


def check_number(value: float, allowed: Range = FINITE, where: str = "") -> None:
    """Checks one number.

    Raises:
        RangeError: When it is not finite, outside the range, or beyond 64 bits.
    """
    whole = isinstance(value, int)
    if whole and abs(value) > INT64_MAX:
        raise RangeError(f"{where}: got {_shown(value)}, expected a number of 64 bits")
    if not whole and not math.isfinite(value):
        more = f", {allowed}" if str(allowed) else ""
        raise RangeError(f"{where}: got {value}, expected a finite number{more}")
    if value not in allowed:
        raise RangeError(f"{where}: got {value}, expected {allowed}")


def range_of(cls: type, name: str) -> Range:
    """The declared range of a field; that of all finite numbers where there is none."""
    return _ranges_of(cls).get(name, FINITE)


@functools.cache
def _ranges_of(cls: type) -> Mapping[str, Range]:
    """Field name -> range, of all fields that may hold numbers."""
    hints = typing.get_type_hints(cls, include_extras=True)
    found = {}
    for field in dataclasses.fields(cls):
        allowed = _find(hints[field.name])
        if allowed is not None:
            found[field.name] = allowed
    return found


def _find(hint: Any) -> Range | None:
    """The range inside a type such as `Count | None`, `tuple[Rate, ...]`; None without numbers."""
    if typing.get_origin(hint) is Annotated:
        for extra in hint.__metadata__:
            if isinstance(extra, Range):
                return extra
        return _find(hint.__origin__)
    if hint in (int, float):
        return FINITE
    parts = typing.get_args(hint)
    return next((r for part in parts if (r := _find(part)) is not None), None)


def _numbers(value: Any, place: str) -> list[tuple[str, float]]:
    """The numbers in a value, each with its place."""
    if isinstance(value, bool):
        return []
    if isinstance(value, int | float):
        return [(place, value)]
    if isinstance(value, tuple | list):
        return [n for i, v in enumerate(value) for n in _numbers(v, f"{place}[{i}]")]
    if isinstance(value, Mapping):
        return [n for key, v in value.items() for n in _numbers(v, f"{place}.{key}")]
    return []


def _short(number: float) -> str:
    return f"{number:,}".replace(",", "") if isinstance(number, int) else f"{number:g}"


def _shown(number: int) -> str:
    return str(number) if abs(number) < 10**30 else f"a number of {number.bit_length():,} bits"
