from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from db1.inference.state import PAD_ID, left_pad
from db1.sequence.segment import TokenSegment, cut
from db1.tokens.vocabulary import IMAGE_PLACEHOLDER


def episode_piece() -> tuple[TokenSegment, np.ndarray]:
    """Three steps of one token, a 16x48 image (3 patches) and one token; and what each one is.

    The marks are 0 for tokens and 100 * image + patch + 1 for patches.
    """
    images = tuple(np.full((16, 48, 3), i, dtype=np.uint8) for i in range(3))
    ids, marks = [], []
    for i in range(3):
        ids += [10 + i, *[IMAGE_PLACEHOLDER] * 3, 20 + i]
        marks += [0, *[100 * i + patch + 1 for patch in range(3)], 0]
    positions = np.arange(len(ids), dtype=np.int32)
    return TokenSegment(ids=np.array(ids), local_positions=positions, images=images), np.array(
        marks
    )


def marks_of(pieces: list[TokenSegment]) -> np.ndarray:
    """What stands at each place of the padded batch, read from the image groups."""
    batch = left_pad(pieces, "cpu")
    marks = np.zeros(batch.ids.numel() + 1, dtype=int)
    for group in batch.images:
        for pixels, places in zip(group.pixels.numpy(), group.positions.numpy(), strict=True):
            marks[places] = 100 * int(pixels.flat[0]) + np.arange(len(places)) + 1
    assert ((marks[:-1] > 0) == (batch.ids.numpy().reshape(-1) == IMAGE_PLACEHOLDER)).all()
    return marks[:-1].reshape(batch.ids.shape)


@given(st.lists(st.tuples(st.integers(0, 15), st.integers(0, 15)), min_size=1, max_size=4))
def test_cut_images_keep_their_patches(bounds: list[tuple[int, int]]) -> None:
    whole, marks = episode_piece()
    bounds = [(min(pair), max(pair)) for pair in bounds] + [(0, 15)]
    pieces = [cut(whole, start, stop) for start, stop in bounds]
    found = marks_of(pieces)
    for row, (start, stop) in zip(found, bounds, strict=True):
        expected = np.pad(marks[start:stop], (15 - (stop - start), 0))
        np.testing.assert_array_equal(row, expected)


@given(st.integers(0, 15), st.integers(0, 15), st.integers(0, 15))
def test_cutting_twice_equals_cutting_once(a: int, b: int, c: int) -> None:
    whole, marks = episode_piece()
    first, middle, last = sorted((a, b, c))
    twice = cut(cut(whole, first, 15), middle - first, last - first)
    assert twice.ids.tolist() == whole.ids[middle:last].tolist()
    found = marks_of([twice, whole])[0]
    np.testing.assert_array_equal(found, np.pad(marks[middle:last], (15 - (last - middle), 0)))


def test_rows_end_at_the_right_edge() -> None:
    short = TokenSegment(ids=np.array([1, 2]), local_positions=np.array([1, 2]))
    long = TokenSegment(ids=np.array([3, 4, 5]), local_positions=np.array([0, 1, 2]))
    batch = left_pad([short, long], "cpu")
    assert batch.ids.tolist() == [[PAD_ID, 1, 2], [3, 4, 5]]
    assert batch.local_positions.tolist() == [[-1, 1, 2], [0, 1, 2]]
    assert batch.lengths.tolist() == [2, 3]
    assert left_pad([long, long], "cpu").lengths is None
