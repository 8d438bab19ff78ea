"""Runs one measurement and keeps what the pages need of it as docs/results/NAME.json.

    python scripts/measure.py decode_1 -- db1 bench decode --json FILE
    python scripts/measure.py parameters_79m -- db1 train configs/db1_79m.yaml --dry-run --json

The word FILE stands for a file that the command writes as JSON; without it, it prints JSON. Beside
the figures are kept the command and the machine: date, commit, processor, cores, memory, versions,
and the load when it began. What was measured at this commit is not measured again without
`--again`; `scripts/benchmarks.sh` has all commands, `scripts/figures.py` writes the pages.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results"
FILE = "FILE"
MEASURED = ("db1", "csrc", "scripts", "configs", "models")
"""Folders whose changes make a commit's figures no longer its own."""


def commit() -> str:
    """Short name of the commit; `+` after it where what is measured has changed since."""
    name = _git("rev-parse", "--short", "HEAD").strip()
    return f"{name}+" if _git("status", "--porcelain", "--", *MEASURED) else name


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout


def machine() -> dict[str, Any]:
    """The machine before a measurement; torch, which would hold memory, is not imported."""
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return {
        "date": datetime.date.today().isoformat(),
        "commit": commit(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(pages * size / 2**30),
        "python": platform.python_version(),
        "torch": version("torch"),
        "load": round(os.getloadavg()[0], 1),
    }


def _processor() -> str:
    """The processor's name, which Linux tells in a file only."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def slim(content: Any) -> dict[str, Any]:
    """Reduces a command's JSON to what tables need: medians, not rounds; parameters, not plans.

    Args:
        content: An object, or a list, which becomes `rows`.
    """
    if isinstance(content, list):
        return {"rows": content}
    if "comparisons" in content:
        return {"comparisons": [_comparison(each) for each in content["comparisons"]]}
    if "training_memory" in content:
        return {"name": content["name"], "parameters": content["parameters"]}
    return {key: value for key, value in content.items() if key not in ("command", "machine")}


def _comparison(content: Mapping[str, Any]) -> dict[str, Any]:
    timings = {
        name: {"median_seconds": timing["median_seconds"], "rounds": len(timing["seconds"])}
        for name, timing in content["timings"].items()
    }
    return {key: content[key] for key in ("work", "unit", "notes")} | {"timings": timings}


def measured(command: Sequence[str]) -> Any:
    """The JSON of a command; what it says besides goes to the screen.

    Raises:
        SystemExit: When it fails, or its JSON cannot be read.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "figures.json"
        words = [str(file) if word == FILE else word for word in command]
        to_file = FILE in command
        done = subprocess.run(words, cwd=ROOT, stdout=sys.stderr if to_file else subprocess.PIPE)
        if done.returncode:
            sys.exit(f"measure: error: {shlex.join(words)}: exit status {done.returncode}")
        try:
            return json.loads(file.read_bytes() if to_file else done.stdout)
        except (OSError, ValueError) as error:
            sys.exit(f"measure: error: {shlex.join(words)}: wrote no JSON: {error}")


def shown(command: Sequence[str]) -> str:
    """The command as a reader types it: without `--json`."""
    left_out = {FILE, "--json"}
    return shlex.join(word for word in command if word not in left_out)


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", help="of the results")
    parser.add_argument("--again", action="store_true", help="also what this commit has already")
    parser.add_argument("--shown", help="the command that pages name; default: the one that runs")
    parser.add_argument("command", nargs="+", help="after --")
    options = parser.parse_args()
    path, here = RESULTS / f"{options.name}.json", machine()
    if path.is_file() and not options.again and not here["commit"].endswith("+"):
        if json.loads(path.read_bytes()).get("machine", {}).get("commit") == here["commit"]:
            print(f"{options.name}: measured at {here['commit']} already", file=sys.stderr)
            return
    started = time.monotonic()
    content = slim(measured(options.command))
    here["seconds"] = round(time.monotonic() - started)
    about = {"command": options.shown or shown(options.command), "machine": here}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(about | content, indent=1) + "\n", encoding="utf-8")
    print(f"{options.name}: {here['seconds']} s, {path.relative_to(ROOT)}", file=sys.stderr)


if __name__ == "__main__":
    main()
