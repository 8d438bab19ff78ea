"""Options of verbs that come from dataclasses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from db1.cli.options import Given, Of, from_dataclasses
from db1.options import nested, option
from db1.ranges import Checked, Count, Natural


@dataclass(frozen=True, kw_only=True)
class Inner(Checked):
    depth: Count = option(3, "How deep.")
    hidden: int = 7


@dataclass(frozen=True, kw_only=True)
class Outer(Checked):
    length: Natural | None = option(None, "How long.", name="memory")
    greedy: bool = option(True, "Sample.", name="sample", negated=True)
    quiet: bool = option(False, "Say nothing.")
    prompt: bool | None = option(None, "With a prompt.", two_way=True)
    names: list[str] | None = option(None, "Names.", name="name")
    inner: Inner | None = nested(Inner, "With the inner one.")
    sizes: tuple[Count, ...] = option((8, 16), "Sizes.", name="size", also="side", metavar="N")
    fixed: float = 0.5


def run(hint: Any, *arguments: str) -> Any:
    """What a verb with one such parameter is called with."""
    seen: list[Any] = []

    def verb(place: str, group: Any, more: int = 1) -> None:
        """Does nothing.

        Example: verb here
        """
        seen.append((place, group, more))

    verb.__annotations__ = {
        "place": Annotated[str, typer.Argument()],
        "group": hint,
        "more": Annotated[int, typer.Option()],
    }
    app = typer.Typer()
    app.command()(from_dataclasses(verb))
    result = CliRunner().invoke(app, ["here", *arguments])
    if result.exit_code:
        raise ValueError(f"{result.output} {result.exception!r}")
    return seen[0]


def test_defaults_are_those_of_the_dataclass() -> None:
    assert run(Outer) == ("here", Outer(), 1)


def test_every_option_fills_its_field() -> None:
    given = ["--memory", "0", "--sample", "--quiet", "--no-prompt", "--name", "a", "--name", "b"]
    found = run(Outer, *given, "--depth", "5", "--more", "2")
    outer = Outer(
        length=0, greedy=False, quiet=True, prompt=False, names=["a", "b"], inner=Inner(depth=5)
    )
    assert found == ("here", outer, 2)
    assert run(Outer, "--no-inner")[1] == Outer(inner=None)


def test_only_what_was_typed() -> None:
    hint = Annotated[Given, Of(Outer)]
    assert run(hint)[1] == {}
    assert run(hint, "--memory", "4")[1] == {"length": 4}
    assert run(hint, "--no-sample")[1] == {"greedy": True}
    assert run(hint, "--depth", "3")[1] == {"inner": Inner(depth=3)}
    assert run(hint, "--no-inner", "--depth", "9")[1] == {"inner": None}


def test_a_tuple_keeps_its_default_until_it_is_typed() -> None:
    assert run(Outer, "--size", "1", "--side", "2")[1] == Outer(sizes=(1, 2))
    assert run(Annotated[Given, Of(Outer)], "--side", "4")[1] == {"sizes": (4,)}
    with pytest.raises(ValueError, match=r"sizes\[1\]: got 0, expected at least 1"):
        run(Outer, "--size", "3", "--size", "0")


def test_some_fields_only() -> None:
    hint = Annotated[Outer, Of(Outer, "greedy")]
    assert run(hint, "--sample")[1] == Outer(greedy=False)
    with pytest.raises(ValueError, match="No such option"):
        run(hint, "--memory", "4")


@pytest.mark.parametrize("bad", [("--memory", "-1"), ("--depth", "0"), ("--hidden", "3")])
def test_refuses_what_the_fields_refuse(bad: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=bad[0]):
        run(Outer, *bad)
