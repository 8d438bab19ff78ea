"""VQA v2 in the official layout.

    vqa/ v2_OpenEnded_mscoco_train2014_questions.json   {"questions": [{"question_id", "image_id",
                                                          "question"}, ...]}
         v2_mscoco_train2014_annotations.json           {"annotations": [{"question_id",
                                                          "image_id", "answers": [{"answer"} x 10],
                                                          "question_type", "answer_type"}, ...]}
         train2014/COCO_train2014_000000000009.jpg
         ...val2014, test2015 and test-dev2015 (its images are those of test2015), without answers

The JSON files may also lie in Questions/ and Annotations/, the images in Images/mscoco/, as the
official tools have them. All ten answers are kept in order.

Source: https://visualqa.org/vqa_v2_teaser.html, file formats; Goyal et al. 2017.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from db1.errors import DataError
from db1.files import resolved
from db1.formats.json_stream import json_elements
from db1.importers.fingerprint import fingerprint
from db1.importers.pair_import import import_pairs
from db1.importers.pair_source import (
    PairOptions,
    PairSet,
    PairSplit,
    SourcePair,
    file_names,
    json_field,
    read_image_file,
)
from db1.importers.registry import IMPORTERS, ImportContext, ImportKind, ImportSummary, option
from db1.store.pair_layout import QUESTION
from db1.store.pairs import Pair

SPLITS = {"train": "train2014", "val": "val2014", "test": "test2015", "test-dev": "test-dev2015"}
"""Split -> part of the official file names."""

_ANSWERED = ("train", "val")
_IMAGE_FOLDERS = ("", "Images/mscoco", "Images", "images")
_JSON_FOLDERS = ("", "Questions", "Annotations", "questions", "annotations")


@dataclass(frozen=True, kw_only=True)
class VqaOptions(PairOptions):
    """Options of `db1 import vqa`."""

    images: str | None = option(
        None, "Folder that holds train2014/, val2014/, ...; default: looked for in SOURCE."
    )

    def lasting(self) -> dict[str, Any]:
        return {key: value for key, value in super().lasting().items() if key != "images"}


@dataclass(frozen=True, slots=True)
class _Answered:
    """The annotation of one question; texts are shared between questions."""

    image_id: int
    answers: tuple[str, ...]
    question_type: str
    answer_type: str


def import_vqa(
    source: str, out: Path, options: VqaOptions, context: ImportContext
) -> ImportSummary:
    """Stores the questions and answers of VQA v2; see `import_pairs`."""
    root = Path(source)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder, expected the files of VQA v2")
    questions = {name: _find(root, _question_file(part)) for name, part in SPLITS.items()}
    there = {name: file for name, file in questions.items() if file is not None}
    if not there:
        raise DataError(f"{root}: no {_question_file('train2014')} and no other split of VQA v2")
    splits, files = {}, list(there.values())
    for name, file in there.items():
        annotations = _find(root, f"v2_mscoco_{SPLITS[name]}_annotations.json")
        if annotations is None and name in _ANSWERED:
            raise DataError(f"{file}: there is no v2_mscoco_{SPLITS[name]}_annotations.json for it")
        files += [] if annotations is None else [annotations]
        part = SPLITS[name].replace("test-dev", "test")
        images = Path(options.images) if options.images else None
        splits[name] = partial(_split, root, images, part, file, annotations)
    found = PairSet(
        name="vqa",
        source=str(resolved(root)),
        kind=QUESTION,
        splits=splits,
        origin={"kind": "vqa", "version": "v2", "fingerprint": fingerprint(files)},
    )
    return import_pairs(found, out, options, context)


def _question_file(part: str) -> str:
    return f"v2_OpenEnded_mscoco_{part}_questions.json"


def _find(root: Path, name: str) -> Path | None:
    return next((p for f in _JSON_FOLDERS if (p := root / f / name).exists()), None)


def _image_folder(root: Path, images: Path | None, part: str) -> Path:
    candidates = [images / part] if images else [root / f / part for f in _IMAGE_FOLDERS]
    folder = next((path for path in candidates if path.is_dir()), None)
    if folder is None:
        tried = ", ".join(str(path) for path in candidates)
        raise DataError(f"{root}: no images of {part}, looked for {tried}; pass --images FOLDER")
    return folder


def _split(
    root: Path, images: Path | None, part: str, questions: Path, annotations: Path | None
) -> PairSplit:
    """Joins questions and answers by id and checks both sides."""
    folder = _image_folder(root, images, part)
    there = file_names(folder, f"the images of {questions.name}")
    answered = None if annotations is None else _annotations(annotations)
    seen: set[int] = set()
    missing: dict[str, None] = {}
    for record in json_elements(questions, "questions"):
        number = json_field(record, "question_id", int, questions)
        image_id = json_field(record, "image_id", int, questions)
        if number in seen:
            raise DataError(f"{questions}: question id {number} appears twice")
        seen.add(number)
        if answered is not None:
            _check_annotation(answered.get(number), number, image_id, annotations, questions)
        name = _image_name(part, image_id)
        if name not in there:
            missing[name] = None
    for number in answered or ():
        if number not in seen:
            raise DataError(
                f"{annotations}: answers to question id {number}, which is not in {questions}; "
                "get both files again"
            )
    return PairSplit(
        pairs=partial(_pairs, questions, answered, folder, part),
        num_pairs=len(seen),
        missing_images=tuple(missing),
    )


def _annotations(file: Path) -> dict[int, _Answered]:
    answered: dict[int, _Answered] = {}
    for record in json_elements(file, "annotations"):
        number = json_field(record, "question_id", int, file)
        if number in answered:
            raise DataError(f"{file}: question id {number} appears twice")
        answers = [
            json_field(answer, "answer", str, file).strip()
            for answer in json_field(record, "answers", list, file)
        ]
        if not answers:
            raise DataError(f"{file}: question id {number} has no answer")
        answered[number] = _Answered(
            image_id=json_field(record, "image_id", int, file),
            answers=tuple(sys.intern(answer) for answer in answers),
            question_type=sys.intern(str(record.get("question_type", ""))),
            answer_type=sys.intern(str(record.get("answer_type", ""))),
        )
    return answered


def _check_annotation(
    answered: _Answered | None, number: int, image_id: int, annotations: Path | None, file: Path
) -> None:
    if answered is None:
        raise DataError(
            f"{file}: question id {number} has no answers in {annotations}; get both files again"
        )
    if answered.image_id != image_id:
        raise DataError(
            f"{annotations}: question id {number} is about image {answered.image_id}, but about "
            f"{image_id} in {file}"
        )


def _image_name(part: str, image_id: int) -> str:
    return f"COCO_{part}_{image_id:012d}.jpg"


def _pairs(
    questions: Path, answered: dict[int, _Answered] | None, folder: Path, part: str
) -> Iterator[SourcePair]:
    for record in json_elements(questions, "questions"):
        number, image_id = record["question_id"], record["image_id"]
        metadata: dict[str, Any] = {"question_id": number, "image_id": image_id}
        answers: tuple[str, ...] = ()
        if answered is not None:
            found = answered[number]
            answers = found.answers
            metadata |= {"question_type": found.question_type, "answer_type": found.answer_type}
        name = _image_name(part, image_id)
        pair = Pair(
            image_name=name,
            question=json_field(record, "question", str, questions).strip(),
            texts=answers,
            metadata=metadata,
        )
        yield SourcePair(pair=pair, load=partial(read_image_file, folder / name))


IMPORTERS.register("vqa")(
    ImportKind(
        run=import_vqa,
        options=VqaOptions,
        help="Questions and answers of VQA v2.",
        source_help="Folder with v2_OpenEnded_mscoco_train2014_questions.json, ..., train2014/.",
        example="db1 import vqa ~/vqa --out data/pairs/vqa --splits train,val",
    )
)
