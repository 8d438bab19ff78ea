"""The table of verbs says what the verbs say, and `db1 --help` imports none of them."""

from __future__ import annotations

import subprocess
import sys

import pytest
import typer.main

from db1.cli.lazy import load_command
from db1.cli.main import app
from db1.cli.table import VERBS

HEAVY = ("numpy", "torch", "gymnasium", "omegaconf", "db1.runtime", "db1.suites")


def _commands() -> dict[str, object]:
    """Every verb by the words that call it, groups and hidden ones included."""
    found: dict[str, object] = {}

    def walk(command, words: str) -> None:
        for name, inner in getattr(command, "commands", {}).items():
            found[f"{words}{name}"] = inner
            walk(inner, f"{words}{name} ")

    walk(typer.main.get_command(app), "")
    return found


@pytest.mark.parametrize("name", VERBS)
def test_the_line_of_a_verb_is_its_docstring(name: str) -> None:
    said = " ".join(load_command(name).help.split("\n\n")[0].split())
    assert said.split(" Example:")[0] == VERBS[name].help


def test_every_verb_has_an_example() -> None:
    without = [words for words, command in _commands().items() if "Example: " not in command.help]
    assert without == []


def test_examples_call_their_own_verb() -> None:
    for words, command in _commands().items():
        examples = command.help.split("Example: ")[1:]
        assert any(e.split("\n\n")[0].startswith(f"db1 {words}") for e in examples), words


def test_help_imports_no_verb() -> None:
    code = (
        "import sys; sys.argv = ['db1', '--help']\n"
        "from db1.cli.main import main\n"
        "try:\n    main()\n"
        f"finally:\n    print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert all(name in done.stdout for name in VERBS)


@pytest.mark.slow
def test_help_is_quick() -> None:
    """0.3 s of processor time are wanted; 0.6 leave room for slower machines."""
    code = (
        "import resource, subprocess, sys\n"
        "subprocess.run([sys.executable, '-m', 'db1', '--help'], stdout=subprocess.DEVNULL)\n"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        "print(used.ru_utime + used.ru_stime)"
    )
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True) for _ in range(3)]
    assert min(float(done.stdout) for done in runs) < 0.6


def test_an_unknown_verb_is_named_with_its_neighbours(db1) -> None:
    status, _, err = db1("collct")
    assert status == 2 and "collct" in err and "'collect'" in err and len(err.splitlines()) == 1
