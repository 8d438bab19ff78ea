"""Draws one training sequence in the terminal: steps in groups, or one row a token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from db1.inspection.describe import Description, Token, Value
from db1.inspection.pictures import half_blocks
from db1.inspection.walk import (
    ACTION_KINDS,
    ACTION_NUMBER,
    ACTION_VALUE,
    DISCRETE,
    NUMBER,
    NUMBER_PATCH,
    PADDING,
    PATCH,
    SEPARATOR,
    TEXT,
)

COLOURS = {
    TEXT: "green",
    PATCH: "magenta",
    NUMBER_PATCH: "cyan",
    NUMBER: "cyan",
    DISCRETE: "blue",
    SEPARATOR: "bright_black",
    ACTION_NUMBER: "yellow",
    ACTION_VALUE: "bright_yellow",
    PADDING: "bright_black",
}
MAX_NUMBERS = 8
"""Numbers of a field that the compact form shows."""
MAX_LINE = 110
"""Characters up to which several fields of a step share a line."""
MAX_CHARACTERS = 1_200
"""Characters of a text that the compact form shows."""


def show_sequence(description: Description, title: str, console: Console, *, full: bool) -> None:
    """Prints a sequence.

    Args:
        description: The sequence.
        title: Which one it is.
        console: Where to.
        full: One row a token.
    """
    console.print(Text(title, style="bold"))
    console.print(_legend(description))
    if full:
        console.print(_token_table(description.tokens))
    else:
        for line in compact(description):
            console.print(line, soft_wrap=True)


def compact(description: Description) -> Iterator[Text]:
    """The lines of the compact form."""
    for (part, step), group in groupby(description.tokens, lambda t: (t.part, t.step)):
        tokens = list(group)
        span = f"tokens {tokens[0].index}..{tokens[-1].index}"
        if part == "padding":
            yield Text(f"padding: {len(tokens)} separators, {span}", style=COLOURS[PADDING])
            continue
        name = part if step is None else f"{part}, step {step}"
        yield Text(f"{name} ({span})", style="bold")
        short = Text()
        for (kind, field, image), run in groupby(tokens, lambda t: (t.kind, t.field, t.image)):
            first, *drawn = _run(list(run), kind, field, image, description)
            if len(short) and (drawn or len(short) + len(first) > MAX_LINE):
                yield short
                short = Text()
            short.append_text(first)
            if drawn:
                yield from (short, *drawn)
                short = Text()
        if len(short):
            yield short


def _run(
    tokens: Sequence[Token],
    kind: str,
    field: str | None,
    image: int | None,
    description: Description,
) -> Iterator[Text]:
    """Consecutive tokens of one field: a line, then those of a picture."""
    line = Text("  ")
    line.append(kind if field is None or kind in ACTION_KINDS else f"{field}", style="dim")
    line.append("  ")
    text = description.texts.get(tokens[0].index)
    line.append(_content(tokens, kind, text), style=COLOURS[kind])
    if kind not in (TEXT, PATCH, NUMBER_PATCH, SEPARATOR):
        line.append(f"  {_ids(tokens)}", style="dim")
    if any(token.is_target for token in tokens):
        line.append("  loss", style="bold red")
    changed = [token for token in tokens if token.label is not None]
    if changed:
        labels = " ".join(shown(t.value if t.label is None else t.label_value) for t in tokens)
        line.append(f"  to predict: {labels}", style="red")
    yield line
    if kind == PATCH and image is not None:
        for drawn in half_blocks(description.sample.images[image]):
            yield Text("    ") + drawn


def _content(tokens: Sequence[Token], kind: str, text: str | None) -> str:
    if kind == TEXT:
        text = _ids(tokens) if text is None else text
        cut = text if len(text) <= MAX_CHARACTERS else text[:MAX_CHARACTERS] + " ..."
        return f"{cut!r} ({len(tokens)} tokens)"
    if kind == PATCH:
        return f"{len(tokens)} patches of image {tokens[0].image}"
    if kind == SEPARATOR:
        return "|" * len(tokens)
    if kind == NUMBER_PATCH:
        return f"{len(tokens)} patches: " + " | ".join(str(token.value) for token in tokens)
    values = [shown(token.value) for token in tokens]
    if len(values) <= MAX_NUMBERS:
        return " ".join(values)
    numbers = [token.value for token in tokens if isinstance(token.value, int | float)]
    spread = f" ({shown(min(numbers))} to {shown(max(numbers))})" if numbers else ""
    return f"{' '.join(values[: MAX_NUMBERS - 2])} ... {values[-1]}: {len(values)} values{spread}"


def _ids(tokens: Sequence[Token]) -> str:
    if len(tokens) == 1:
        return f"id {tokens[0].id}"
    if len(tokens) <= MAX_NUMBERS:
        return "ids " + " ".join(str(token.id) for token in tokens)
    ids = np.array([token.id for token in tokens])
    return f"ids {ids.min()}..{ids.max()}"


def _legend(description: Description) -> Text:
    sample = description.sample
    line = Text()
    for kind, count in description.counts.items():
        line.append(f"{kind} {count}", style=COLOURS[kind])
        line.append("  ")
    line.append(f"\n{len(description.tokens)} tokens, the last of them only a label; ")
    line.append(f"loss on {description.num_targets}, weight {sample.target_weight:.4g} each; ")
    line.append(f"prompt of {sample.prompt_length} tokens")
    return line


def _token_table(tokens: Sequence[Token]) -> Table:
    columns = ("n", "id", "kind", "value", "before mu-law", "field", "step", "local position",
               "part", "loss", "to predict")  # fmt: skip
    table = Table(*columns)
    for token in tokens:
        label = "" if token.label is None else f"{shown(token.label_value)} (id {token.label})"
        table.add_row(
            str(token.index),
            str(token.id),
            token.kind,
            Text(shown(token.value)),
            shown(token.squashed) if token.kind == NUMBER else "",
            Text(place_of(token)),
            shown(token.step),
            "-" if token.local_position is None else str(token.local_position),
            token.part,
            "loss" if token.is_target else "",
            label,
            style=COLOURS[token.kind],
        )
    return table


def place_of(token: Token) -> str:
    """`state[3]`, `image[0,1]`, `action`, or nothing."""
    index = token.field_index
    inside = "" if not index else f"[{','.join(map(str, index))}]"
    return (token.field or ("" if token.image is None else f"image {token.image}")) + inside


def shown(value: Value) -> str:
    """A value in few characters; nothing for None."""
    if value is None:
        return ""
    if isinstance(value, str):
        return repr(value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)
