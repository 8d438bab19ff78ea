"""Ranges are declared with the fields and checked when a configuration is made."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from dataclasses import dataclass, field
from typing import Annotated, Any

import pytest

import db1
from db1.config import build
from db1.errors import ConfigError, MissingExtra
from db1.ranges import Checked, Count, Positive, Range, Rate, Seed, range_of


@dataclass(frozen=True, kw_only=True)
class Inner(Checked):
    rates: tuple[Rate, ...] = (0.5,)


@dataclass(frozen=True, kw_only=True)
class Outer(Checked):
    count: Count = 1
    temperature: Positive = 1.0
    top_p: Annotated[float, Range(above=0, most=1)] | None = None
    seed: Seed = 0
    offset: float = 0.0
    weights: dict[str, Positive] = field(default_factory=dict)
    inner: Inner = field(default_factory=Inner)
    flag: bool = False
    name: str = "x"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"count": 0}, "count: got 0, expected at least 1"),
        ({"count": 2**70}, "count: got 1180591620717411303424, expected a number of 64 bits"),
        ({"count": 10**4_000}, "a number of 13,288 bits"),
        ({"temperature": 0.0}, "temperature: got 0.0, expected above 0"),
        ({"temperature": float("nan")}, "temperature: got nan, expected a finite number, above 0"),
        ({"offset": float("inf")}, "offset: got inf, expected a finite number"),
        ({"top_p": 1.5}, "top_p: got 1.5, expected above 0 and at most 1"),
        ({"seed": -5}, "seed: got -5, expected at least 0"),
        ({"weights": {"a": -1.0}}, "weights.a: got -1.0, expected above 0"),
        ({"inner": {"rates": [0.1, 1.0]}}, r"inner.rates\[1\]: got 1.0, expected at least 0"),
    ],
)
def test_refuses(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(Outer, values)


def test_accepts_what_lies_inside() -> None:
    outer = build(Outer, {"count": 1, "top_p": 1, "seed": 2**63 - 1, "inner": {"rates": [0, 0.9]}})
    assert outer.top_p == 1.0 and outer.inner.rates == (0.0, 0.9) and outer.flag is False
    assert range_of(Outer, "count").least == 1 and str(range_of(Outer, "offset")) == ""


def _configurations() -> list[type]:
    """Every dataclass of db1 whose name says that people configure it."""
    found = set()
    for module in pkgutil.walk_packages(db1.__path__, "db1."):
        if module.name.endswith("__main__") or ".cli" in module.name:
            continue
        try:
            content = vars(importlib.import_module(module.name))
        except MissingExtra:  # Triton's kernels, which hold no configuration
            continue
        for thing in content.values():
            is_one = isinstance(thing, type) and dataclasses.is_dataclass(thing)
            if is_one and thing.__name__.endswith(("Config", "Options")):
                found.add(thing)
    return sorted(found, key=lambda cls: f"{cls.__module__}.{cls.__name__}")


def test_every_configuration_checks_its_numbers() -> None:
    unchecked = []
    for cls in _configurations():
        hints = {str(one.type) for one in dataclasses.fields(cls)}
        has_numbers = any("int" in hint or "float" in hint for hint in hints)
        if has_numbers and not issubclass(cls, Checked):
            unchecked.append(f"{cls.__module__}.{cls.__name__}")
    assert len(_configurations()) > 20
    assert not unchecked
