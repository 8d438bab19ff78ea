from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from db1.report.axes import axis


def test_the_example_of_the_docstring() -> None:
    found = axis(0, 8.05)
    assert (found.low, found.high, found.ticks) == (0, 10, (0, 2, 4, 6, 8, 10))


@pytest.mark.parametrize(
    ("tasks", "ticks"), [(2, (0, 1, 2)), (31, (0, 10, 20, 31)), (870, (0, 200, 400, 600, 870))]
)
def test_an_axis_of_counts_ends_at_the_number_of_tasks(tasks: int, ticks: tuple[int, ...]) -> None:
    assert axis(0, tasks, is_round=False, is_whole=True).ticks == ticks


@example(1.0, 400_001.0, 2, False)  # a step of 500,000 has no multiple in there
@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.integers(2, 8), st.booleans())
def test_an_axis_covers_its_values(low: float, span: float, ticks: int, is_round: bool) -> None:
    high = low + span
    found = axis(low, high, ticks, is_round=is_round)
    assert found.low <= low + 1e-6 * span + 1e-9 and found.high >= high - 1e-6 * span - 1e-9
    assert 1 <= len(found.ticks) <= 2 * ticks + 3
    assert list(found.ticks) == sorted(set(found.ticks))
    assert 0 <= found.share(low) <= found.share(high) <= 100


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_a_single_value_still_has_an_axis(value: float) -> None:
    found = axis(value, value)
    assert found.low < value < found.high
