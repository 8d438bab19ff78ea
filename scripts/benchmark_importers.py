"""Speed and memory of every importer of episodes, on sources that are written for it.

python scripts/benchmark_importers.py --json importers.json
python scripts/benchmark_importers.py --kind rlds --kind jat --steps 100000
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shlex
import sys
from dataclasses import asdict
from pathlib import Path

from db1.benchmarks.importers import KINDS, ImportFigures, bench_importers
from db1.errors import Db1Error
from db1.files import atomic_write_text


def main(arguments: list[str] | None = None) -> int:
    """Prints a table; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--kind",
        action="append",
        choices=sorted({*KINDS} | {kind.importer for kind in KINDS.values()}),
        metavar="K",
        help=f"measure this kind only (repeatable): {', '.join(KINDS)}, or all kinds of an "
        "importer by its name",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to this file")
    parser.add_argument(
        "--steps", type=int, metavar="N", help="steps of each source; default: about 200 MB"
    )
    given = parser.parse_args(arguments)
    if given.steps is not None and given.steps < 1:
        parser.error(f"--steps {given.steps}, expected 1 or more")
    chosen = [
        name
        for name, kind in KINDS.items()
        if given.kind is None or {name, kind.importer} & {*given.kind}
    ]
    there = [name for name in chosen if not _missing(name)]
    for name in chosen:
        if missing := _missing(name):
            print(f"{name}: left out, needs {', '.join(missing)}", file=sys.stderr)
    try:
        rows = bench_importers(there, given.steps, _tell)
    except Db1Error as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(table(rows))
    if given.json is not None:
        from db1.benchmarks.timing import machine  # torch, which the measured processes do without

        words = ["python", "scripts/benchmark_importers.py", *(arguments or sys.argv[1:])]
        content = {
            "rows": [asdict(row) for row in rows],
            "command": shlex.join(words),
            "machine": machine(),
        }
        given.json.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_text(given.json, json.dumps(content, indent=1) + "\n")
    return 0


def table(rows: list[ImportFigures]) -> str:
    """One line a kind."""
    lines = [
        f"{'kind':<22}{'source MB':>10}{'steps':>11}{'steps/s':>11}{'MB before':>11}{'MB peak':>9}"
    ]
    for row in rows:
        memory = [
            "-" if value is None else f"{value:,.0f}"
            for value in (row.resident_before_mb, row.resident_peak_mb)
        ]
        lines.append(
            f"{row.kind:<22}{row.source_mb:>10,.1f}{row.steps:>11,}{row.steps_per_second:>11,.0f}"
            f"{memory[0]:>11}{memory[1]:>9}"
        )
    return "\n".join(lines)


def _missing(kind: str) -> list[str]:
    """Packages that a kind needs and that are not installed."""
    return [name for name in KINDS[kind].packages if importlib.util.find_spec(name) is None]


def _tell(kind: str, done: int, total: int) -> None:
    print(f"{done}/{total} {kind}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
