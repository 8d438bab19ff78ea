"""Reads a control sequence back, step by step, from nothing but the spec of a step.

    instruction | text ids | image patches | numbers or number patches | SEP | action ids
    once          any number   fixed          fixed                      1      fixed

This is a second implementation of the layout that `db1/sequence/step.py` writes, so that an error
there or in a store shows. The separator ends an observation; what lies in front of its fixed part
is text. A step that the end of the sequence cuts off has no separator: there the text lasts until
the first id that is none, or, where text and discrete values share ids, as long as the step before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from db1.inspection.findings import ERROR, Finding
from db1.sequence.segment import NO_LOCAL_POSITION, TokenSegment
from db1.tokens.number_patch import PatchSizes
from db1.tokens.spec import FieldSpec, StepSpec, num_patches
from db1.tokens.vocabulary import IMAGE_PLACEHOLDER, NUMBER_PLACEHOLDER, Vocabulary

TEXT, PATCH, NUMBER, DISCRETE = "text", "image patch", "number", "discrete value"
NUMBER_PATCH = "number patch"
SEPARATOR, PADDING = "separator", "padding"
ACTION_NUMBER, ACTION_VALUE = "action number", "action value"
KINDS = (
    TEXT,
    PATCH,
    NUMBER_PATCH,
    NUMBER,
    DISCRETE,
    SEPARATOR,
    ACTION_NUMBER,
    ACTION_VALUE,
    PADDING,
)
ACTION_KINDS = (ACTION_NUMBER, ACTION_VALUE)
ACTION = "action"
"""Name of the action field in what is shown."""

_MAX_PROBLEMS = 8
_MEND = "make the store again; if that does not help, report it as a bug of db1"


@dataclass(frozen=True, kw_only=True)
class Column:
    """One token of a step.

    Args:
        kind: One of `KINDS`.
        field: Name of its field (`a+b` for a number patch of several); None for the separator.
        index: Place in the flattened field (patches: row-major, number patches: in the step).
        ids: Ids that it may have.
    """

    kind: str
    field: str | None
    index: int
    ids: range


@dataclass(frozen=True, kw_only=True)
class StepLayout:
    """Layout that every step of a task has after its text.

    Args:
        text_field: Name of the text in front (`a+b` for several fields); None without text.
        text_ids: Ids that the text may have.
        columns: The tokens after the text: patches, numbers, separator, action.
        num_observed: How many of them the observation has, without the separator.
    """

    text_field: str | None
    text_ids: range
    columns: tuple[Column, ...]
    num_observed: int

    @classmethod
    def of(
        cls,
        spec: StepSpec,
        vocabulary: Vocabulary,
        patches: PatchSizes | None = None,
        instruction_field: str | None = None,
    ) -> StepLayout:
        """The layout of a task's steps.

        Args:
            spec: Fields of a step.
            vocabulary: Id ranges.
            patches: Sizes of image and number patches.
            instruction_field: Text field that stands in front of the sequence instead.

        Raises:
            DataError: The vocabulary holds fewer discrete values than the task has.
        """
        sizes = patches or PatchSizes()
        fields = sorted(spec.observation.items())
        fields = [(key, value) for key, value in fields if key != instruction_field]
        texts = [key for key, value in fields if value.kind == "text"]
        columns: list[Column] = []
        for key, value in fields:
            if value.kind == "image":
                count = num_patches(*value.shape[:2], sizes.image)
                ids = range(IMAGE_PLACEHOLDER, IMAGE_PLACEHOLDER + 1)
                columns += [Column(kind=PATCH, field=key, index=i, ids=ids) for i in range(count)]
        numbers = [(k, v) for k, v in fields if v.kind in ("continuous", "discrete")]
        if sizes.numbers > 1:
            columns += _number_patches(numbers, sizes.numbers)
        else:
            for key, value in numbers:
                columns += _values(key, value, (NUMBER, DISCRETE), vocabulary)
        num_observed = len(columns)
        end = range(vocabulary.separator, vocabulary.separator + 1)
        columns.append(Column(kind=SEPARATOR, field=None, index=0, ids=end))
        columns += _values(ACTION, spec.action, ACTION_KINDS, vocabulary)
        return cls(
            text_field="+".join(texts) or None,
            text_ids=vocabulary.text_range(),
            columns=tuple(columns),
            num_observed=num_observed,
        )

    @property
    def min_step_tokens(self) -> int:
        """Tokens of a step without its text."""
        return len(self.columns)

    def step(self, text_length: int) -> list[Column]:
        """All tokens of a step with so much text."""
        text = [
            Column(kind=TEXT, field=self.text_field, index=i, ids=self.text_ids)
            for i in range(text_length)
        ]
        return [*text, *self.columns]


def _values(
    name: str, field: FieldSpec, kinds: tuple[str, str], vocabulary: Vocabulary
) -> list[Column]:
    """A token a number of a field; `kinds`: of a continuous one, of a discrete one."""
    if field.kind == "continuous":
        kind, ids = kinds[0], vocabulary.bin_range()
    else:
        kind, ids = kinds[1], vocabulary.discrete_range(field.num_values)
    return [Column(kind=kind, field=name, index=i, ids=ids) for i in range(field.size)]


def _number_patches(fields: list[tuple[str, FieldSpec]], size: int) -> list[Column]:
    """Number patches of a step: small fields share one where they fit, others start over."""
    ids = range(NUMBER_PLACEHOLDER, NUMBER_PLACEHOLDER + 1)
    names: list[list[str]] = []
    free = 0
    for key, value in fields:
        if value.size <= free and value.size < size:
            names[-1].append(key)
            free -= value.size
            continue
        count = -(-value.size // size)
        names += [[key] for _ in range(count)]
        free = count * size - value.size
    return [
        Column(kind=NUMBER_PATCH, field="+".join(keys), index=i, ids=ids)
        for i, keys in enumerate(names)
    ]


@dataclass(frozen=True, kw_only=True)
class Place:
    """Meaning of one token of a sequence; `column` is None where it could not be told."""

    kind: str
    column: Column | None = None
    step: int | None = None


@dataclass
class Walk:
    """A sequence read back.

    Attributes:
        places: One for each token.
        findings: Where the sequence does not follow the layout.
        num_steps: Steps that are whole.
    """

    places: list[Place]
    findings: list[Finding] = field(default_factory=list)
    num_steps: int = 0


def kind_of_id(token: int, vocabulary: Vocabulary) -> str:
    """Kind of an id where no layout tells."""
    if token in (IMAGE_PLACEHOLDER, NUMBER_PLACEHOLDER):
        return PATCH if token == IMAGE_PLACEHOLDER else NUMBER_PATCH
    if token == vocabulary.separator:
        return SEPARATOR
    if token in vocabulary.text_range():
        return TEXT
    return NUMBER if token in vocabulary.bin_range() else DISCRETE


def walk(sample: TokenSegment, layout: StepLayout, vocabulary: Vocabulary) -> Walk:
    """Reads a control sequence back.

    Args:
        sample: The sequence.
        layout: Of its task.
        vocabulary: Id ranges.
    """
    separator = vocabulary.separator
    has_position = np.flatnonzero(sample.local_positions != NO_LOCAL_POSITION)
    stop = int(has_position[-1]) + 1 if len(has_position) else 0
    result = Walk(places=[Place(kind=PADDING)] * len(sample.ids))
    problems = _Problems(sample.source, result.findings)
    bad = np.flatnonzero((sample.ids[stop:] != separator) | sample.target_mask[stop:])
    if len(bad):
        problems.add(stop + int(bad[0]), "padding that is no separator or is to be predicted")
    step, text_length, spoken = 0, 0, sample.instruction_length
    result.places[:spoken] = [Place(kind=TEXT)] * spoken
    said = sample.ids[:spoken]
    is_odd = (said < layout.text_ids.start) | (said >= layout.text_ids.stop)
    is_odd |= sample.target_mask[:spoken]
    is_odd |= sample.local_positions[:spoken] != NO_LOCAL_POSITION
    if is_odd.any():
        problems.add(int(np.argmax(is_odd)), "a token of the instruction that is no plain text")
    for first, end in _parts(spoken, sample.prompt_length, stop):
        place = first
        while place < end:
            text_length = _text_length(sample, layout, separator, place, end, text_length)
            columns = layout.step(max(0, text_length))
            length = min(len(columns), end - place)
            ok = _check_step(sample, columns[:length], place, step, text_length, layout, problems)
            if length < len(columns) and end < len(sample.ids):
                problems.add(place, f"step {step} has {length} tokens, expected {len(columns)}")
                ok = False
            if ok:
                found = [Place(kind=c.kind, column=c, step=step) for c in columns[:length]]
            else:
                length = _next_step(sample, place, end) - place
                ids = sample.ids[place : place + length].tolist()
                found = [Place(kind=kind_of_id(i, vocabulary), step=step) for i in ids]
            result.places[place : place + length] = found
            result.num_steps += ok and length == len(columns)
            place += length
            step += 1
    problems.close()
    return result


def _parts(start: int, prompt_length: int, stop: int) -> Iterator[tuple[int, int]]:
    if prompt_length > start:
        yield start, min(prompt_length, stop)
    if max(start, prompt_length) < stop:
        yield max(start, prompt_length), stop


def _text_length(
    sample: TokenSegment, layout: StepLayout, separator: int, place: int, limit: int, before: int
) -> int:
    """Text tokens of the step at `place`; negative where its fixed part is too short."""
    ids = sample.ids[place:limit]
    ends = np.flatnonzero(ids == separator)
    if len(ends):
        return int(ends[0]) - layout.num_observed
    if layout.text_field is None:
        return 0
    first = layout.columns[0]
    if first.ids.start in layout.text_ids:  # discrete values that share ids with text
        return min(max(0, before), len(ids))
    is_text = (ids >= layout.text_ids.start) & (ids < layout.text_ids.stop)
    return len(ids) if is_text.all() else int(np.argmin(is_text))


def _check_step(
    sample: TokenSegment,
    columns: list[Column],
    place: int,
    step: int,
    text_length: int,
    layout: StepLayout,
    problems: _Problems,
) -> bool:
    if text_length < 0 or (text_length and layout.text_field is None):
        got = text_length + layout.num_observed
        problems.add(
            place,
            f"step {step}: the separator comes after {got} tokens, "
            f"expected {'at least ' if layout.text_field else ''}{layout.num_observed}",
        )
        return False
    here = slice(place, place + len(columns))
    ids, positions = sample.label_ids[here], sample.local_positions[here]
    low = np.array([column.ids.start for column in columns])
    high = np.array([column.ids.stop for column in columns])
    is_action = np.array([column.kind in ACTION_KINDS for column in columns])
    wanted = np.where(is_action, 0, np.arange(1, len(columns) + 1))
    is_body = place >= sample.prompt_length
    faults = (
        ((ids < low) | (ids >= high), "id"),
        (positions != wanted, "local position"),
        (sample.target_mask[here] != (is_action & is_body), "mark of what is to be predicted"),
    )
    for wrong, what in faults:
        if wrong.any():
            i = int(np.argmax(wrong))
            column = columns[i]
            name = column.kind if column.field is None else f"{column.kind} of {column.field}"
            said = {
                "id": f"{ids[i]}, expected {low[i]}..{high[i] - 1}",
                "local position": f"{positions[i]}, expected {wanted[i]}",
            }.get(what, "is wrong")
            problems.add(place + i, f"step {step}, {name}: {what} {said}")
    return not any(wrong.any() for wrong, _ in faults[:1])


def _next_step(sample: TokenSegment, place: int, limit: int) -> int:
    """Place at which to go on after a broken step: the next first local position."""
    starts = np.flatnonzero(sample.local_positions[place + 1 : limit] == 1)
    return place + 1 + int(starts[0]) if len(starts) else limit


class _Problems:
    """Collects problems of one sequence; beyond the first few only their number."""

    def __init__(self, source: str, findings: list[Finding]) -> None:
        self._source, self._findings = source, findings
        self._num_left_out = 0

    def add(self, token: int, what: str) -> None:
        if len(self._findings) >= _MAX_PROBLEMS:
            self._num_left_out += 1
            return
        self._put(f"{self._source}, token {token}", what)

    def close(self) -> None:
        if self._num_left_out:
            self._put(self._source, f"and {self._num_left_out} more of this sequence")

    def _put(self, where: str, what: str) -> None:
        self._findings.append(
            Finding(severity=ERROR, code="structure", what=what, where=where, fix=_MEND)
        )
