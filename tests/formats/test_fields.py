"""Foreign values -> stored values: dtypes, ranges, pictures, bounds, texts."""

from __future__ import annotations

import numpy as np
import pytest

from db1.errors import DataError
from db1.formats.fields import (
    BadEpisode,
    SourceField,
    convert,
    convert_actions,
    image_field,
    infer_field,
    is_picture,
    restore_actions,
)
from db1.formats.pictures import Picture, convert_pictures, restore_pictures
from db1.importers.returns import ReturnFilter, windowed_maximum


def infer(array: np.ndarray) -> SourceField:
    values = (int(array.min()), int(array.max())) if array.dtype.kind in "iu" else (0, 0)
    return infer_field(array.dtype, array.shape[1:], lambda: values, "x")


@pytest.mark.parametrize(
    ("array", "kind", "shape", "num_values"),
    [
        (np.zeros((3, 4)), "continuous", (4,), None),
        (np.zeros(3, np.float32), "continuous", (), None),
        (np.array([0, 2, 5]), "discrete", (), 6),
        (np.array([[0, 1023]]), "discrete", (2,), 1_024),
        (np.array([0, 1024]), "continuous", (), None),
        (np.array([-1, 5]), "continuous", (), None),
        (np.array([True, False]), "discrete", (), 2),
        (np.zeros((3, 7, 7, 3), np.uint8), "discrete", (7, 7, 3), 1),
        (np.zeros((3, 84, 84, 3), np.uint8), "image", (96, 96, 3), None),
        (np.zeros((3, 84, 84), np.uint8), "image", (96, 96, 3), None),
        (np.zeros((3, 4, 84, 84), np.uint8), "image", (96, 96, 3), None),
        (np.array(["a", "b"]), "text", (), None),
    ],
)
def test_inferred_fields(array: np.ndarray, kind: str, shape: tuple, num_values: int) -> None:
    spec = infer(array).spec
    assert (spec.kind, spec.shape, spec.num_values) == (kind, shape, num_values)
    assert len(convert(infer(array), array, "x")) == len(array)


@pytest.mark.parametrize("dtype", [np.complex64, "V8", "M8[s]", "S3"])
def test_unknown_dtypes(dtype: object) -> None:
    with pytest.raises(DataError, match="x: dtype .* expected floats"):
        infer(np.zeros((2, 3), dtype))
    field = SourceField(kind="continuous", shape=(3,), dtype="float32")
    with pytest.raises(DataError, match="x: dtype"):
        convert(field, np.zeros((2, 3), dtype), "x")


def test_ragged_and_other_shapes() -> None:
    field = SourceField(kind="continuous", shape=(2,), dtype="float32")
    with pytest.raises(BadEpisode, match="x: ragged shapes"):
        convert(field, [[1.0, 2.0], [3.0]], "x")
    with pytest.raises(BadEpisode, match=r"x: shape \(3,\) a step, expected \(2,\)"):
        convert(field, np.zeros((4, 3)), "x")
    single = SourceField(kind="discrete", num_values=4, dtype="int64")
    assert convert(single, np.array([[1], [3]]), "x").tolist() == [1, 3]


def test_a_float64_beyond_float32_is_not_finite() -> None:
    field = SourceField(kind="continuous", shape=(1,), dtype="float64")
    with pytest.raises(BadEpisode, match="x: 1 values not finite"):
        convert(field, np.array([[1.0], [1e300]]), "x")


def test_discrete_values_are_shifted_and_checked() -> None:
    field = SourceField(kind="discrete", num_values=3, start=-1, dtype="int64")
    stored = convert_actions(field, np.array([-1, 0, 1]), "x", clip=False).values
    assert stored.tolist() == [0, 1, 2] and stored.dtype == np.int32
    assert restore_actions(field, stored).tolist() == [-1, 0, 1]
    for clip in (False, True):
        with pytest.raises(BadEpisode, match=r"x: value 2, expected -1..1 \(1 values outside\)"):
            convert_actions(field, np.array([0, 2]), "x", clip=clip)


def test_bounds_are_rescaled_there_and_back() -> None:
    field = SourceField(kind="continuous", shape=(2,), dtype="float32")
    field = field.with_bounds([-2.0, 0.0], [2.0, 10.0])
    actions = np.array([[-2, 0], [0, 5], [2, 10], [1, 2.5]], np.float32)
    stored = convert_actions(field, actions, "x", clip=False).values
    assert stored.tolist() == [[-1, -1], [0, 0], [1, 1], [0.5, -0.5]]
    np.testing.assert_array_equal(restore_actions(field, stored), actions)
    unit = SourceField(kind="continuous", shape=(2,), dtype="float32").with_bounds(-1.0, 1.0)
    assert unit.low is None
    infinite = SourceField(kind="continuous", shape=(2,)).with_bounds(-np.inf, np.inf)
    assert infinite.low is None


def test_texts() -> None:
    field = SourceField(kind="text")
    assert convert(field, ["a", b"\xc3\xa9"], "x").tolist() == ["a", "é"]
    with pytest.raises(BadEpisode, match="x: step 1 is not UTF-8"):
        convert(field, ["a", b"\xff"], "x")
    with pytest.raises(BadEpisode, match="x: step 0 is NoneType, expected text"):
        convert(field, [None], "x")


def picture(
    shape: tuple[int, ...], size: int | None = None, frames: str | None = "newest"
) -> Picture:
    return Picture.of(shape, image_size=size, frames=frames, where="x")


@pytest.mark.parametrize("shape", [(84, 84, 3), (84, 84, 1), (84, 84), (3, 84, 84), (40, 33, 3)])
def test_filling_with_zeros_loses_nothing(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, *shape), dtype=np.uint8)
    how = picture(shape)
    stored = convert_pictures(pixels, how)
    assert stored.shape[1:] == how.stored_shape and all(n % 16 == 0 for n in stored.shape[1:3])
    assert not stored[:, how.height :].any() and not stored[:, :, how.width :].any()
    assert how.is_reversible
    np.testing.assert_array_equal(restore_pictures(stored, how, shape), pixels)


def test_four_grey_frames() -> None:
    pixels = np.stack([np.full((84, 84), i, np.uint8) for i in range(4)], axis=-1)[None]
    newest = convert_pictures(pixels, picture((84, 84, 4)))
    assert newest.shape == (1, 96, 96, 3) and (newest[0, :84, :84] == 3).all()
    stacked = convert_pictures(pixels, picture((84, 84, 4), frames="stack"))
    assert stacked[0, 0, 0].tolist() == [1, 2, 3]
    assert not picture((84, 84, 4)).is_reversible


def test_resizing() -> None:
    pixels = np.full((1, 84, 84, 3), 7, np.uint8)
    stored = convert_pictures(pixels, picture((84, 84, 3), size=64))
    assert stored.shape == (1, 64, 64, 3) and (stored == 7).all()
    with pytest.raises(DataError, match="image size 50x50, expected multiples of 16"):
        picture((84, 84, 3), size=50)


@pytest.mark.parametrize("shape", [(84, 84, 2), (84, 84, 4), (84, 84, 12), (12, 84, 84)])
def test_channels_that_may_be_several_things_are_asked_for(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=f"pictures of {min(shape)} channels may be .*say which"):
        picture(shape, frames=None)


def test_alpha_and_colour_frames() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 12), dtype=np.uint8)
    rgba = convert_pictures(pixels[..., :4], picture((32, 32, 4), frames="rgba"))
    np.testing.assert_array_equal(rgba, pixels[..., :3])
    colour = convert_pictures(pixels, picture((32, 32, 12), frames="colour"))
    np.testing.assert_array_equal(colour, pixels[..., 9:])
    for shape, frames in (((32, 32, 3), "rgba"), ((32, 32, 4), "colour"), ((32, 32, 1), "stack")):
        with pytest.raises(DataError, match=f"channels cannot be {frames}"):
            picture(shape, frames=frames)


def test_a_stack_of_frames_is_its_newest() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 32, 32, 3), dtype=np.uint8)
    assert is_picture((4, 32, 32, 3)) and not is_picture((40, 32, 32, 3))
    stored = convert_pictures(pixels, picture((4, 32, 32, 3), frames=None))
    np.testing.assert_array_equal(stored, pixels[:, -1])
    two = convert_pictures(pixels[:, :2, ..., 0], picture((2, 32, 32), frames=None))
    np.testing.assert_array_equal(two[..., 0], pixels[:, 1, ..., 0])
    assert not picture((4, 32, 32, 3)).is_reversible


def test_windowed_maximum_of_the_docstring() -> None:
    assert windowed_maximum(np.arange(1.0, 11.0)) == 10.0
    assert windowed_maximum(np.arange(30.0)) == (27 + 28 + 29) / 3
    assert windowed_maximum(np.array([4.0])) == 4.0


def test_threshold_of_positive_and_negative_experts() -> None:
    def threshold(share: float, expert: float) -> float:
        return ReturnFilter(share=share, expert=expert, origin="").threshold

    assert threshold(0.8, 100.0) == 80.0
    assert threshold(0.8, -10.0) == -12.5
    assert threshold(0.0, -10.0) == -np.inf


def test_grey_maxima_of_colours() -> None:
    """The luma of each picture, the brighter one of two steps; channels stay three."""
    pictures = np.zeros((3, 48, 32, 3), np.uint8)
    pictures[0, 0, 0], pictures[1, 0, 1], pictures[2, 0, 0] = (255, 0, 0), (0, 200, 0), (9, 9, 9)
    field = image_field((48, 32, 3), image_size=None, frames="grey", where="x")
    grey = convert(field, pictures, "x")
    assert grey.shape == (3, 48, 32, 3)
    assert grey[:, 0, :2, 1].tolist() == [[76, 0], [0, 117], [9, 0]]
    field = image_field((48, 32, 3), image_size=None, frames="grey-max", where="x")
    assert convert(field, pictures, "x")[:, 0, :2, 2].tolist() == [[76, 0], [76, 117], [9, 117]]
    assert not field.picture.is_reversible
