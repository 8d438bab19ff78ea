"""Times a checkpoint of the published model's layout: writing, converting, loading, acting.

    python scripts/benchmark_released.py --size 1.2b --json released.json

The weights are random (scripts/make_released_checkpoint.py). Each step is a process of its own,
so that its peak of resident memory is its own, too.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from db1.files import atomic_write_text

TASK = "atari/Pong"
SCRIPT = Path(__file__).parent / "make_released_checkpoint.py"


def spent(command: Sequence[str]) -> dict[str, float]:
    """Seconds of a command, and the most memory that it held, in MB.

    Raises:
        SystemExit: When it fails.
    """
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=sys.stderr)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"benchmark_released: error: {command}: exit status {process.returncode}")
    return {"seconds": time.perf_counter() - started, "peak_mb": usage.ru_maxrss * 1024 / 1e6}


def act(run: Path) -> dict[str, float]:
    """Seconds to load a run and to act twice in `TASK`."""
    import db1

    started = time.perf_counter()
    model = db1.load(run)
    loaded = time.perf_counter()
    env = db1.make_env(TASK)
    agent = model.agent(env)
    observation, _ = env.reset(seed=2_000_000)
    seconds = {"loading": loaded - started}
    for name in ("first_action", "second_action"):
        started = time.perf_counter()
        action = agent.act(observation)
        seconds[name] = time.perf_counter() - started
        observation = env.step(action)[0]
    env.close()
    return seconds


def steps(folder: Path, size: str) -> dict[str, Any]:
    """Figures of all steps by name."""
    released, run, acted = folder / "released", folder / "run", folder / "acted.json"
    make = [sys.executable, str(SCRIPT), str(released), "--size", size, "--tokenizer"]
    found: dict[str, Any] = {"size": size, "task": TASK, "write": spent(make)}
    written = sum(file.stat().st_size for file in released.rglob("*") if file.is_file())
    found["checkpoint_mb"] = written / 1e6
    convert = [sys.executable, "-m", "db1", "convert", str(released), str(run)]
    found["convert"] = spent(convert)
    here = [sys.executable, __file__, "--act", str(run), "--json", str(acted)]
    found["act"] = spent(here) | json.loads(acted.read_text(encoding="utf-8"))
    return found


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="1.2b", choices=("1.2b", "tiny"))
    parser.add_argument("--json", type=Path, required=True, help="write all figures to this file")
    parser.add_argument("--act", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.act:
        found = act(options.act)
    else:
        with tempfile.TemporaryDirectory() as folder:
            found = steps(Path(folder), options.size)
    atomic_write_text(options.json, json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
