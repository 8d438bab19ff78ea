"""Tokens on their way from a codec to a batch: a step, a window, a prompt, a training sequence.

codec ---> segment --concatenate, join--> segment --fit--> T + 1 tokens ---> `Batch`    training
codec ---> segment --concatenate, cut--> segment --left_pad--> `TransformerXL.decode`   acting
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from db1.errors import DataError
from db1.tokens.number_patch import NumberPatches, concatenate_patches
from db1.tokens.spec import PATCH_SIZE, num_patches
from db1.tokens.vocabulary import IMAGE_PLACEHOLDER, NUMBER_PLACEHOLDER

NO_LOCAL_POSITION = -1
"""Local position of tokens that get no local position embedding (all but control tokens)."""


@dataclass(frozen=True, kw_only=True)
class TokenSegment:
    """Consecutive tokens with their images; a training sequence has T + 1 of them.

    Args:
        ids: int32 (n,); `IMAGE_PLACEHOLDER` where an image patch stands, `NUMBER_PLACEHOLDER`
            where a number patch does.
        target_mask: bool (n,); True where the token is to be predicted (action or text); None:
            nowhere. May be read-only.
        local_positions: int32 (n,); 1, 2, ... inside an observation, 0 for action tokens,
            `NO_LOCAL_POSITION` for text outside of control. May be read-only.
        images: uint8 arrays (H, W, C) in the order of their placeholders; each one stands for
            (H / patch) * (W / patch) placeholders, row-major. The last ones may be cut off.
        source: What the tokens were drawn from, for losses by task: a task id or text name.
        prompt_length: Number of leading tokens that belong to a prompt episode.
        target_weight: Weight of each target in the loss.
        labels: int32 (n,), what is to be predicted where it differs from what the model
            reads back (see `SequenceConfig.history_noise`); None: `ids`.
        numbers: Number patches in the order of their placeholders; None: there are none.
        instruction_length: Number of leading tokens that say the task in words.
        skipped_patches: Leading patches of the first image that lie before these tokens.
        patch_size: Side of an image patch in pixels.
        num_cut: Tokens of text that did not fit.
    """

    ids: np.ndarray
    target_mask: np.ndarray | None = None
    local_positions: np.ndarray
    source: str = ""
    images: tuple[np.ndarray, ...] = field(default=())
    prompt_length: int = 0
    target_weight: float = 1.0
    labels: np.ndarray | None = None
    numbers: NumberPatches | None = None
    instruction_length: int = 0
    skipped_patches: int = 0
    patch_size: int = PATCH_SIZE
    num_cut: int = 0

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def without_positions(cls, ids: np.ndarray, **rest: Any) -> TokenSegment:
        """Tokens outside of control: ids int32 (n,), and what else there is of a segment."""
        positions = np.full(len(ids), NO_LOCAL_POSITION, dtype=np.int32)
        return cls(ids=ids, local_positions=positions, **rest)

    @property
    def targets(self) -> np.ndarray:
        """`target_mask`, or False everywhere; bool (n,)."""
        if self.target_mask is None:
            return np.zeros(len(self.ids), dtype=bool)
        return self.target_mask

    @property
    def label_ids(self) -> np.ndarray:
        """`labels`, or `ids` where there are none; int32 (n,)."""
        return self.ids if self.labels is None else self.labels


def concatenate(parts: Sequence[TokenSegment]) -> TokenSegment:
    """Segments end to end; what is said of a sequence as a whole is taken from the last one.

    Args:
        parts: At least one; only the first one with images may have skipped patches.
    """
    last = parts[-1]
    imaged = next((part for part in parts if part.images), last)
    has_masks = any(part.target_mask is not None for part in parts)
    has_labels = any(part.labels is not None for part in parts)
    return replace(
        last,
        ids=np.concatenate([part.ids for part in parts]),
        local_positions=np.concatenate([part.local_positions for part in parts]),
        target_mask=np.concatenate([part.targets for part in parts]) if has_masks else None,
        labels=np.concatenate([part.label_ids for part in parts]) if has_labels else None,
        images=tuple(image for part in parts for image in part.images),
        numbers=concatenate_patches([part.numbers for part in parts]),
        skipped_patches=imaged.skipped_patches,
        patch_size=imaged.patch_size,
    )


def join(prompt: TokenSegment | None, body: TokenSegment) -> TokenSegment:
    """Puts a prompt in front of a body; nothing of the prompt is predicted."""
    if prompt is None:
        return body
    joined = concatenate([replace(prompt, target_mask=None), body])
    return replace(joined, prompt_length=len(prompt.ids))


def cut(segment: TokenSegment, start: int, stop: int) -> TokenSegment:
    """Tokens [start, stop), with the images that still have a patch in them."""
    part = slice(start, stop)
    skipped = segment.skipped_patches + int((segment.ids[:start] == IMAGE_PLACEHOLDER).sum())
    images = list(segment.images)
    while images and skipped >= num_patches(*images[0].shape[:2], segment.patch_size):
        skipped -= num_patches(*images.pop(0).shape[:2], segment.patch_size)
    numbers = segment.numbers
    if numbers is not None:
        first = int((segment.ids[:start] == NUMBER_PLACEHOLDER).sum())
        count = int((segment.ids[part] == NUMBER_PLACEHOLDER).sum())
        numbers = numbers[first : first + count]
    return replace(
        segment,
        ids=segment.ids[part],
        local_positions=segment.local_positions[part],
        target_mask=None if segment.target_mask is None else segment.target_mask[part],
        labels=None if segment.labels is None else segment.labels[part],
        images=tuple(images),
        skipped_patches=skipped if images else 0,
        numbers=numbers,
    )


def fit(segment: TokenSegment, num_tokens: int, pad_id: int) -> TokenSegment:
    """Cuts or pads a sequence to exactly `num_tokens`; padding is never predicted.

    Images and number patches that are cut off stay; `collate` drops them.
    """
    return replace(
        segment,
        ids=_fitted(segment.ids, num_tokens, pad_id),
        labels=None if segment.labels is None else _fitted(segment.labels, num_tokens, pad_id),
        local_positions=_fitted(segment.local_positions, num_tokens, NO_LOCAL_POSITION),
        target_mask=_fitted(segment.targets, num_tokens, False),
        prompt_length=min(segment.prompt_length, num_tokens),
        instruction_length=min(segment.instruction_length, num_tokens),
    )


def _fitted(values: np.ndarray, length: int, filler: int) -> np.ndarray:
    """The first `length` values, a view where there are that many."""
    if len(values) >= length:
        return values[:length]
    padded = np.full(length, filler, dtype=values.dtype)
    padded[: len(values)] = values
    return padded


ImagesOfSize = tuple[list[np.ndarray], np.ndarray]
"""Images uint8 (H, W, C) of one size, and int64 (number of images, P): the place of each patch,
row-major, in the flattened (B * T) tokens; B * T (one past the end) for patches outside of them."""


def place_images(segments: Sequence[TokenSegment], ids: np.ndarray) -> list[ImagesOfSize]:
    """Finds the place of every image patch in a batch, and groups the images by size.

        row 0   text  p0  p1 | SEP ...      the two patches of the row's first image
        row 1   p1 | x0  SEP ...            its first patch was skipped

    A vision encoder runs once for each size.

    Args:
        segments: One a row. Images without any placeholder in the row are left out.
        ids: (B, T) with `IMAGE_PLACEHOLDER` at patches.
    """
    found: dict[tuple[int, ...], tuple[list[np.ndarray], list[np.ndarray]]] = {}
    for row, segment in enumerate(segments):
        places = np.flatnonzero(ids[row] == IMAGE_PLACEHOLDER) + row * ids.shape[1]
        if not segment.images or not len(places):
            continue
        skipped = segment.skipped_patches
        shapes = [image.shape for image in segment.images]
        patches_of = {s: num_patches(*s[:2], segment.patch_size) for s in set(shapes)}
        counts = [patches_of[shape] for shape in shapes]
        stops = np.cumsum(counts)
        starts = stops - counts
        all_places = np.full(stops[-1], ids.size, dtype=np.int64)
        all_places[skipped : skipped + len(places)] = places[: stops[-1] - skipped]
        is_seen = (stops > skipped) & (starts < skipped + len(places))
        seen = np.flatnonzero(is_seen).tolist()
        for shape in dict.fromkeys(shapes[i] for i in seen):
            chosen = [i for i in seen if shapes[i] == shape]
            group, positions = found.setdefault(shape, ([], []))
            group += [segment.images[i] for i in chosen]
            patches = np.arange(counts[chosen[0]])
            positions.append(all_places[starts[chosen, None] + patches])
    return [(group, np.concatenate(positions)) for group, positions in found.values()]


def place_numbers(
    segments: Sequence[TokenSegment], ids: np.ndarray
) -> tuple[NumberPatches, np.ndarray] | None:
    """Finds the place of every number patch in a batch; None where there is none.

    Args:
        segments: One a row. Number patches after the last placeholder of the row, which were cut
            off, are left out.
        ids: (B, T) with `NUMBER_PLACEHOLDER` at patches.

    Returns:
        N patches, row by row, and int64 (N,), their places in the flattened (B * T) tokens.

    Raises:
        DataError: When a row has fewer patches than placeholders.
    """
    is_number = ids == NUMBER_PLACEHOLDER
    counts = is_number.sum(axis=1)
    if not counts.any():
        return None
    kept = []
    for row, (segment, count) in enumerate(zip(segments, counts.tolist(), strict=True)):
        given = 0 if segment.numbers is None else len(segment.numbers)
        if given < count:
            raise DataError(f"row {row}: {count} number placeholders, but {given} patches for them")
        kept.append(None if segment.numbers is None else segment.numbers[:count])
    patches = concatenate_patches(kept)
    assert patches is not None
    return patches, np.flatnonzero(is_number)
