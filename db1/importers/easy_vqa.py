"""easy-VQA: questions about one coloured shape, 64 x 64 pixels, out of a package of 3 MB.

    data/train/questions.json     [[question, answer, image number], ...]    38,575
    data/train/images/0.png ...                                               4,000
    data/test/...                                                   9,673 and 1,000

13 answers, about 74 % of them yes or no; one answer a question.

Source: V. Zhou, https://pypi.org/project/easy-vqa (MIT).
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from db1.errors import DataError, MissingExtra
from db1.files import resolved
from db1.importers.fingerprint import fingerprint
from db1.importers.pair_import import import_pairs
from db1.importers.pair_source import (
    PairOptions,
    PairSet,
    PairSplit,
    SourcePair,
    file_names,
    read_image_file,
)
from db1.importers.registry import IMPORTERS, ImportContext, ImportKind, ImportSummary
from db1.json_shape import parse_json_file
from db1.store.pair_layout import QUESTION
from db1.store.pairs import Pair

INSTALLED = "installed"
_SPLITS = ("train", "test")


def import_easy_vqa(
    source: str, out: Path, options: PairOptions, context: ImportContext
) -> ImportSummary:
    """Stores easy-VQA; see `import_pairs`.

    Args:
        source: `installed` for the installed package, or a folder with train/ and test/.
        out: Folder of the set's stores.
        options: What is kept and how.
        context: Progress.

    Raises:
        MissingExtra: The package is not installed.
    """
    version = None
    if source == INSTALLED:
        folder, version = _installed()
    else:
        folder = Path(source)
    files = [folder / split / "questions.json" for split in _SPLITS]
    origin = {"kind": "easy-vqa", "licence": "MIT", "fingerprint": fingerprint(files)}
    found = PairSet(
        name="easy-vqa",
        source=f"the package easy-vqa {version}" if version else str(resolved(folder)),
        kind=QUESTION,
        splits={split: partial(_split, folder / split) for split in _SPLITS},
        origin=origin | ({"version": version} if version else {}),
    )
    return import_pairs(found, out, options, context)


def _installed() -> tuple[Path, str]:
    package = importlib.util.find_spec("easy_vqa")
    if package is None or package.origin is None:
        raise MissingExtra("easy-vqa", "image_text", "db1 import easy-vqa installed")
    return Path(package.origin).parent / "data", importlib.metadata.version("easy-vqa")


def _split(folder: Path) -> PairSplit:
    questions = _questions(folder / "questions.json")
    there = file_names(folder / "images", "the images of easy-VQA")
    names = {f"{image}.png" for _, _, image in questions}
    return PairSplit(
        pairs=partial(_pairs, questions, folder / "images"),
        num_pairs=len(questions),
        missing_images=tuple(sorted(names - there)),
    )


def _questions(file: Path) -> list[tuple[str, str, int]]:
    try:
        content = parse_json_file(file)
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: cannot read the questions ({error})") from None
    if not isinstance(content, list):
        raise DataError(f"{file}: a {type(content).__name__}, expected a list")
    for i, entry in enumerate(content):
        if not isinstance(entry, list) or [type(part) for part in entry] != [str, str, int]:
            raise DataError(
                f"{file} entry {i}: got {entry!r}, expected [question, answer, image number]"
            )
    return [(question.strip(), answer.strip(), image) for question, answer, image in content]


def _pairs(questions: list[tuple[str, str, int]], images: Path) -> Iterator[SourcePair]:
    for question, answer, image in questions:
        name = f"{image}.png"
        pair = Pair(image_name=name, question=question, texts=(answer,))
        yield SourcePair(pair=pair, load=partial(read_image_file, images / name))


IMPORTERS.register("easy-vqa")(
    ImportKind(
        run=import_easy_vqa,
        options=PairOptions,
        help="easy-VQA: 48,248 questions about coloured shapes, from the package easy-vqa.",
        source_help="`installed`, or a folder with train/ and test/.",
        example="db1 import easy-vqa installed --out data/pairs/easy-vqa",
    )
)
