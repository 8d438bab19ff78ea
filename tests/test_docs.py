"""What README and docs show can be typed, and links lead somewhere."""

from __future__ import annotations

import functools
import http.server
import importlib.util
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from shown import PAGES, PLAIN, ROOT, Command, shown

COMMANDS = sorted(
    {
        (page.relative_to(ROOT).as_posix(), item.plain)
        for page in PLAIN
        for item in shown(page.read_text())
        if isinstance(item, Command)
    }
)


@pytest.fixture(scope="module")
def root_command() -> Any:
    import typer.main

    from db1.cli.main import app

    return typer.main.get_command(app)


def _parse(command: Any, words: list[str]) -> None:
    """Raises what typer raises for an option or a verb that is not there."""
    import typer

    path = command.name or "db1"
    while True:
        context = typer.Context(command, info_name=path)
        parser = command.make_parser(context)
        _, rest, _ = parser.parse_args(args=list(words))
        if not hasattr(command, "commands") or not rest:
            return
        _, command, words = command.resolve_command(context, rest)


def test_pages_show_commands() -> None:
    shown = [command for _, command in COMMANDS]
    assert len(shown) > 80
    for start in ("bash scripts/quickstart.sh", "bash scripts/test.sh", "db1 eval runs/db1_tiny"):
        assert any(command.startswith(start) for command in shown), start


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_a_shown_command_can_be_typed(page: str, command: str, root_command) -> None:
    words = shlex.split(command)
    if words[0] != "db1":
        place = words[0] if words[0].startswith("scripts/") else words[1]
        is_ours = place.startswith(("scripts/", "examples/", "tests/"))
        assert not is_ours or (ROOT / place).is_file(), f"{page}: {command}"
        return
    words = words[1:]
    plugin = words.index("--plugin") if "--plugin" in words else None
    if plugin is not None:
        del words[plugin : plugin + 2]
    if words == ["VERB", "--help"]:
        return
    _parse(root_command, words)


def test_a_wrong_option_is_noticed(root_command) -> None:
    from db1.cli.main import _CLICK_ERROR

    for wrong in ("eval runs/a --controlls x", "evaluate runs/a", "tasks measure --polcy x"):
        with pytest.raises(_CLICK_ERROR):
            _parse(root_command, wrong.split())


def _anchor(title: str) -> str:
    words = re.sub(r"[^\w\- ]", "", title.replace("`", "").lower())
    return words.strip().replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    made = {f"docs/{place}" for place in GENERATED}
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        place, _, anchor = target.partition("#")
        file = (page.parent / place).resolve() if place else page
        relative = file.relative_to(ROOT).as_posix()
        assert file.is_file() or relative in made, f"{page.name}: {target}"
        if anchor and file.suffix == ".md" and file.is_file():
            titles = re.findall(r"(?m)^#+ (.*)$", file.read_text())
            assert anchor in map(_anchor, titles), f"{page.name}: {target}"


GENERATED = ("reference/commands.md", "reference/configuration.md", "reference/positions.md")


def _docs_pages() -> Any:
    spec = importlib.util.spec_from_file_location("docs_pages", ROOT / "scripts/docs_pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_column_of_a_table_has_a_name(page: Path) -> None:
    """A screen reader says a cell's column before it."""
    heads = re.findall(r"^\|(.*)\|\n\|[ :|-]+\|$", page.read_text(), re.MULTILINE)
    assert [head for head in heads if not all(map(str.strip, head.split("|")))] == []


def test_every_page_is_in_the_site() -> None:
    listed = set(re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE))
    pages = {p.relative_to(ROOT / "docs").as_posix() for p in (ROOT / "docs").rglob("*.md")}
    assert listed == pages | set(GENERATED)


def test_references_made_from_the_code() -> None:
    pages = _docs_pages().pages()
    assert set(pages) == set(GENERATED)
    commands, configuration = pages["reference/commands.md"], pages["reference/configuration.md"]
    assert "## db1 eval\n" in commands and "| `--controls` |" in commands
    assert "### db1 tasks measure\n" in commands and "db1 bench decode --quick" in commands
    assert "| `num_steps` | int, at least 1 | required | Optimizer steps in all;" in configuration
    assert "## data.tasks.NAME\n" in configuration and "## data.suites.NAME\n" in configuration
    undocumented = [line for line in configuration.splitlines() if line.endswith("|  |")]
    assert undocumented == []
    for name in ("transformer_xl", "rotary", "alibi", "none"):
        assert f"| `{name}` |" in pages["reference/positions.md"]


def test_the_smallest_experiment_works(tmp_path: Path) -> None:
    from db1.training.experiment import load_experiment

    path = tmp_path / "cartpole.yaml"
    path.write_text(_docs_pages().MINIMAL)
    config = load_experiment(path)
    assert config.name == "cartpole" and config.training.num_steps == 300


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documentation, built without a warning."""
    for package in ("mkdocs", "material", "mkdocstrings"):
        pytest.importorskip(package, reason='needs pip install "db1[docs]"')
    place = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"]
    done = subprocess.run(
        [*command, "--site-dir", str(place)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return place


@pytest.mark.slow
def test_the_site_fetches_nothing(site: Path) -> None:
    assert "num_steps" in (site / "reference/configuration.html").read_text()
    for page in site.rglob("*.html"):
        outside = re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="https?://', page.read_text())
        assert outside == [], page


@pytest.fixture(scope="module")
def site_address(site: Path) -> Iterator[str]:
    """The site on a port of this machine: a page from a file may not fetch its parts."""
    handler = functools.partial(_Silent, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


class _Silent(http.server.SimpleHTTPRequestHandler):
    """Serves files without a line for each."""

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    ["index", "commands", "python", "benchmarks", "suites", "tutorials/first_agent",
     "reference/configuration"],
)  # fmt: skip
def test_nobody_stumbles_over_the_site(audit: Any, browser: Any, site_address: str, page) -> None:
    browser.open(f"{site_address}/{page}.html")
    browser.script("localStorage.clear()")  # the site remembers its colours
    audit(f"{site_address}/{page}.html", ready=_DRAWN)


_DRAWN = """
const wrapped = [...document.querySelectorAll(".md-typeset table:not([class])")]
  .every(table => table.closest(".md-typeset__scrollwrap"));
return wrapped && document.body.dataset.accessible;
"""
