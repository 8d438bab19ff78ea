"""Environment steps <-> ids. Training data and the acting policy both go through this file.

    text ids | image patches (row-major) | numbers (keys in lexicographic order) | SEP | action ids
    local position  1    2    ...                                    n_obs     n_obs+1   0 ... 0

Steps are laid out as the rows of one matrix, whole columns at a time. Texts of different lengths
end at the same column; what lies in front of the shorter ones is left out afterwards:

    step 0      go  to | p0 p1 | x0 x1 | SEP | a0        "." is left out
    step 1   .  .  run | p0 p1 | x0 x1 | SEP | a0

With number patches (`PatchSizes.numbers` above 1) the numbers are placeholders, too, each for
several of them; with an instruction field its text is left out of the steps, since it stands in
front of the sequence.

Source: Reed et al. 2022, section 2; released DB1 model (separator and local positions).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np

from db1.errors import DataError
from db1.sequence.segment import TokenSegment
from db1.tokens.number_patch import NumberLayout, NumberPatches, PatchSizes
from db1.tokens.scalar import ScalarTokenizer
from db1.tokens.spec import FieldSpec, StepSpec, num_patches
from db1.tokens.text import TextTokenizer
from db1.tokens.vocabulary import IMAGE_PLACEHOLDER, NUMBER_PLACEHOLDER, Vocabulary

MAX_STEP_TOKENS = 512
"""Largest local position (the released table has 513 rows, row 0 for actions)."""


class StepCodec:
    """Turns steps of one task into ids and action ids back into actions.

    Args:
        spec: Fields of a step.
        vocabulary: Id ranges.
        tokenizer: Text tokenizer; needed only for text fields and instructions.
        patches: Sizes of image and number patches.
        instruction_field: Text field that holds an episode's instruction, the same in all its
            steps; it is left out of the steps. None: all text fields stay in the steps.

    Raises:
        DataError: When the vocabulary holds too few discrete values, the text ids do not fit, a
            text field has no tokenizer, or the instruction field is no text field.
    """

    def __init__(
        self,
        spec: StepSpec,
        vocabulary: Vocabulary,
        tokenizer: TextTokenizer | None = None,
        patches: PatchSizes | None = None,
        instruction_field: str | None = None,
    ) -> None:
        self.spec = spec
        self.vocabulary = vocabulary
        self.scalar = ScalarTokenizer(vocabulary.config)
        self.patches = patches or PatchSizes()
        self.instruction_field = instruction_field
        groups: dict[str, list[str]] = {"text": [], "image": [], "number": []}
        for key, field in spec.observation.items():
            groups[field.kind if field.kind in groups else "number"].append(key)
        self._text, self._image, numbers = (sorted(g) for g in groups.values())
        self._continuous = _FieldGroup(spec.observation, numbers, "continuous")
        self._discrete = _FieldGroup(spec.observation, numbers, "discrete")
        self._num_numbers = sum(spec.observation[key].size for key in numbers)
        self._layout = self._number_layout(numbers)
        if self._layout is not None:
            self._num_numbers = self._layout.num_patches
        if self._text and tokenizer is None:
            raise DataError(f"text fields {self._text} need a tokenizer, got none")
        if instruction_field is not None:
            if instruction_field not in self._text:
                raise DataError(
                    f"instruction field {instruction_field!r}, expected one of the text fields "
                    f"{self._text}"
                )
            self._text.remove(instruction_field)
        self._tokenizer = tokenizer
        self._encode_text = lru_cache(maxsize=65_536)(self._text_to_ids)
        for field in [*spec.observation.values(), spec.action]:
            if field.kind == "discrete":
                vocabulary.discrete_range(field.num_values)
        self.num_action_tokens = spec.action.size
        self.action_ids = (
            vocabulary.discrete_range(spec.action.num_values)
            if spec.action.kind == "discrete"
            else vocabulary.bin_range()
        )

    def _number_layout(self, keys: list[str]) -> NumberLayout | None:
        """Layout of numbers in patches; None where each is a token."""
        if self.patches.numbers == 1 or not keys:
            return None
        config = self.vocabulary.config
        return NumberLayout(self.spec.observation, keys, self.patches.numbers, config.max_magnitude)

    @property
    def min_step_tokens(self) -> int:
        """Tokens of one step (observation, separator, action) without its text."""
        fields = self.spec.observation
        patches = sum(num_patches(*fields[k].shape[:2], self.patches.image) for k in self._image)
        return patches + self._num_numbers + 1 + self.num_action_tokens

    def encode_steps(
        self, observations: Mapping[str, np.ndarray], actions: np.ndarray, source: str = ""
    ) -> TokenSegment:
        """Consecutive steps as one sequence of any length; every action token is a target.

        Args:
            observations: Arrays (N, ...) by key, of N steps.
            actions: Actions (N, *shape) of the same steps.
            source: Task id.

        Raises:
            DataError: For values outside their field, or an observation longer than 512 tokens.
        """
        rows, text_lengths = self._rows(observations, self.num_action_tokens)
        num_steps, width = rows.shape
        num_seen = width - self.num_action_tokens
        rows[:, num_seen:] = self.encode_actions(actions)
        positions, action_mask = _step_places(num_steps, num_seen, self.num_action_tokens)
        longest = max(text_lengths, default=0)
        if min(text_lengths, default=0) < longest:
            left_out = longest - np.array(text_lengths, dtype=np.int32)[:, None]
            is_kept = np.arange(width) >= left_out
            rows = rows[is_kept]
            shifted = positions.reshape(num_steps, width) - left_out
            positions = np.maximum(shifted, 0)[is_kept]
            action_mask = action_mask.reshape(num_steps, width)[is_kept]
        return TokenSegment(
            ids=rows.reshape(-1),
            local_positions=positions,
            target_mask=action_mask,
            images=self._images(observations),
            numbers=self.number_patches(observations),
            source=source,
            patch_size=self.patches.image,
        )

    def encode_instruction(self, text: str) -> np.ndarray:
        """An instruction's words -> ids, int32 (n,).

        Raises:
            DataError: Without a tokenizer.
        """
        if self._tokenizer is None:
            raise DataError("an instruction needs a tokenizer, got none")
        return self._encode_text(text)

    def encode_observations(self, observations: Mapping[str, np.ndarray]) -> list[TokenSegment]:
        """Observation arrays (N, ...) of N steps -> tokens of each, with a separator.

        Raises:
            DataError: For values outside their field, or an observation longer than 512 tokens.
        """
        rows, text_lengths = self._rows(observations, 0)
        num_steps, width = rows.shape
        positions, _ = _step_places(1, width, 0)
        images, num_images = self._images(observations), len(self._image)
        numbers, num_numbers = self.number_patches(observations), self._num_numbers
        longest = max(text_lengths, default=0)
        lengths = [width - longest + n for n in text_lengths] or [width] * num_steps
        return [
            TokenSegment(
                ids=rows[n, width - length :],
                local_positions=positions[:length],
                images=images[n * num_images : (n + 1) * num_images],
                numbers=numbers and numbers[n * num_numbers : (n + 1) * num_numbers],
                patch_size=self.patches.image,
            )
            for n, length in enumerate(lengths)
        ]

    def encode_actions(self, actions: np.ndarray) -> np.ndarray:
        """Actions (N, *shape) -> ids, int32 (N, num_action_tokens).

        Raises:
            DataError: For a discrete action outside its space or one that is not finite.
        """
        field, actions = self.spec.action, np.asarray(actions)
        field.check_values(actions, "action")
        flat = actions.reshape(len(actions), self.num_action_tokens)
        if field.kind == "discrete":
            return self.vocabulary.discrete_ids(flat)
        return self.vocabulary.bin_ids(self.scalar.encode_action(flat))

    def decode_action(self, ids: np.ndarray) -> np.ndarray:
        """Ids (N, num_action_tokens) -> actions (N, *shape), float32 or int32."""
        field = self.spec.action
        if field.kind == "discrete":
            values = self.vocabulary.discrete_of(ids)
        else:
            values = self.scalar.decode_action(self.vocabulary.bins_of(ids))
        return values.reshape(len(ids), *field.shape)

    def disturb_actions(
        self, ids: np.ndarray, noise: float, generator: np.random.Generator
    ) -> np.ndarray:
        """Action ids (N, num_action_tokens) -> ids of disturbed actions.

        Continuous ones get Gaussian noise of standard deviation `noise`; discrete ones are
        replaced by a uniform draw with probability `noise`.
        """
        actions = self.decode_action(ids)
        field = self.spec.action
        if field.kind == "discrete":
            drawn = generator.integers(0, field.num_values, actions.shape)
            return self.encode_actions(
                np.where(generator.random(actions.shape) < noise, drawn, actions)
            )
        return self.encode_actions(actions + generator.normal(0.0, noise, actions.shape))

    def allowed_action_mask(self, observations: Mapping[str, np.ndarray]) -> np.ndarray | None:
        """bool (N, num_values): which actions the observations allow; None when all are."""
        if self.spec.action_mask is None:
            return None
        mask = np.asarray(observations[self.spec.action_mask])
        return mask.reshape(len(mask), -1) != 0

    def _rows(
        self, observations: Mapping[str, np.ndarray], num_free: int
    ) -> tuple[np.ndarray, list[int]]:
        """Lays observations out as rows whose last `num_free` columns are left to be filled.

        Returns:
            int32 (N, width), and the text tokens of each step (empty without text fields). The
            texts end at the same column; what is in front of shorter ones is undefined.
        """
        num_steps = len(next(iter(observations.values())))
        texts = self._texts(observations)
        text_lengths = [len(text) for text in texts]
        first_patch = max(text_lengths, default=0)
        first_number = first_patch + sum(
            num_patches(*observations[key].shape[1:3], self.patches.image) for key in self._image
        )
        separator = first_number + self._num_numbers
        if separator + 1 > MAX_STEP_TOKENS:
            raise DataError(
                f"an observation of {separator + 1} tokens, expected at most {MAX_STEP_TOKENS}; "
                "shorten its text or shrink its images"
            )
        rows = np.empty((num_steps, separator + 1 + num_free), dtype=np.int32)
        for row, text in zip(rows, texts, strict=False):
            row[first_patch - len(text) : first_patch] = text
        rows[:, first_patch:first_number] = IMAGE_PLACEHOLDER
        self._put_numbers(observations, rows[:, first_number:separator])
        rows[:, separator] = self.vocabulary.separator
        return rows, text_lengths

    def _put_numbers(self, observations: Mapping[str, np.ndarray], out: np.ndarray) -> None:
        """Fills int32 (N, num_numbers) with the ids, or placeholders, of all number fields."""
        if self._layout is not None:
            self._continuous.check(observations)
            self._discrete.check(observations)
            out[:] = NUMBER_PLACEHOLDER
            return
        if self._continuous.keys:
            values = self._continuous.gather(observations, np.float32)
            if not np.isfinite(values).all():
                self._continuous.check(observations)  # knows the field; float32 may overflow
            ids = self.vocabulary.bin_ids(self.scalar.encode_observation(values))
            out[:, self._continuous.columns] = ids
        if self._discrete.keys:
            self._discrete.check(observations)
            values = self._discrete.gather(observations, np.int32)
            out[:, self._discrete.columns] = self.vocabulary.discrete_ids(values)

    def number_patches(self, observations: Mapping[str, np.ndarray]) -> NumberPatches | None:
        """Number patches of checked observations (N, ...); None where each number is a token."""
        return None if self._layout is None else self._layout.patches(observations)

    def _texts(self, observations: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Text ids of each step; an empty list where there are no text fields."""
        columns = [
            [self._encode_text(str(text)) for text in observations[key]] for key in self._text
        ]
        if len(columns) < 2:
            return columns[0] if columns else []
        return [np.concatenate(step) for step in zip(*columns, strict=True)]

    def _images(self, observations: Mapping[str, np.ndarray]) -> tuple[np.ndarray, ...]:
        """Images of the steps, one step's after the other's."""
        columns = [observations[key] for key in self._image]
        if len(columns) < 2:
            return tuple(columns[0]) if columns else ()
        return tuple(chain.from_iterable(zip(*columns, strict=True)))

    def _text_to_ids(self, text: str) -> np.ndarray:
        assert self._tokenizer is not None
        return self.vocabulary.text_ids(self._tokenizer.encode(text))

    def __getstate__(self) -> dict[str, Any]:
        return {
            "spec": self.spec,
            "vocabulary": self.vocabulary,
            "tokenizer": self._tokenizer,
            "patches": self.patches,
            "instruction_field": self.instruction_field,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # the text cache is not picklable; build it again


def stack_observations(observations: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """Observations of N steps (dicts of one step's values) -> dict of arrays (N, ...)."""
    keys = observations[0].keys()
    stacked: dict[str, np.ndarray] = {}
    for key in keys:
        values = [observation[key] for observation in observations]
        if isinstance(values[0], str):
            stacked[key] = np.array(values, dtype=object)
        else:
            stacked[key] = np.stack([np.asarray(value) for value in values])
    return stacked


class _FieldGroup:
    """The number fields of one kind, encoded together.

    Args:
        fields: All observation fields.
        numbers: Keys of the number fields in the order of their tokens.
        kind: `continuous` or `discrete`.

    Attributes:
        keys: Keys of this kind, in order.
        columns: Their places among the tokens of all numbers: a slice where they are neighbours,
            else indices.
    """

    def __init__(self, fields: Mapping[str, FieldSpec], numbers: Sequence[str], kind: str) -> None:
        self._fields = fields
        self.keys = [key for key in numbers if fields[key].kind == kind]
        self._sizes = [fields[key].size for key in self.keys]
        places = np.repeat([key in self.keys for key in numbers], [fields[k].size for k in numbers])
        indices = np.flatnonzero(places)
        first, last = (int(indices[0]), int(indices[-1]) + 1) if len(indices) else (0, 0)
        self.columns = slice(first, last) if last - first == len(indices) else indices

    def gather(self, observations: Mapping[str, np.ndarray], dtype: type) -> np.ndarray:
        """Values of the fields side by side, (N, number of columns)."""
        flat = []
        for key, size in zip(self.keys, self._sizes, strict=True):
            values = np.asarray(observations[key], dtype)
            flat.append(values.reshape(len(values), size))
        return flat[0] if len(flat) == 1 else np.concatenate(flat, axis=1)

    def check(self, observations: Mapping[str, np.ndarray]) -> None:
        """Raises DataError naming the field of a value (N, ...) that does not lie in it."""
        for key in self.keys:
            self._fields[key].check_values(np.asarray(observations[key]), key)


def _step_places(num_steps: int, num_seen: int, num_actions: int) -> tuple[np.ndarray, np.ndarray]:
    """Local positions, int32, and where actions stand, bool, of equally long steps; read-only."""
    capacity = 1 << max(0, num_steps - 1).bit_length()
    positions, action_mask = _repeated_places(capacity, num_seen, num_actions)
    stop = num_steps * (num_seen + num_actions)
    return positions[:stop], action_mask[:stop]


@lru_cache(maxsize=256)
def _repeated_places(
    num_steps: int, num_seen: int, num_actions: int
) -> tuple[np.ndarray, np.ndarray]:
    one = np.zeros(num_seen + num_actions, dtype=np.int32)
    one[:num_seen] = np.arange(1, num_seen + 1)
    positions = np.tile(one, num_steps)
    action_mask = positions == 0
    positions.setflags(write=False)
    action_mask.setflags(write=False)
    return positions, action_mask
