"""Writes the figures of README.md, docs/*.md and the model card from results files.

    python scripts/figures.py             rewrites the blocks
    python scripts/figures.py --check     exit status 1 where one is out of date
    python scripts/figures.py --keep quickstart runs/db1_tiny/evaluation
                                          keeps these results, then rewrites the blocks

`scripts/benchmarks.sh` measures into `docs/results/NAME.json`; `--keep` writes there what the
tables need of a results.json. The model in the box has its own, `models/db1_base/results.json`. A
block lies between `<!-- NAME: python scripts/figures.py -->` and `<!-- end -->`; without its
results files it says which are missing.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

from figure_blocks import checks, evaluations, learning, scaling, speed

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "results"
CARD = ROOT / "models" / "db1_base" / "README.md"
PAGES = (
    ROOT / "README.md",
    *(ROOT / "docs" / f"{name}.md" for name in ("benchmarks", "scaling", "suites")),
    CARD,
)
EVALUATIONS = {
    "quickstart": FOLDER / "quickstart.json",
    "base": ROOT / "models" / "db1_base" / "results.json",
}
"""Evaluations by name; all other results are those of `scripts/measure.py`."""

BLOCK = re.compile(
    r"(?P<head><!-- (?P<name>[a-z0-9_]+): python scripts/figures\.py -->\n).*?(?=<!-- end -->)",
    re.DOTALL,
)

Known = Mapping[str, Mapping[str, Any]]


class FigureError(Exception):
    """Results without a figure that a block shows."""


class Block(NamedTuple):
    """What writes a block.

    Args:
        make: Writes it from the results that it names, by name.
        needs: Results without which it only says that they are missing.
        takes: Results that it shows where they are there.
    """

    make: Callable[[Known], str]
    needs: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()


MEASURED = {
    "train": Block(make=speed.train, needs=("train",), takes=("train_bf16",)),
    "decode": Block(make=speed.decode, needs=("decode_1", "decode_2", "decode_8", "decode_1024")),
    "attention": Block(make=speed.attention, needs=("attention", "attention_memory")),
    "kernels": Block(make=checks.kernels, needs=("kernels",)),
    "perplexity": Block(make=speed.perplexity, needs=("perplexity",)),
    "text_memory": Block(make=checks.text_memory, needs=("text_memory",)),
    "freed_memory": Block(make=speed.freed_memory, needs=("freed_memory",)),
    "serving": Block(make=speed.serving, needs=("serving",)),
    "parameters": Block(
        make=checks.parameters, needs=tuple(f"parameters_{n}" for n in ("79m", "364m", "1.2b"))
    ),
    "released": Block(make=checks.released, needs=("released",)),
    "data": Block(make=speed.data, needs=("data",)),
    "importers": Block(make=speed.importers, needs=("importers",)),
    "tours": Block(make=checks.tours, needs=("tours",)),
    "faults": Block(make=checks.faults, needs=("faults",)),
    "fuzz": Block(make=checks.fuzz, needs=("fuzz",)),
    "ablations": Block(
        make=learning.ablations, needs=("ablation_patches", "ablation_instructions")
    ),
    "suites": Block(make=speed.suites, needs=("suites",)),
    "held_out": Block(make=learning.held_out, needs=("held_out",)),
    "stranger": Block(make=checks.stranger, needs=("stranger",)),
} | {name: Block(make=make, needs=("scaling",)) for name, make in scaling.BLOCKS.items()}
"""Blocks of what scripts/benchmarks.sh measures, by name."""

BLOCKS = MEASURED | {
    "results": Block(make=evaluations.headlines, takes=("quickstart", "base")),
    "quickstart": Block(make=evaluations.quickstart, needs=("quickstart",)),
    "quickstart_tasks": Block(make=evaluations.tasks, needs=("quickstart",)),
    "base": Block(make=evaluations.by_suite, needs=("base",)),
    "machine": Block(
        make=checks.machine,
        takes=tuple(name for block in MEASURED.values() for name in block.needs + block.takes),
    ),
}
"""All blocks by name."""


def measured() -> dict[str, dict[str, Any]]:
    """The results that are there, by name."""
    files = {path.stem: path for path in sorted(FOLDER.glob("*.json"))} | EVALUATIONS
    found = {name: json.loads(path.read_bytes()) for name, path in files.items() if path.is_file()}
    return {n: evaluations.slim(each) if n in EVALUATIONS else each for n, each in found.items()}


def made(name: str, known: Known) -> str:
    """A block's text, from the results that are there.

    Raises:
        FigureError: When it is not known, or they lack what it shows.
    """
    if name not in BLOCKS:
        raise FigureError(f"block {name}: not known, expected one of {', '.join(sorted(BLOCKS))}")
    block = BLOCKS[name]
    own = {each: known[each] for each in block.needs + block.takes if each in known}
    missing = [each for each in block.needs if each not in own]
    if missing or not own:
        files = (f"docs/results/{each}.json" for each in missing or block.takes)
        return f"Not measured yet: there is no {', '.join(files)}.\n"
    try:
        return block.make(own)
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        files = " ".join(own)
        raise FigureError(
            f"block {name}: its results ({files}) lack what it shows: {type(error).__name__} "
            f"{error}; measure again: scripts/benchmarks.sh --again, or --keep"
        ) from error


def renewed(text: str, known: Known) -> str:
    """A page with its blocks made anew."""
    return BLOCK.sub(lambda block: block["head"] + made(block["name"], known), text)


def keep(name: str, evaluation: Path) -> None:
    """Writes what the tables need of an evaluation's results.json."""
    path = EVALUATIONS[name]
    path.parent.mkdir(parents=True, exist_ok=True)
    results = json.loads((evaluation / "results.json").read_bytes())
    path.write_text(json.dumps(evaluations.slim(results), indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing")
    parser.add_argument("--keep", nargs=2, metavar=("NAME", "EVALUATION"), help="keep results")
    arguments = parser.parse_args()
    if arguments.keep:
        keep(arguments.keep[0], Path(arguments.keep[1]))
    try:
        known = measured()
        pages = {page: renewed(page.read_text(encoding="utf-8"), known) for page in PAGES}
    except FigureError as error:
        sys.exit(f"figures: error: {error}")
    for page, new in pages.items():
        if arguments.check and new != page.read_text(encoding="utf-8"):
            sys.exit(f"{page}: run python scripts/figures.py")
        page.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
