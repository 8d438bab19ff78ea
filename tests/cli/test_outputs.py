"""Options that name a file to write do not cost another file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer.main

from db1.cli.main import app

Run = Callable[..., tuple[int, str, str]]


def _written() -> list[tuple[str, Any]]:
    """Verb and parameter of each option that says `Write ... to this file` or the like."""
    found: list[tuple[str, Any]] = []

    def walk(command: Any, words: str) -> None:
        for name, inner in getattr(command, "commands", {}).items():
            walk(inner, f"{words} {name}".strip())
        for parameter in command.params:
            words_of_help = (parameter.help or "").split()
            names_a_file = parameter.metavar == "FILE" or "file" in parameter.help.split("; ")[0]
            if words_of_help[:1] in (["Write"], ["Draw"]) and names_a_file:
                found.append((words, parameter))

    walk(typer.main.get_command(app), "")
    return found


def test_every_option_that_writes_a_file_spares_others() -> None:
    options = [(verb, parameter.opts[0]) for verb, parameter in _written()]
    assert len(options) >= 12
    bare = [f"{verb} {p.opts[0]}" for verb, p in _written() if p.callback is None]
    assert not bare, f"give them `writes` (db1.cli.outputs): {bare}"


@pytest.mark.parametrize(
    ("command", "option", "ending"),
    [
        (("report", "none"), "--html", ".html"),
        (("report", "none"), "--latex", ".tex"),
        (("compare", "none", "--published"), "--json", ".json"),
        (("inspect", "none"), "--svg", ".svg"),
        (("bench", "decode", "--quick"), "--json", ".json"),
    ],
)
def test_a_file_of_another_kind_stays(
    db1: Run, tmp_path: Path, command: tuple[str, ...], option: str, ending: str
) -> None:
    experiment = tmp_path / "experiment.yaml"
    experiment.write_text("name: mine\n")
    status, _, err = db1(*command, option, experiment)
    assert status == 2 and err.count("\n") == 1
    assert f"{option} {experiment}: is there and is no {ending}" in err
    assert experiment.read_text() == "name: mine\n"


def test_an_older_file_of_its_kind_is_replaced(db1: Run, tmp_path: Path) -> None:
    for name in ("old.json", "OLD.JSON", "bare"):
        (tmp_path / name).write_text("{}")
        status, _, err = db1("bench", "decode", "--quick", "--json", tmp_path / name)
        assert status == 0, err
        assert (tmp_path / name).stat().st_size > 10
