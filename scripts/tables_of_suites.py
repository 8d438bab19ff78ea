"""Writes the tables of docs/suites.md and docs/suites/*.md that follow from the score registry.

    python scripts/tables_of_suites.py            rewrites the blocks
    python scripts/tables_of_suites.py --check    exit status 1 where a block is out of date

A block lies between `<!-- NAME: python scripts/tables_of_suites.py -->` and `<!-- end -->`.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from db1.suites import SUITES
from db1.suites.scores import (
    MEASURED,
    Reference,
    Standing,
    published_names,
    recorded_references,
    standing_of,
)
from db1.suites.scores.standing import ENOUGH, RULES

FOLDER = Path(__file__).parents[1] / "docs"
PAGES = (FOLDER / "suites.md", *sorted((FOLDER / "suites").glob("*.md")))
_HEAD = r"(?P<head><!-- (?P<name>[a-z_]+): python scripts/tables_of_suites\.py -->\n)"
BLOCK = re.compile(_HEAD + r".*?(?=<!-- end -->)", re.DOTALL)
PIXELS = "-pixels"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def known(suite: str) -> list[tuple[str, str | None, dict[str, Reference], Standing | None]]:
    """(task, expert, references, standing) of every task of a suite."""
    found = []
    for task in SUITES[suite].task_names():
        task_id, expert = f"{suite}/{task}", SUITES[suite].expert_name(task)
        references = recorded_references(task_id)
        standing = standing_of(task_id, expert, references) if expert else None
        found.append((task, expert, references, standing))
    return found


def counts() -> str:
    """Experts by suite and rule."""
    totals = [0] * (4 + len(RULES))
    rows = []
    for suite in SUITES:
        if SUITES[suite].is_open:
            continue
        tasks = known(suite)
        reached = [s.rule for *_, s in tasks if s is not None and s.reached]
        numbers = [
            len(tasks),
            sum(expert is not None for _, expert, *_ in tasks),
            sum(s is not None and s.episodes > 0 for *_, s in tasks),
            len(reached),
            *(reached.count(rule) for rule in RULES),
        ]
        totals = [a + b for a, b in zip(totals, numbers, strict=True)]
        rows.append([suite, *map(str, numbers)])
    rows.append(["total", *(f"{n:,}" for n in totals)])
    return table(["suite", "tasks", "with expert", "measured", "reach", *RULES], rows)


def returns(suite: str) -> str:
    """One row a task with an expert: what it earns, against what."""
    rows = []
    for task, expert, references, standing in known(suite):
        here = references.get(MEASURED)
        if expert is None or here is None or here.expert is None or task.endswith(PIXELS):
            continue
        entry = here.details["expert"]
        best = (references[n] for n in published_names() if n in references)
        published = ", ".join(f"{r.name}{'' if r.comparable else '*'} {r.best:,.4g}" for r in best)
        row = {
            "task": task,
            "expert": expert,
            "return": f"{entry['mean']:,.4g} ({entry['min']:,.4g} to {entry['max']:,.4g})",
            "episodes": str(entry["episodes"]),
            "steps": f"{entry['length']['mean']:.0f}",
            "success": "-" if entry["success_rate"] is None else f"{entry['success_rate']:.2f}",
            "random": "-" if here.random is None else f"{here.random:,.4g}",
            "published": published or "-",
            "standing": f"{'' if standing and standing.reached else 'weak: '}{standing}",
        }
        rows.append(row)
    return _columns(rows)


def planner() -> str:
    """What the planner earns in every Control Suite task that it was measured in."""
    rows, reached = [], 0
    for task, expert, references, _ in known("dmc"):
        here = references.get(MEASURED)
        if here is None or task.endswith(PIXELS):
            continue
        entry = here.details.get("expert" if expert == "planner" else "planner")
        if entry is None:
            continue
        goals = [(references[n].best, n) for n in published_names() if n in references]
        goal, name = min(goals)[:2] if goals else (1000.0, "the most possible")
        share = (entry["mean"] - (here.random or 0.0)) / (goal - (here.random or 0.0))
        row = {
            "task": task,
            "return": f"{entry['mean']:.0f} ({entry['min']:.0f} to {entry['max']:.0f})",
            "episodes": str(entry["episodes"]),
            "reference": f"{goal:.0f} ({name})",
            "share": f"{share:.2f}",
        }
        rows.append(row)
        reached += bool(goals) and share >= ENOUGH
    said = (
        f"In {reached} of these tasks it comes to at least {ENOUGH:.0%} of a published reference."
    )
    return f"{_columns(rows)}\n{said}\n"


def _columns(rows: Sequence[Mapping[str, str]]) -> str:
    """A table of rows with equal keys; columns that say nothing anywhere are left out."""
    if not rows:
        return "Nothing measured yet.\n"
    head = [key for key in rows[0] if any(row[key] != "-" for row in rows)]
    return table(head, [[row[key] for key in head] for row in rows])


MAKERS = {
    "counts": counts,
    "planner": planner,
    **{name: lambda name=name: returns(name) for name in SUITES},
}


def renewed(text: str) -> str:
    """Returns the document with all its blocks as the registry has them now."""
    return BLOCK.sub(lambda block: block["head"] + MAKERS[block["name"]](), text)


def main() -> None:
    """Rewrites the pages, or tells which are out of date."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing")
    arguments = parser.parse_args()
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        new = renewed(text)
        if arguments.check and new != text:
            sys.exit(f"{page}: run python scripts/tables_of_suites.py")
        page.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
