"""Patches find their tokens."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from db1.sequence.segment import TokenSegment, place_images
from db1.tokens.vocabulary import IMAGE_PLACEHOLDER

TOKEN = 5
SMALL, WIDE = (16, 16, 3), (16, 48, 3)


def _image(shape: tuple[int, ...], mark: int) -> np.ndarray:
    return np.full(shape, mark, dtype=np.uint8)


def _segment(images: tuple[np.ndarray, ...], skipped: int = 0) -> TokenSegment:
    return TokenSegment.without_positions(
        np.empty(0, np.int32), images=images, skipped_patches=skipped
    )


def test_an_image_cut_by_the_window_keeps_its_first_patch() -> None:
    image = _image((16, 32, 3), 0)
    ids = np.array([[TOKEN, IMAGE_PLACEHOLDER]])
    ((images, positions),) = place_images([_segment((image, image))], ids)
    assert positions.tolist() == [[1, 2]] and len(images) == 1


def test_an_image_whose_patches_all_lie_before_the_tokens_is_left_out() -> None:
    ids = np.array([[TOKEN, TOKEN]])
    assert place_images([_segment((_image(WIDE, 0),), 1)], ids) == []


@given(st.lists(st.lists(st.booleans(), max_size=4), min_size=1, max_size=4), st.data())
def test_every_placeholder_gets_the_patch_that_it_stands_for(
    rows: list[list[bool]], data: st.DataObject
) -> None:
    """Rows of small and wide images between tokens, each row cut at both ends."""
    length = 20
    ids = np.full((len(rows), length), TOKEN)
    expected = np.zeros((len(rows), length), dtype=int)  # 0: a token; else 10 * mark + patch + 1
    segments = []
    for row, kinds in enumerate(rows):
        row_images = [_image(WIDE if wide else SMALL, n + 1) for n, wide in enumerate(kinds)]
        marks: list[int] = []
        for image in row_images:
            marks += [0, *[10 * int(image[0, 0, 0]) + p + 1 for p in range(image.shape[1] // 16)]]
        start = data.draw(st.integers(0, len(marks)))
        marks, before = marks[start:][:length], marks[:start]
        while row_images and 10 * int(row_images[0][0, 0, 0]) + row_images[0].shape[1] // 16 in (
            before
        ):
            row_images.pop(0)  # all its patches lie before
        first = 10 * int(row_images[0][0, 0, 0]) if row_images else 0
        skipped = sum(first < mark < first + 10 for mark in before)
        segments.append(_segment(tuple(row_images), skipped))
        expected[row, : len(marks)] = marks
    ids[expected > 0] = IMAGE_PLACEHOLDER
    found = np.zeros(ids.size + 1, dtype=int)
    for images, positions in place_images(segments, ids):
        assert len({image.shape for image in images}) == 1
        assert (positions < ids.size).any(axis=1).all()  # no image without a place
        for image, places in zip(images, positions, strict=True):
            found[places] = 10 * int(image[0, 0, 0]) + np.arange(len(places)) + 1
    np.testing.assert_array_equal(found[:-1].reshape(ids.shape), expected)
