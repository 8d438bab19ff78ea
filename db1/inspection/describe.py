"""A training sequence -> one row a token, with everything that is known about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

import numpy as np

from db1.data.mixture import sample_hash
from db1.data.sources import EpisodeSource, Source
from db1.inspection.findings import ERROR, Finding
from db1.inspection.walk import (
    ACTION_KINDS,
    ACTION_NUMBER,
    ACTION_VALUE,
    DISCRETE,
    KINDS,
    NUMBER,
    NUMBER_PATCH,
    PADDING,
    PATCH,
    TEXT,
    Column,
    Place,
    StepLayout,
    Walk,
    kind_of_id,
    walk,
)
from db1.sequence.segment import NO_LOCAL_POSITION, TokenSegment
from db1.tokens.number_patch import CONTINUOUS_CODE, FIRST_DISCRETE_CODE, MAX_DISCRETE
from db1.tokens.scalar import ScalarTokenizer
from db1.tokens.spec import StepSpec, num_patches
from db1.tokens.text import TextTokenizer
from db1.tokens.vocabulary import IMAGE_PLACEHOLDER, NUMBER_PLACEHOLDER, Vocabulary

Value = float | int | str | None


@dataclass(frozen=True, kw_only=True)
class Token:
    """One token of a sequence. What a kind does not have is None.

    Args:
        index: Place in the sequence; the last one is only a label.
        id: What the model reads; -1 at image patches, -2 at number patches.
        kind: One of `db1.inspection.walk.KINDS`.
        value: Text piece, discrete value, or the number that the bin stands for.
        bin: Bin of a number.
        squashed: What the bin stands for in [-1, 1]: for observations before the mu-law is undone.
        field: Observation key, or `action`.
        field_index: Place in the field (patch: row, column; text: token of the text).
        step: Step of the sequence, those of the prompt counted too.
        local_position: What is added to its embedding; None: nothing.
        part: `prompt`, `body` or `padding`.
        is_target: The loss falls on it.
        label: Id that is to be predicted here where it is not `id`.
        label_value: Value of `label`.
        label_bin: Bin of `label`.
        image: Number of the image.
    """

    index: int
    id: int
    kind: str
    value: Value
    bin: int | None
    squashed: float | None
    field: str | None
    field_index: tuple[int, ...] | None
    step: int | None
    local_position: int | None
    part: str
    is_target: bool
    label: int | None
    label_value: Value
    label_bin: int | None
    image: int | None


@dataclass(frozen=True, kw_only=True)
class Description:
    """A sequence, read back.

    Args:
        sample: The sequence.
        tokens: One for each id.
        num_steps: Whole steps; None where the sequence has none.
        findings: Where it does not follow the layout of its task.
        texts: Each stretch of text as a whole, by its first token: a character may take several
            tokens. Empty without a tokenizer.
    """

    sample: TokenSegment
    tokens: tuple[Token, ...]
    num_steps: int | None
    findings: tuple[Finding, ...]
    texts: dict[int, str]

    @cached_property
    def counts(self) -> dict[str, int]:
        """Number of tokens of each kind that occurs."""
        counted = Counter(token.kind for token in self.tokens)
        return {kind: counted[kind] for kind in KINDS if counted[kind]}

    @cached_property
    def num_targets(self) -> int:
        """Tokens that the loss falls on."""
        return sum(token.is_target for token in self.tokens)

    def to_dict(self) -> dict[str, Any]:
        """Everything but the pixels, JSON-able."""
        sample = self.sample
        return {
            "source": sample.source,
            "sha256": sample_hash(sample),
            "num_tokens": len(self.tokens),
            "num_steps": self.num_steps,
            "prompt_length": sample.prompt_length,
            "instruction_length": sample.instruction_length,
            "num_targets": self.num_targets,
            "target_weight": sample.target_weight,
            "counts": self.counts,
            "images": [{"shape": list(image.shape)} for image in sample.images],
            "tokens": [asdict(token) for token in self.tokens],
        }


def describe_from(
    source: Source, sample: TokenSegment, vocabulary: Vocabulary, tokenizer: TextTokenizer | None
) -> Description:
    """Describes a sequence that `source` made."""
    if not isinstance(source, EpisodeSource):
        return describe(sample, vocabulary, tokenizer)
    codec = source.codec
    layout = StepLayout.of(codec.spec, vocabulary, codec.patches, codec.instruction_field)
    return describe(sample, vocabulary, tokenizer, codec.spec, layout)


def describe(
    sample: TokenSegment,
    vocabulary: Vocabulary,
    tokenizer: TextTokenizer | None = None,
    spec: StepSpec | None = None,
    layout: StepLayout | None = None,
) -> Description:
    """Reads a sequence back.

    Args:
        sample: The sequence.
        vocabulary: Id ranges.
        tokenizer: For the text pieces; None leaves them out.
        spec: Of the task; None for sequences that are not of control.
        layout: Of its steps; None: every number is a token, no instruction in front.
    """
    if spec is None:
        walked = _walk_without_steps(sample, vocabulary)
    else:
        walked = walk(sample, layout or StepLayout.of(spec, vocabulary), vocabulary)
    reader = _Reader(sample, vocabulary, tokenizer, spec)
    tokens = tuple(reader.token(n, place) for n, place in enumerate(walked.places))
    return Description(
        sample=sample,
        tokens=tokens,
        num_steps=None if spec is None else walked.num_steps,
        findings=tuple(walked.findings),
        texts={} if tokenizer is None else _texts(tokens, tokenizer),
    )


def _texts(tokens: Sequence[Token], tokenizer: TextTokenizer) -> dict[int, str]:
    texts = {}
    for (kind, _, _), group in groupby(tokens, lambda t: (t.kind, t.part, t.step)):
        run = list(group)
        ids = [token.id for token in run]
        if kind == TEXT and max(ids) < tokenizer.size:
            texts[run[0].index] = tokenizer.decode(ids)
    return texts


def _walk_without_steps(sample: TokenSegment, vocabulary: Vocabulary) -> Walk:
    """Kinds by the ids alone: text and patches, then separators as padding."""
    is_filler = (sample.ids == vocabulary.separator) & ~sample.target_mask
    real = np.flatnonzero(~is_filler)
    stop = int(real[-1]) + 1 if len(real) else 0
    places = []
    for n, token in enumerate(sample.ids.tolist()):
        places.append(Place(kind=PADDING if n >= stop else kind_of_id(token, vocabulary)))
    is_odd = np.array([place.kind not in (TEXT, PATCH, PADDING) for place in places])
    is_odd |= sample.local_positions != NO_LOCAL_POSITION
    is_odd |= (sample.ids == IMAGE_PLACEHOLDER) & sample.target_mask
    return Walk(places=places, findings=[_odd_token(sample, is_odd)] if is_odd.any() else [])


def _odd_token(sample: TokenSegment, is_odd: np.ndarray) -> Finding:
    token = int(np.argmax(is_odd))
    return Finding(
        severity=ERROR,
        code="structure",
        what=f"{int(is_odd.sum())} tokens are neither text nor an image patch, have a local "
        f"position, or are patches to be predicted; the first has id {sample.ids[token]}",
        where=f"{sample.source}, token {token}",
        fix="make the store again; if that does not help, report it as a bug of db1",
    )


class _Reader:
    """Makes the rows of one sequence."""

    def __init__(
        self,
        sample: TokenSegment,
        vocabulary: Vocabulary,
        tokenizer: TextTokenizer | None,
        spec: StepSpec | None,
    ) -> None:
        self._sample, self._vocabulary, self._tokenizer = sample, vocabulary, tokenizer
        self._scalar = ScalarTokenizer(vocabulary.config)
        self._labels = sample.label_ids
        self._spec = spec
        patches = [
            (number, divmod(patch, image.shape[1] // sample.patch_size))
            for number, image in enumerate(sample.images)
            for patch in range(num_patches(*image.shape[:2], sample.patch_size))
        ]
        holes = np.flatnonzero(sample.ids == IMAGE_PLACEHOLDER).tolist()
        self._patches = dict(zip(holes, patches, strict=False))
        holes = np.flatnonzero(sample.ids == NUMBER_PLACEHOLDER).tolist()
        self._number_patches = {n: patch for patch, n in enumerate(holes)}

    def token(self, n: int, place: Place) -> Token:
        """Row of token `n`."""
        sample, kind, column = self._sample, place.kind, place.column
        own = int(sample.ids[n])
        value, bin_number, squashed = self._value(own, kind)
        if kind == NUMBER_PATCH:
            value = self._numbers(n)
        label = int(self._labels[n])
        label_value, label_bin, _ = (None,) * 3 if label == own else self._value(label, kind)
        image, patch = self._patches.get(n, (None, None))
        position = int(sample.local_positions[n])
        index = self._index(column) if column is not None else None
        part = "prompt" if n < sample.prompt_length else "body"
        part = "instruction" if n < sample.instruction_length else part
        return Token(
            index=n,
            id=own,
            kind=kind,
            value=value,
            bin=bin_number,
            squashed=squashed,
            field=None if column is None else column.field,
            field_index=patch if kind == PATCH else index,
            step=place.step,
            local_position=None if position == NO_LOCAL_POSITION else position,
            part="padding" if kind == PADDING else part,
            is_target=bool(sample.target_mask[n]) and n > 0,
            label=None if label == own else label,
            label_value=label_value,
            label_bin=label_bin,
            image=image,
        )

    def _index(self, column: Column) -> tuple[int, ...] | None:
        """Place in the field, along its axes."""
        if column.field is None or self._spec is None:
            return None
        if column.kind in (TEXT, NUMBER_PATCH):
            return (column.index,)
        is_action = column.kind in ACTION_KINDS
        field = self._spec.action if is_action else self._spec.observation[column.field]
        if not field.shape:
            return ()
        return tuple(int(i) for i in np.unravel_index(column.index, field.shape))

    def _numbers(self, n: int) -> str | None:
        """The numbers of the patch at token `n` as a person reads them; None where it has none."""
        numbers, patch = self._sample.numbers, self._number_patches.get(n)
        if numbers is None or patch is None or patch >= len(numbers):
            return None
        shown = []
        for value, code in zip(numbers.values[patch], numbers.codes[patch].tolist(), strict=True):
            if code == CONTINUOUS_CODE:
                shown.append(f"{value:.3g}")
            elif code >= FIRST_DISCRETE_CODE:
                shown.append(str((code - FIRST_DISCRETE_CODE) % MAX_DISCRETE))
        return " ".join(shown)

    def _value(self, token: int, kind: str) -> tuple[Value, int | None, float | None]:
        ids = np.array([token])
        if kind == TEXT and self._tokenizer is not None and token in range(self._tokenizer.size):
            return self._tokenizer.decode(ids), None, None
        if kind in (NUMBER, ACTION_NUMBER) and token in self._vocabulary.bin_range():
            bins = self._vocabulary.bins_of(ids)
            squashed = float(self._scalar.decode_action(bins)[0])
            observed = float(self._scalar.decode_observation(bins)[0])
            return observed if kind == NUMBER else squashed, int(bins[0]), squashed
        if kind in (DISCRETE, ACTION_VALUE) and token in self._vocabulary.discrete_range():
            return int(self._vocabulary.discrete_of(ids)[0]), None, None
        return None, None, None
