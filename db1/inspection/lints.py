"""Checks of a configuration and of training sequences; those of stores are in store_lints.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np

from db1.inspection.describe import Description, Token
from db1.inspection.findings import ERROR, INFO, WARNING, Finding
from db1.inspection.source_statistics import SourceStatistics
from db1.inspection.walk import ACTION_KINDS, PATCH, StepLayout
from db1.sequence.step import MAX_STEP_TOKENS
from db1.tokens.number_patch import PatchSizes
from db1.tokens.spec import StepSpec
from db1.tokens.text import TextTokenizer
from db1.tokens.vocabulary import Vocabulary

MAX_EDGE_SHARE = 0.01
"""Largest share of a field's numbers in the first and the last bin."""
_LONGER = "use a longer sequence.length, or a smaller sequence.prompt_steps_share"
MAX_PADDING_SHARE = 0.5
MAX_DEAD_SHARE = 0.95
MIN_NUMBERS_PER_BIN = 4
"""Numbers for each bin that must be drawn before unused bins mean anything."""


def id_collisions(vocabulary: Vocabulary, tokenizer: TextTokenizer | None) -> list[Finding]:
    """Ids that mean two things, and text ids that reach into another range."""
    config, found = vocabulary.config, []
    if tokenizer is not None and tokenizer.size > config.text_size:
        found.append(
            Finding(
                severity=ERROR,
                code="tokenizer-size",
                what=f"the tokenizer has {tokenizer.size} ids, the text range {config.text_size}",
                where="vocabulary.text_size",
                fix=f"set vocabulary.text_size to at least {tokenizer.size}, or tokenise again",
            )
        )
    if config.discrete_ids == "shared_with_text":
        found.append(
            Finding(
                severity=INFO,
                code="id-collision",
                what=f"{config.num_discrete} discrete values share their ids with text (as in "
                "Gato and the released model)",
                where="vocabulary.discrete_ids",
                fix="own_range keeps them apart; the ids of a trained model cannot be changed",
            )
        )
    return found


def rare_source(name: str, share: Fraction, num_samples: int, expected: int) -> list[Finding]:
    """A weight above 0 that gives no sample of the run, or one only because each gets one."""
    if not share or share * num_samples >= 1:
        return []
    what = f"its share {float(share):.3g} of {num_samples} sequences is less than one"
    said = "it gets one all the same" if expected else "it gets none"
    return [
        Finding(
            severity=WARNING,
            code="no-samples",
            what=f"{what}; {said}",
            where=name,
            fix="raise its weight or the number of steps, or set the weight to 0",
        )
    ]


def window_fit(
    name: str,
    spec: StepSpec,
    vocabulary: Vocabulary,
    length: int,
    num_positions: int,
    patches: PatchSizes | None = None,
    instruction_field: str | None = None,
) -> list[Finding]:
    """A step that does not fit the sequence, or whose tokens are more than local positions.

    Args:
        name: Task id.
        spec: Of the task.
        vocabulary: Id ranges.
        length: Tokens of a sequence that the model sees.
        num_positions: Rows of the model's table of local positions.
        patches: Sizes of image and number patches.
        instruction_field: Text field that stands in front of the sequence instead.
    """
    layout, found = StepLayout.of(spec, vocabulary, patches, instruction_field), []
    if layout.min_step_tokens > length + 1:
        found.append(
            Finding(
                severity=ERROR,
                code="window",
                what=f"one step has {layout.min_step_tokens} tokens, a sequence {length + 1}: "
                "its action is never learned whole",
                where=name,
                fix=f"set sequence.length to at least {layout.min_step_tokens - 1}",
            )
        )
    largest = min(num_positions - 1, MAX_STEP_TOKENS)
    if layout.num_observed + 1 > largest:
        found.append(
            Finding(
                severity=ERROR,
                code="local-positions",
                what=f"an observation has {layout.num_observed + 1} tokens, the table of local "
                f"positions ends at {largest}",
                where=name,
                fix="shrink its images or leave fields out; raise model.num_local_positions up to "
                f"{MAX_STEP_TOKENS + 1}",
            )
        )
    return found


def sample_lints(
    description: Description, spec: StepSpec | None, num_positions: int
) -> list[Finding]:
    """All checks of one sequence."""
    found = list(description.findings)
    found += image_count(description)
    found += local_positions(description, num_positions)
    found += no_targets(description)
    if spec is not None:
        found += impossible_actions(description, spec)
    return found


def image_count(description: Description) -> list[Finding]:
    """More places of patches than patches."""
    tokens = [t for t in description.tokens if t.kind == PATCH and t.image is None]
    if not tokens:
        return []
    return [
        Finding(
            severity=ERROR,
            code="images",
            what=f"{len(tokens)} patch tokens have no image",
            where=f"{description.sample.source}, token {tokens[0].index}",
            fix="make the store again; if that does not help, report it as a bug of db1",
        )
    ]


def local_positions(description: Description, num_positions: int) -> list[Finding]:
    """Local positions after the end of the model's table."""
    positions = description.sample.local_positions
    if not len(positions) or int(positions.max()) < num_positions:
        return []
    token = int(np.argmax(positions >= num_positions))
    return [
        Finding(
            severity=ERROR,
            code="local-positions",
            what=f"local position {positions[token]}, the table has {num_positions} rows",
            where=f"{description.sample.source}, token {token}",
            fix="shorten the text or the images of a step",
        )
    ]


def no_targets(description: Description) -> list[Finding]:
    """A sequence from which nothing is learned."""
    if description.num_targets:
        return []
    return [
        Finding(
            severity=WARNING,
            code="no-targets",
            what="no token of the sequence is predicted",
            where=description.sample.source,
            fix=_LONGER,
        )
    ]


def impossible_actions(description: Description, spec: StepSpec) -> list[Finding]:
    """Actions of the expert that decoding never gives: masked out by their own observation."""
    if spec.action_mask is None:
        return []
    allowed: dict[tuple[int | None, int], Token] = {}
    for token in description.tokens:
        if token.field == spec.action_mask and token.field_index is not None:
            field = spec.observation[spec.action_mask]
            flat = int(np.ravel_multi_index(token.field_index, field.shape)) if field.shape else 0
            allowed[token.step, flat] = token
    for token in description.tokens:
        if token.kind not in ACTION_KINDS:
            continue
        value = token.value if token.label is None else token.label_value
        bit = allowed.get((token.step, int(value or 0)))
        if bit is not None and bit.value == 0:
            return [
                Finding(
                    severity=ERROR,
                    code="impossible-action",
                    what=f"the expert takes action {value}, which {spec.action_mask!r} forbids: "
                    "acting can never give it",
                    where=f"{description.sample.source}, step {token.step}, token {token.index}",
                    fix="mend the expert or the mask, and collect again",
                )
            ]
    return []


def dead_bins(statistics: SourceStatistics) -> list[Finding]:
    """Fields whose numbers use few of the bins."""
    found = []
    for field in statistics.fields:
        is_known = field.num_numbers >= MIN_NUMBERS_PER_BIN * len(field.counts)
        if is_known and field.dead_share > MAX_DEAD_SHARE:
            used = int((field.counts > 0).sum())
            found.append(
                Finding(
                    severity=INFO,
                    code="dead-bins",
                    what=f"{used} of {len(field.counts)} bins are used by {field.num_numbers} "
                    f"numbers of {statistics.num_samples} sequences "
                    f"({100 * field.dead_share:.0f} % dead)",
                    where=f"{statistics.name}, {field.name}",
                    fix="scale the values in the suite if they should be told apart more finely",
                )
            )
    return found


def clipped_numbers(statistics: SourceStatistics) -> list[Finding]:
    """Numbers in the first or the last bin: for observations a sign of values that are clipped."""
    found = []
    for field in statistics.fields:
        if field.edge_share > MAX_EDGE_SHARE:
            found.append(
                Finding(
                    severity=INFO if field.is_action else WARNING,
                    code="edge-bins",
                    what=f"{100 * field.edge_share:.1f} % of {field.num_numbers} numbers are in "
                    "the first or the last bin"
                    + (": actions at the end of their range" if field.is_action else ""),
                    where=f"{statistics.name}, {field.name}",
                    fix="nothing, where -1 and 1 are what the expert does"
                    if field.is_action
                    else "scale the values in the suite, or raise vocabulary.max_magnitude",
                )
            )
    return found


def without_targets(statistics: SourceStatistics) -> list[Finding]:
    """Sequences from which nothing is learned."""
    if not statistics.num_without_targets:
        return []
    return [
        Finding(
            severity=WARNING,
            code="no-targets",
            what=f"{statistics.num_without_targets} of {statistics.num_samples} sequences have no "
            "token that is predicted",
            where=statistics.name,
            fix=_LONGER,
        )
    ]


def padding_share(statistics: SourceStatistics) -> list[Finding]:
    """Sequences that are mostly padding."""
    if statistics.padding_share <= MAX_PADDING_SHARE:
        return []
    return [
        Finding(
            severity=WARNING,
            code="padding",
            what=f"{100 * statistics.padding_share:.0f} % of the tokens of "
            f"{statistics.num_samples} sequences are padding",
            where=statistics.name,
            fix="use a shorter sequence.length: its episodes are shorter than a sequence",
        )
    ]


SOURCE_LINTS: Sequence[Callable[[SourceStatistics], list[Finding]]] = (
    without_targets,
    dead_bins,
    clipped_numbers,
    padding_share,
)
"""Checks of what was drawn from one source."""
