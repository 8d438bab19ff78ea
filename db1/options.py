"""Options of the command line, declared with the fields of the dataclass that they fill.

    @dataclass(frozen=True, kw_only=True)
    class Sampling(Checked):
        temperature: Positive = option(1.0, "Of sampling.", panel="Policy")
        greedy: bool = option(True, "Sample; default: the best.", name="sample", negated=True)
        scoring: Scoring | None = nested(Scoring, "Score it.", name="scoring")

    --temperature 1.0    --sample/--no-sample    --scoring/--no-scoring and all options of Scoring

Nothing here knows the command line; `db1.cli.options` makes its options of this. Fields without a
declaration keep their default there.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

_KEY = "db1_option"


@dataclass(frozen=True, kw_only=True)
class Option:
    """Presentation of a field on the command line.

    Args:
        help: One sentence for `--help`.
        panel: Heading under which it stands; None: the general one.
        name: Of the option; None: the field's.
        negated: The flag says the opposite of the field.
        two_way: The flag has a `--no-` form.
        metavar: What `--help` calls its value; None: the type.
        also: Another name of the option.
        nested: Dataclass whose options follow; the flag says whether there is one at all.
        writes: Endings of the file that the option names, which is written; other files that are
            there are not replaced.
    """

    help: str
    panel: str | None = None
    name: str | None = None
    negated: bool = False
    two_way: bool = False
    metavar: str | None = None
    also: str | None = None
    nested: type[Any] | None = None
    writes: tuple[str, ...] = ()


def option(
    default: Any,
    help: str,
    *,
    panel: str | None = None,
    name: str | None = None,
    negated: bool = False,
    two_way: bool = False,
    metavar: str | None = None,
    also: str | None = None,
    writes: tuple[str, ...] = (),
) -> Any:
    """Declares a field that is an option.

    Args:
        default: Its default; the field's type is one of str, int, float, bool, Path, a list or
            tuple of these, or one of these or None. Numbers have their range in it, see
            `db1.ranges`. A tuple's default takes effect where the option was not typed.
        help, panel, name, negated, two_way, metavar, also, writes: As of `Option`.
    """
    declared = Option(
        help=help,
        panel=panel,
        name=name,
        negated=negated,
        two_way=two_way,
        metavar=metavar,
        also=also,
        writes=writes,
    )
    return field(default=default, metadata={_KEY: declared})


def nested(kind: type[Any], help: str, *, panel: str | None = None) -> Any:
    """Declares a field that holds another dataclass with options of its own, or None."""
    declared = Option(help=help, panel=panel, two_way=True, nested=kind)
    return field(default_factory=kind, metadata={_KEY: declared})


def is_option(declared: dataclasses.Field[Any]) -> bool:
    """Tells fields declared with `option` or `nested` from others."""
    return _KEY in declared.metadata


def options_of(kind: type[Any]) -> dict[str, Option]:
    """The options of a dataclass by the field that they fill, in order."""
    return {f.name: f.metadata[_KEY] for f in dataclasses.fields(kind) if is_option(f)}
