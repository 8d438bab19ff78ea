"""Verbs whose options come from dataclasses (`db1.options`): each option is written once.

    @from_dataclasses
    def eval_(
        run: Annotated[Path, typer.Argument(...)],
        execution: ExecutionConfig,                             # all its options; called with one
        settings: Annotated[Given, Of(EvaluationConfig)],       # only what was typed, by field
        film: Annotated[FilmConfig, Of(FilmConfig, "frames")],  # only this option
    ) -> None: ...

Other parameters are typer's own, as ever.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from db1.cli.outputs import writes
from db1.options import Option, options_of
from db1.ranges import range_of

Given = Mapping[str, Any]
"""Values that were typed, by field; those of a nested dataclass as one object."""

_CONTEXT = "context"


class Of:
    """Names the dataclass behind a parameter, and which of its fields are options; none: all."""

    def __init__(self, kind: type[Any], *fields: str) -> None:
        self.kind, self.fields = kind, fields


@dataclass(frozen=True, kw_only=True)
class _Place:
    """One option: the field that it fills."""

    parameter: str
    field: str
    kind: type[Any]
    option: Option
    default: Any
    annotation: Any
    is_tuple: bool


def from_dataclasses(verb: Callable[..., None]) -> Callable[..., None]:
    """Makes the typer command of a verb (see the module's docstring)."""
    hints = typing.get_type_hints(verb, include_extras=True)
    groups: dict[str, tuple[Any, list[_Place]]] = {}
    plain: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(verb).parameters.items():
        of = _of(hints[name])
        if of is None:
            keyword = inspect.Parameter.KEYWORD_ONLY
            plain.append(parameter.replace(annotation=hints[name], kind=keyword))
        else:
            groups[name] = (of, _places(of.kind, of.fields))

    @functools.wraps(verb)
    def command(**values: Any) -> None:
        context = values.pop(_CONTEXT)
        for name, (of, places) in groups.items():
            typed = {p.parameter for p in places if _is_typed(context, p.parameter)}
            taken = {p.parameter: values.pop(p.parameter) for p in places}
            only_typed = _is_given(hints[name])
            fields = _fields(of.kind, places, taken, typed if only_typed else None)
            values[name] = fields if only_typed else of.kind(**fields)
        verb(**values)

    places = [place for _, found in groups.values() for place in found]
    command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(_CONTEXT, inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context),
            *plain,
            *map(_parameter, places),
        ]
    )
    command.__annotations__ = {
        p.name: p.annotation
        for p in command.__signature__.parameters.values()  # type: ignore[attr-defined]
    }
    del command.__wrapped__  # type: ignore[attr-defined]
    return command


def _of(hint: Any) -> Of | None:
    """The dataclass behind a parameter; None for typer's own parameters."""
    if typing.get_origin(hint) is Annotated:
        found = [extra for extra in hint.__metadata__ if isinstance(extra, Of)]
        return found[0] if found else None
    return Of(hint) if dataclasses.is_dataclass(hint) else None


def _is_given(hint: Any) -> bool:
    return typing.get_origin(hint) is Annotated and not dataclasses.is_dataclass(hint.__origin__)


def _places(kind: type[Any], only: tuple[str, ...] = ()) -> list[_Place]:
    """The options of a dataclass, nested ones behind the flag that turns them on."""
    types = typing.get_type_hints(kind)
    declared = {f.name: f for f in dataclasses.fields(kind)}
    places = []
    for name, option in options_of(kind).items():
        if only and name not in only:
            continue
        hint, default = types[name], declared[name].default
        if option.nested:
            hint, default = bool, True
        elif _is_tuple(hint):  # typer knows lists only
            hint, default = list[typing.get_args(hint)[0]] | None, None  # type: ignore[misc]
        parameter = option.name or name
        place = _Place(
            parameter=parameter,
            field=name,
            kind=kind,
            option=option,
            default=not default if option.negated else default,
            annotation=Annotated[hint, _typer_option(kind, name, option, types[name])],
            is_tuple=_is_tuple(types[name]),
        )
        places.append(place)
        if option.nested is not None:
            places += _places(option.nested)
    return places


def _typer_option(kind: type[Any], name: str, option: Option, hint: Any) -> Any:
    flag = f"--{(option.name or name).replace('_', '-')}"
    is_flag = option.nested is not None or bool in (hint, *typing.get_args(hint))
    names = [f"{flag}/--no-{flag[2:]}" if option.two_way or option.negated else flag]
    if option.also is not None:
        names.append(f"--{option.also}")
    allowed = range_of(kind, name)
    has_limits = not is_flag and not _is_tuple(hint)  # the dataclass names the item of a tuple
    limits = {"min": allowed.least, "max": allowed.most} if has_limits else {}
    return typer.Option(
        *names,
        help=option.help,
        rich_help_panel=option.panel,
        metavar=option.metavar,
        callback=writes(*option.writes) if option.writes else None,
        **limits,
    )


def _is_tuple(hint: Any) -> bool:
    return typing.get_origin(hint) is tuple


def _parameter(place: _Place) -> inspect.Parameter:
    return inspect.Parameter(
        place.parameter,
        inspect.Parameter.KEYWORD_ONLY,
        default=place.default,
        annotation=place.annotation,
    )


def _fields(
    kind: type[Any], places: list[_Place], values: Mapping[str, Any], typed: set[str] | None
) -> dict[str, Any]:
    """Values of a dataclass's fields; only those that were typed, where `typed` is given."""
    fields = {}
    for place in [p for p in places if p.kind is kind]:
        value, inner = values[place.parameter], place.option.nested
        names = {place.parameter}
        if inner is not None:
            names |= {p.parameter for p in places if p.kind is inner}
            value = inner(**_fields(inner, places, values, None)) if value else None
        elif place.is_tuple:
            if not value:
                continue
            value = tuple(value)
        if typed is None or names & typed:
            fields[place.field] = not value if place.option.negated else value
    return fields


def _is_typed(context: typer.Context, parameter: str) -> bool:
    source = context.get_parameter_source(parameter)  # typer's enum or click's: the name tells
    return getattr(source, "name", "DEFAULT") != "DEFAULT"
