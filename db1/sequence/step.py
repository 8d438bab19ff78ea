"""One environment step <-> ids. Training data and the acting policy both go through this file.

    text ids | image patches (row-major) | numbers (keys in lexicographic order) | SEP | action ids
    local position  1    2    ...                                    n_obs     n_obs+1   0 ... 0

Source: Reed et al. 2022, section 2; released DB1 model (separator and local positions).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from db1.errors import DataError
from db1.tokens.image import PATCH_SIZE, num_patches
from db1.tokens.scalar import ScalarTokenizer
from db1.tokens.spec import FieldSpec, StepSpec
from db1.tokens.text import TextTokenizer
from db1.tokens.vocabulary import IMAGE_PLACEHOLDER, Vocabulary

MAX_STEP_TOKENS = 512
"""Largest local position (the released table has 513 rows, row 0 for actions)."""


@dataclass(frozen=True, kw_only=True)
class StepTokens:
    """Tokens of one observation with its separator.

    Args:
        ids: int32 (n,); `IMAGE_PLACEHOLDER` at image patches.
        local_positions: int32 (n,): 1, 2, ..., n.
        images: uint8 (H, W, C) in the order of their placeholders.
    """

    ids: np.ndarray
    local_positions: np.ndarray
    images: tuple[np.ndarray, ...] = ()


class StepCodec:
    """Turns steps of one task into ids and action ids back into actions.

    Args:
        spec: Fields of a step.
        vocabulary: Id ranges.
        tokenizer: Text tokenizer; needed only where the spec has a text field.
        patch_size: Side of an image patch in pixels.

    Raises:
        DataError: When the vocabulary holds too few discrete values, the text ids do not fit, or a
            text field has no tokenizer.
    """

    def __init__(
        self,
        spec: StepSpec,
        vocabulary: Vocabulary,
        tokenizer: TextTokenizer | None = None,
        patch_size: int = PATCH_SIZE,
    ) -> None:
        self.spec = spec
        self.vocabulary = vocabulary
        self.scalar = ScalarTokenizer(vocabulary.config)
        self.patch_size = patch_size
        groups: dict[str, list[str]] = {"text": [], "image": [], "number": []}
        for key, field in spec.observation.items():
            groups[field.kind if field.kind in groups else "number"].append(key)
        self._text, self._image, self._numbers = (sorted(g) for g in groups.values())
        if self._text and tokenizer is None:
            raise DataError(f"text fields {self._text} need a tokenizer, got none")
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

    @property
    def min_step_tokens(self) -> int:
        """Tokens of one step (observation, separator, action) without its text."""
        fields = self.spec.observation
        patches = sum(num_patches(*fields[k].shape[:2], self.patch_size) for k in self._image)
        numbers = sum(fields[k].size for k in self._numbers)
        return patches + numbers + 1 + self.num_action_tokens

    def encode_observations(self, observations: Mapping[str, np.ndarray]) -> list[StepTokens]:
        """Observation arrays with N steps on the first axis -> tokens of each step.

        Raises:
            DataError: For values outside their field, or a step longer than 512 tokens.
        """
        tail = self._number_ids(observations)
        patches = np.full(
            sum(num_patches(*observations[k].shape[1:3], self.patch_size) for k in self._image),
            IMAGE_PLACEHOLDER,
            dtype=np.int32,
        )
        steps = []
        for n in range(len(tail)):
            text = [self._encode_text(str(observations[key][n])) for key in self._text]
            ids = np.concatenate([*text, patches, tail[n]])
            if len(ids) > MAX_STEP_TOKENS:
                raise DataError(
                    f"an observation of {len(ids)} tokens, expected at most {MAX_STEP_TOKENS}; "
                    "shorten its text or shrink its images"
                )
            positions = np.arange(1, len(ids) + 1, dtype=np.int32)
            images = tuple(observations[key][n] for key in self._image)
            steps.append(StepTokens(ids=ids, local_positions=positions, images=images))
        return steps

    def encode_actions(self, actions: np.ndarray) -> np.ndarray:
        """Actions (N, *shape) -> ids, int32 (N, num_action_tokens).

        Raises:
            DataError: For a discrete action outside its space or one that is not finite.
        """
        actions = np.asarray(actions)
        return self._field_ids(self.spec.action, actions, "action", is_action=True)

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

    def _number_ids(self, observations: Mapping[str, np.ndarray]) -> np.ndarray:
        """Number fields and the separator, int32 (N, sum of sizes + 1)."""
        first = next(iter(observations.values()))
        columns = [
            self._field_ids(self.spec.observation[key], np.asarray(observations[key]), key)
            for key in self._numbers
        ]
        separator = np.full((len(first), 1), self.vocabulary.separator, dtype=np.int32)
        return np.concatenate([*columns, separator], axis=1)

    def _field_ids(
        self, field: FieldSpec, values: np.ndarray, name: str, is_action: bool = False
    ) -> np.ndarray:
        field.check_values(values, name)
        flat = values.reshape(len(values), field.size)
        if field.kind == "discrete":
            return self.vocabulary.discrete_ids(flat)
        encode = self.scalar.encode_action if is_action else self.scalar.encode_observation
        return self.vocabulary.bin_ids(encode(flat))

    def _text_to_ids(self, text: str) -> np.ndarray:
        assert self._tokenizer is not None
        return self.vocabulary.text_ids(self._tokenizer.encode(text))

    def __getstate__(self) -> dict[str, Any]:
        return {
            "spec": self.spec,
            "vocabulary": self.vocabulary,
            "tokenizer": self._tokenizer,
            "patch_size": self.patch_size,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # the text cache is not picklable; build it anew


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
