"""Reference captions and answers, and result files, in the formats of COCO and VQA.

    captions   captions_val2014.json, Karpathy's dataset_coco.json, or a store of captions
    answers    v2_mscoco_val2014_annotations.json, or a store of questions
    results    [{"image_id": 42, "caption": "a cat"}, ...]
               [{"question_id": 42000, "answer": "yes"}, ...]

A store's ids are those that its set came with; where it came without, the numbers of its pairs.

Source: https://cocodataset.org/#format-results; https://visualqa.org/evaluation.html.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from db1.errors import DataError
from db1.failures import make_folder
from db1.files import atomic_write_text
from db1.json_shape import parse_json
from db1.metrics.pair_selection import pair_id
from db1.metrics.question_types import answer_type_of, question_type_of
from db1.store.pair_layout import CAPTION, HEADER_FILE, QUESTION
from db1.store.pairs import PairStore

IMAGE_ID, QUESTION_ID = "image_id", "question_id"
_NAMED = 3


@dataclass(frozen=True, kw_only=True)
class AnsweredQuestion:
    """A question with people's answers.

    Args:
        answers: In order.
        question_type: First words of the question, as VQA has it.
        answer_type: `yes/no`, `number` or `other`, as VQA has it.
    """

    answers: tuple[str, ...]
    question_type: str
    answer_type: str


def read_captions(path: Path, split: str | None = None) -> dict[int, tuple[str, ...]]:
    """Reference captions by image id.

    Args:
        path: A file of COCO, Karpathy's file, or the folder of a store.
        split: Of Karpathy's file; None: `test`.

    Raises:
        DataError: Neither, or a broken one.
    """
    if (path / HEADER_FILE).is_file():
        return _store_captions(_store(path, CAPTION))
    content = _read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("images"), list):
        raise DataError(f'{path}: not captions of COCO: it has no list "images"')
    if "annotations" not in content:
        return _karpathy_captions(path, content["images"], split or "test")
    found: dict[int, list[str]] = {
        _field(image, "id", int, path): [] for image in content["images"]
    }
    for record in content["annotations"]:
        image = _field(record, IMAGE_ID, int, path)
        if image not in found:
            raise DataError(f"{path}: a caption of image id {image}, which is not in its images")
        found[image].append(_field(record, "caption", str, path))
    return {image: tuple(texts) for image, texts in found.items() if texts}


def read_answers(path: Path) -> dict[int, AnsweredQuestion]:
    """People's answers by question id.

    Args:
        path: An annotation file of VQA, or the folder of a store.

    Raises:
        DataError: Neither, or a broken one.
    """
    if (path / HEADER_FILE).is_file():
        return _store_answers(_store(path, QUESTION))
    content = _read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("annotations"), list):
        raise DataError(f'{path}: not annotations of VQA: it has no list "annotations"')
    found = {}
    for record in content["annotations"]:
        answers = _field(record, "answers", list, path)
        texts = tuple(_field(answer, "answer", str, path) for answer in answers)
        found[_field(record, QUESTION_ID, int, path)] = AnsweredQuestion(
            answers=texts,
            question_type=str(record.get("question_type", "")),
            answer_type=str(record.get("answer_type") or answer_type_of(texts)),
        )
    return found


def read_results(path: Path, id_key: str, text_key: str) -> dict[int, str]:
    """Written texts by id.

    Args:
        path: A result file.
        id_key: `image_id` or `question_id`.
        text_key: `caption` or `answer`.

    Raises:
        DataError: No list of such objects, or an id that appears twice.
    """
    content = _read_json(path)
    if not isinstance(content, list) or not content:
        raise DataError(
            f'{path}: not a result file, expected [{{"{id_key}": 1, "{text_key}": ""}}]'
        )
    found: dict[int, str] = {}
    for record in content:
        number = _field(record, id_key, int, path)
        if number in found:
            raise DataError(f"{path}: {id_key} {number} appears twice")
        found[number] = _field(record, text_key, str, path)
    return found


def write_result_file(path: Path, texts: Mapping[int, str], id_key: str, text_key: str) -> None:
    """Writes texts by id as a result file, in one move."""
    entries = [{id_key: number, text_key: text} for number, text in texts.items()]
    make_folder(path.parent)
    atomic_write_text(path, json.dumps(entries, ensure_ascii=False) + "\n")


def joined_ids(
    annotated: Mapping[int, Any], results: Mapping[int, str], id_key: str, *, partial: bool
) -> list[int]:
    """The ids to score, in the order of the annotations.

    Args:
        annotated: References by id.
        results: Texts by id.
        id_key: Named in errors.
        partial: Accept results that lack ids; only those there are scored.

    Raises:
        DataError: Results with unknown ids, or lacking some; names them.
    """
    unknown = [number for number in results if number not in annotated]
    if unknown:
        raise DataError(
            f"the results name {len(unknown)} {id_key}(s) that the annotations do not have: "
            f"{_some(unknown)}; are they of another split?"
        )
    missing = [number for number in annotated if number not in results]
    if missing and not partial:
        raise DataError(
            f"the results lack {len(missing)} of {len(annotated)} {id_key}s: {_some(missing)}; "
            "pass --partial to score those that are there"
        )
    return [number for number in annotated if number in results]


def _some(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers[:_NAMED])) + (", ..." if len(numbers) > _NAMED else "")


def _store(path: Path, kind: str) -> PairStore:
    store = PairStore(path)
    if store.header.kind != kind:
        raise DataError(f"{path}: a store of kind {store.header.kind!r}, expected {kind!r}")
    return store


def _store_captions(store: PairStore) -> dict[int, tuple[str, ...]]:
    found: dict[int, tuple[str, ...]] = {}
    for number in range(len(store)):
        pair = store.pair(number)
        image = pair_id(pair, number, IMAGE_ID)
        found[image] = (*found.get(image, ()), *(text for text in pair.texts if text.strip()))
    return found


def _store_answers(store: PairStore) -> dict[int, AnsweredQuestion]:
    found = {}
    for number in range(len(store)):
        pair = store.pair(number)
        if pair.num_texts:
            found[pair_id(pair, number, QUESTION_ID)] = AnsweredQuestion(
                answers=pair.texts,
                question_type=question_type_of(pair),
                answer_type=str(pair.metadata.get("answer_type") or answer_type_of(pair.texts)),
            )
    return found


def _karpathy_captions(path: Path, images: Sequence[Any], split: str) -> dict[int, tuple[str, ...]]:
    found = {}
    splits = set()
    for record in images:
        splits.add(_field(record, "split", str, path))
        if record["split"] == split:
            sentences = _field(record, "sentences", list, path)
            texts = tuple(_field(sentence, "raw", str, path) for sentence in sentences)
            found[_field(record, "cocoid", int, path)] = texts
    if not found:
        raise DataError(f"{path}: no image of split {split!r}, it has {sorted(splits)}")
    return found


def _read_json(path: Path) -> Any:
    try:
        return parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as JSON ({error})") from None


def _field(record: Any, key: str, kind: type, path: Path) -> Any:
    value = record.get(key) if isinstance(record, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        raise DataError(
            f"{path}: {str(record)[:80]}: {key!r} is {value!r}, expected {kind.__name__}"
        )
    return value
