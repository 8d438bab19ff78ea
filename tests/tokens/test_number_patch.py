"""Fields are cut into patches as the module draws it; codes and values say what they hold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from db1.errors import ConfigError
from db1.tokens.number_patch import (
    CONTINUOUS_CODE,
    EMPTY_CODE,
    FIRST_DISCRETE_CODE,
    MAX_DISCRETE,
    NumberLayout,
    PatchSizes,
    concatenate_patches,
)
from db1.tokens.spec import FieldSpec


def continuous(*shape: int) -> FieldSpec:
    return FieldSpec(kind="continuous", shape=shape)


def test_the_drawn_example() -> None:
    fields = {"a": continuous(2), "b": continuous(), "c": continuous(6), "d": continuous(3)}
    layout = NumberLayout(fields, list(fields), 4, 256.0)
    numbers = {
        "a": np.array([[1.0, 2.0]]),
        "b": np.array([3.0]),
        "c": np.array([[4.0, 5, 6, 7, 8, 9]]),
        "d": np.array([[-1.0, -2, -3]]),
    }
    patches = layout.patches(numbers)
    expected = [[1, 2, 3, 0], [4, 5, 6, 7], [8, 9, 0, 0], [-1, -2, -3, 0]]
    np.testing.assert_array_equal(patches.values, expected)
    held = np.array(expected) != 0
    np.testing.assert_array_equal(patches.codes, np.where(held, CONTINUOUS_CODE, EMPTY_CODE))
    assert layout.num_patches == len(patches) == 4
    assert len(set(patches.layouts.tolist())) == 4


def test_rows_of_a_grid_stay_rows_and_channels_have_codes_of_their_own() -> None:
    fields = {
        "direction": FieldSpec(kind="discrete", num_values=4),
        "grid": FieldSpec(kind="discrete", shape=(2, 3, 3), num_values=11),
    }
    layout = NumberLayout(fields, ["direction", "grid"], 9, 256.0)
    grid = np.arange(18).reshape(1, 2, 3, 3) % 11
    patches = layout.patches({"direction": np.array([3]), "grid": grid})
    assert layout.num_patches == 3
    direction = np.zeros(9, int)
    direction[0] = FIRST_DISCRETE_CODE + 3
    np.testing.assert_array_equal(patches.codes[0], direction)
    codes = FIRST_DISCRETE_CODE + MAX_DISCRETE * np.arange(3) + grid[0]
    np.testing.assert_array_equal(patches.codes[1:], codes.reshape(2, 9))
    assert not patches.values.any()


@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), st.integers(2, 24), st.integers(1, 4))
def test_every_number_has_one_place(sizes: list[int], size: int, num_steps: int) -> None:
    fields = {f"{i}": continuous(n) for i, n in enumerate(sizes)}
    layout = NumberLayout(fields, list(fields), size, 1e9)
    numbers = iter(np.arange(1, num_steps * sum(sizes) + 1, dtype=np.float64))
    steps = [{key: [next(numbers) for _ in range(f.size)] for key, f in fields.items()}
             for _ in range(num_steps)]  # fmt: skip
    patches = layout.patches({key: np.array([step[key] for step in steps]) for key in fields})
    found = patches.values[patches.codes == CONTINUOUS_CODE]
    np.testing.assert_array_equal(found, np.arange(1, num_steps * sum(sizes) + 1))
    assert patches.values.shape == (num_steps * layout.num_patches, size)


def test_numbers_beyond_the_largest_magnitude_are_clipped_as_bins_are() -> None:
    layout = NumberLayout({"x": continuous(2)}, ["x"], 2, 256.0)
    patches = layout.patches({"x": np.array([[1e300, -300.0]])})
    np.testing.assert_array_equal(patches.values, [[256.0, -256.0]])


def test_parts_put_together_are_the_whole() -> None:
    layout = NumberLayout({"x": continuous(6)}, ["x"], 4, 256.0)
    whole = layout.patches({"x": np.random.default_rng(0).normal(size=(5, 6))})
    joined = concatenate_patches([whole[:3], None, whole[3:3], whole[3:]])
    assert joined is not None
    for name in ("values", "codes", "layouts"):
        np.testing.assert_array_equal(getattr(joined, name), getattr(whole, name))
    assert concatenate_patches([None, whole[:0]]) is None


def test_sizes_below_one_are_refused() -> None:
    with pytest.raises(ConfigError, match="patch size numbers: got 0, expected >= 1"):
        PatchSizes(numbers=0)
