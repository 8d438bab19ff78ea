"""Small COCO and VQA v2 folders in the official layouts, with real JPEGs."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

IMAGE_IDS = {"train": (9, 25, 30), "val": (42, 73)}


def jpeg(seed: int, height: int = 48, width: int = 64) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels).resize((width, height))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG")
    return buffer.getvalue()


def write_json(file: Path, content: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content), encoding="utf-8")


def image_name(part: str, image_id: int) -> str:
    plain = f"{image_id:012d}.jpg"
    return plain if part.endswith("2017") else f"COCO_{part}_{plain}"


def write_images(folder: Path, part: str, image_ids: Iterable[int]) -> None:
    (folder / part).mkdir(parents=True, exist_ok=True)
    for image_id in image_ids:
        (folder / part / image_name(part, image_id)).write_bytes(jpeg(image_id))


def captions_of(image_id: int) -> list[str]:
    return [f"Image {image_id}, caption {i} with a café." for i in range(5)]


def make_coco(root: Path, year: str = "2014") -> Path:
    for split, image_ids in IMAGE_IDS.items():
        part = f"{split}{year}"
        write_images(root, part, image_ids)
        images = [
            {"license": 5, "file_name": image_name(part, i), "height": 48, "width": 64, "id": i}
            for i in image_ids
        ]
        annotations = [
            {"image_id": image_id, "id": 100 * image_id + i, "caption": f"{caption}\n"}
            for i in range(5)
            for image_id in reversed(image_ids)
            for caption in captions_of(image_id)[i : i + 1]
        ]
        content = {"info": {"year": int(year)}, "images": images, "licenses": []}
        write_json(
            root / f"annotations/captions_{part}.json", content | {"annotations": annotations}
        )
    return root


def make_karpathy(root: Path) -> Path:
    make_coco(root)
    splits = {9: "train", 25: "train", 30: "val", 42: "restval", 73: "test"}
    images = []
    for image_id, split in splits.items():
        part = "train2014" if image_id in IMAGE_IDS["train"] else "val2014"
        sentences = [{"raw": caption, "tokens": []} for caption in captions_of(image_id)]
        images.append(
            {
                "filepath": part, "filename": image_name(part, image_id), "imgid": len(images),
                "split": split, "cocoid": image_id, "sentences": sentences, "sentids": [],
            }
        )  # fmt: skip
    write_json(root / "dataset_coco.json", {"images": images, "dataset": "coco"})
    return root


def answers_of(question_id: int) -> list[str]:
    return ["yes"] * 6 + ["no"] * 3 + [f"answer {question_id}"]


def make_vqa(root: Path) -> Path:
    parts = {"train2014": IMAGE_IDS["train"], "val2014": IMAGE_IDS["val"], "test2015": (1, 2)}
    for part, image_ids in parts.items():
        write_images(root, part, image_ids)
        questions = [
            {"image_id": i, "question": f"Is this {i}, {k}?", "question_id": 1000 * i + k}
            for i in image_ids
            for k in range(3)
        ]
        head = {"info": {}, "task_type": "Open-Ended", "data_type": "mscoco"}
        write_json(
            root / f"v2_OpenEnded_mscoco_{part}_questions.json",
            head | {"license": {}, "data_subtype": part, "questions": questions},
        )
        if part == "test2015":
            continue
        annotations = [
            {
                "question_type": "is this", "multiple_choice_answer": "yes",
                "answers": [
                    {"answer": answer, "answer_confidence": "yes", "answer_id": i + 1}
                    for i, answer in enumerate(answers_of(question["question_id"]))
                ],
                "image_id": question["image_id"], "answer_type": "yes/no",
                "question_id": question["question_id"],
            }
            for question in reversed(questions)
        ]  # fmt: skip
        write_json(
            root / f"v2_mscoco_{part}_annotations.json", {"info": {}, "annotations": annotations}
        )
    return root


def edit_json(file: Path, key: str, change: Any) -> None:
    """Replaces the list under `key` by what `change` makes of it."""
    content = json.loads(file.read_text(encoding="utf-8"))
    content[key] = change(content[key])
    write_json(file, content)
