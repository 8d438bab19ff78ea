"""What README and docs show, in the order of a page: files, extras to install, commands.

from shown import Command, Extras, File, shown

A reader goes down the page. What `pip install "db1[video]"` names, in a block or within a sentence,
is there for the commands below it; what a command needs and nothing above it names must be in the
environment of `scripts/setup.sh`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PLAIN = [page for page in PAGES if page.name != "log.md"]
"""The log tells of commands of its day."""

_BLOCK = re.compile(
    r"```(?P<language>\w*)(?: title=\"(?P<title>.*?)\")?\n(?P<fenced>.*?)```"
    r"|(?:(?<=\n\n)|^)(?P<indented>(?: {4}[^\n]*\n|\n(?= {4}))+)"
    r"|pip install\s+[\"']db1\[(?P<extras>[a-z0-9_,-]+)\][\"']",
    re.DOTALL,
)
_INSTALL = re.compile(r"^pip install [\"']db1\[(?P<extras>[a-z0-9_,-]+)\][\"']")
_PROMPT = re.compile(
    r"^(?:[A-Z_]+=\S+ )*"
    r"(?:(?:db1|bash|sh|python|deepspeed|tensorboard|tail|mkdir) \S.*|scripts/\S.*)$"
)
_OPTIONAL = re.compile(r"(?<= )\[[^\]]*\]")
_COMMENT = re.compile(r"\s{2,}#?\s*[^\s-].*$|\s+# .*$")
_FILE = re.compile(r'"""(?P<name>\w+\.py): ')


@dataclass(frozen=True)
class Command:
    """A line to type, with the variables in front of it.

    Args:
        text: Without its comment, on one line.
    """

    text: str

    @property
    def plain(self) -> str:
        """The command without variables in front."""
        return re.sub(r"^(?:[A-Z_]+=\S+ )+", "", self.text)


@dataclass(frozen=True)
class Extras:
    """Extras of db1 that the page installs."""

    names: frozenset[str]


@dataclass(frozen=True)
class File:
    """A file that the page shows with its name."""

    name: str
    content: str


Item = Command | Extras | File


def typed_pages(names: Iterable[str], quick: Collection[str]) -> list[Any]:
    """Parameters of a test of pages; all but the quick ones are marked `release`."""
    return [
        name if name in quick else pytest.param(name, marks=pytest.mark.release) for name in names
    ]


def shown(text: str) -> Iterator[Item]:
    """Yields what a page shows, from top to bottom."""
    for match in _BLOCK.finditer(text):
        if match["extras"]:
            yield _extras(match)
        elif match["title"]:
            yield File(match["title"], match["fenced"])
        elif match["language"] in ("sh", "bash"):
            yield from _typed(match["fenced"].splitlines())
        elif match["indented"]:
            yield from _typed([line[4:] for line in match["indented"].splitlines()])
        elif named := _FILE.match(match["fenced"]):
            yield File(named["name"], match["fenced"])


def _typed(block: list[str]) -> Iterator[Item]:
    """Commands and installations of a code block, comments and continuations resolved."""
    lines = iter(block)
    for line in lines:
        while line.endswith("\\"):
            line = line[:-1].rstrip() + " " + next(lines, "").strip()
        if installed := _INSTALL.match(line):
            yield _extras(installed)
        elif _PROMPT.match(line):
            command = _OPTIONAL.sub("", _COMMENT.sub("", line).split(" | ")[0])
            yield from (Command(part.strip()) for part in command.split(" && "))


def _extras(match: re.Match[str]) -> Extras:
    return Extras(frozenset(match["extras"].split(",")))


def shown_commands(text: str) -> list[str]:
    """Commands that a page shows."""
    return [item.text for item in shown(text) if isinstance(item, Command)]
