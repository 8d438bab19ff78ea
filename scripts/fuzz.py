"""Throws bad commands, damaged files, full disks and kills at db1, and counts what must not be.

    python scripts/fuzz.py                             all of it: half an hour
    python scripts/fuzz.py files                       only what needs no command: minutes
    python scripts/fuzz.py commands flips --count 50   two storms, 50 trials each
    python scripts/fuzz.py --share 0.1                 a tenth of the trials of each
    python scripts/fuzz.py kills --seed 7 --keep /tmp/fuzz

A command may work, or be refused in one line with status 2 (1: a finding, a task that failed). A
traceback, a death by a signal, a hang, more than one line, or a result that changed in silence is a
fault. Each storm's seed is printed; the same seed throws the same things. Exit status 1 when
there was a fault.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from fuzzing import material, readers, sections
from rich.console import Console
from rich.progress import Progress

COUNTS = {
    "files": 5_000,
    "commands": 500,
    "flips": 1_000,
    "changes": 300,
    "writes": 100,
    "kills": 1_000,
}


def main() -> int:
    """Runs the storms that are named; returns the exit status."""
    options = _arguments()
    result = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries and processes that write there on their own
    _load()
    folder = Path(options.keep or tempfile.mkdtemp(prefix="db1-fuzz-")) / "material"
    try:
        tallies = _storms(folder, options)
    finally:
        if options.keep is None:
            shutil.rmtree(folder.parent, ignore_errors=True)
    with result:
        json.dump([{**asdict(t), "faults": len(t.faults)} for t in tallies], result, indent=1)
        result.write("\n")
    return int(any(tally.faults for tally in tallies))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("storms", nargs="*", choices=[*COUNTS, []], metavar="STORM")
    parser.add_argument("--count", type=int, help="trials of each storm")
    parser.add_argument("--share", type=float, default=1.0, help="of the usual trials, such as 0.1")
    parser.add_argument("--seed", type=int, help="default: another one each time")
    parser.add_argument("--keep", help="a folder for the material, used again where it is there")
    return parser.parse_args()


def _load() -> None:
    """Imports once what the commands need, in one thread: forks then start at once."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ["DB1_CACHE"] = tempfile.mkdtemp(prefix="db1-fuzz-cache-")
    import deepspeed  # noqa: F401
    import elkai  # noqa: F401
    import h5py  # noqa: F401
    import matplotlib.figure  # noqa: F401
    import minari.dataset.minari_storage  # noqa: F401
    import pyarrow.parquet  # noqa: F401
    import torch

    import db1.cli.main
    import db1.evaluation.evaluate
    import db1.training.loop  # noqa: F401

    torch.set_num_threads(1)


def _storms(folder: Path, options: argparse.Namespace) -> list[sections.Tally]:
    if not (folder / "tiny.yaml").exists():
        folder.mkdir(parents=True)
        material.make(folder)
        material.finish(folder)
    kinds = material.readers(folder)
    tallies = []
    with Progress(console=Console(stderr=True)) as progress:
        for name in options.storms or COUNTS:
            count = options.count or max(1, round(options.share * COUNTS[name]))
            seed = secrets.randbelow(2**31) if options.seed is None else options.seed
            bar = progress.add_task(f"{name}, seed {seed}", total=count)
            started = time.monotonic()
            more = (kinds,) if name in ("flips", "changes") else ()
            storm = readers.files if name == "files" else getattr(sections, name)
            tally = storm(folder, *more, count, seed, lambda n, bar=bar: progress.advance(bar, n))
            tally.seconds = round(time.monotonic() - started, 1)
            tallies.append(tally)
            progress.console.print(
                f"{name}: {tally.trials} trials, {len(tally.faults)} faults, {tally.seconds} s"
            )
    return tallies


if __name__ == "__main__":
    sys.exit(main())
