"""Times a stranger's way: a fresh clone, its own environment, a film of the model in the box.

    python scripts/stranger_clock.py --json stranger.json
    python scripts/stranger_clock.py --quickstart --json stranger.json     the quickstart, too

Clones this repository's last commit into a temporary folder; packages come from where pip is used
to get them. Needs 3 GB.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from db1.files import atomic_write_text

ROOT = Path(__file__).parents[1]
FILM = "db1 play base babyai/GoToLocal --out film.webp"
QUICKSTART = "bash scripts/quickstart.sh"
STAGE = re.compile(r"^== (?P<name>[^:(]+).*\(after (?P<seconds>\d+) s\)$", re.MULTILINE)


def seconds_of(command: str, place: Path) -> tuple[float, str]:
    """Seconds of a shell command, and what it printed.

    Raises:
        SystemExit: When it fails.
    """
    known = ("HOME", "PATH", "LANG", "TMPDIR", "PIP_INDEX_URL", "PIP_CONFIG_FILE", "MUJOCO_GL")
    environment = {key: os.environ[key] for key in known if key in os.environ}
    started = time.monotonic()
    done = subprocess.run(
        ["bash", "-c", command], cwd=place, env=environment, stdout=subprocess.PIPE, text=True
    )
    if done.returncode:
        sys.exit(f"stranger_clock: error: {command}: exit status {done.returncode}")
    return time.monotonic() - started, done.stdout


def stages_of(said: str) -> list[dict[str, float | str]]:
    """Seconds of the quickstart's stages, by what it printed.

    Worked example: `== training (after 80 s)` and `== report (after 90 s)`: training took 10.
    """
    marks = [(match["name"].strip(), int(match["seconds"])) for match in STAGE.finditer(said)]
    ends = [start for _, start in marks[1:]]
    return [
        {"stage": name, "seconds": end - start}
        for (name, start), end in zip(marks, ends, strict=False)
    ]


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quickstart", action="store_true", help="a quarter of an hour more")
    parser.add_argument("--json", type=Path, required=True, help="write all figures to this file")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "db1"
        ways = {
            "clone": (f"git clone -q {ROOT} {place}", Path(folder)),
            "installation": ("bash scripts/setup.sh", place),
            "first film": (f"source .venv/bin/activate && {FILM}", place),
        }
        for stage, (command, where) in ways.items():
            rows.append({"stage": stage, "seconds": seconds_of(command, where)[0]})
            print(rows[-1], file=sys.stderr)
        film = place / "film.webp"
        content = {"rows": rows, "film": FILM, "film_kb": film.stat().st_size / 1e3}
        if options.quickstart:
            content["quickstart"] = stages_of(seconds_of(QUICKSTART, place)[1])
    atomic_write_text(options.json, json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
