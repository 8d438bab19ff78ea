"""Contenders take turns, and ratios compare medians."""

from __future__ import annotations

from itertools import count

import pytest

from db1.benchmarks.timing import Contender, compare, machine


def test_contenders_take_turns_and_ratios_compare_medians() -> None:
    order: list[str] = []
    now = [0.0]
    slow = count(1)

    def ours() -> None:
        order.append("db1")
        now[0] += 2.0  # 4 units: half a second each

    def other() -> None:
        order.append("other")
        now[0] += float(next(slow) ** 2)  # 1, 4, 9

    comparison = compare(
        "work",
        "unit",
        [Contender(name="db1", run=ours, amount=4), Contender(name="other", run=other)],
        rounds=3,
        clock=lambda: now[0],
    )
    assert order == ["db1", "other"] * 3
    assert comparison.timings[1].seconds_per_unit == (1.0, 4.0, 9.0)
    assert comparison.ratio("other") == 8.0 and comparison.ratio("db1") == 1.0
    figures = comparison.to_dict()["timings"]
    assert figures["db1"]["per_second"] == pytest.approx(2.0)
    assert figures["other"]["ratio_to_db1"] == 8.0


def test_the_machine_is_named() -> None:
    assert {"processor", "torch", "torch_threads"} <= set(machine())
