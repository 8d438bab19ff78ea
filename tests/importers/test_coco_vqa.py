"""COCO and VQA v2 in their official layouts: everything joined, nothing guessed."""

from __future__ import annotations

import json
import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest
from official_layouts import (
    answers_of,
    captions_of,
    edit_json,
    image_name,
    jpeg,
    make_coco,
    make_karpathy,
    make_vqa,
)

from db1.errors import ConfigError, DataError
from db1.importers.coco import CocoOptions, import_coco
from db1.importers.registry import IMPORTERS, ImportContext
from db1.importers.vqa import VqaOptions, import_vqa
from db1.store.pairs import PairStore, pair_splits
from db1.tokens.image_file import ImageFile

CONTEXT = ImportContext()


def coco(root: Path, **options: object):
    return import_coco(str(root / "in"), root / "out", CocoOptions(**options), CONTEXT)


def vqa(root: Path, **options: object):
    return import_vqa(str(root / "in"), root / "out", VqaOptions(**options), CONTEXT)


@pytest.mark.parametrize("year", ["2014", "2017"])
def test_coco(tmp_path: Path, year: str) -> None:
    make_coco(tmp_path / "in", year)
    summary = coco(tmp_path)
    assert summary.num_stored == 5 and not any(summary.counts.values())
    assert pair_splits(tmp_path / "out") == ["train", "val"]
    store = PairStore(tmp_path / "out/train")
    pair = store.pair(1)
    assert pair.image_name == image_name(f"train{year}", 25)
    assert pair.texts == tuple(captions_of(25))
    assert pair.metadata["image_id"] == 25
    assert store.image_of(1) == jpeg(25)
    assert store.header.origin["year"] == year


def test_both_years_need_a_choice(tmp_path: Path) -> None:
    make_coco(make_coco(tmp_path / "in", "2014"), "2017")
    with pytest.raises(DataError, match="captions of 2014 and 2017, pass --year"):
        coco(tmp_path)
    assert coco(tmp_path, year="2017").num_stored == 5


def test_karpathy_splits(tmp_path: Path) -> None:
    make_karpathy(tmp_path / "in")
    assert coco(tmp_path, karpathy=True).num_stored == 5
    assert pair_splits(tmp_path / "out") == ["restval", "test", "train", "val"]
    assert PairStore(tmp_path / "out/restval").pair(0).texts == tuple(captions_of(42))
    assert PairStore(tmp_path / "out/restval").image_of(0) == jpeg(42)


def test_images_without_captions_are_counted_and_named(tmp_path: Path) -> None:
    root = make_coco(tmp_path / "in")
    file = root / "annotations/captions_train2014.json"
    edit_json(file, "annotations", lambda a: [x for x in a if x["image_id"] != 25])
    (root / "val2014/COCO_val2014_000000000099.jpg").write_bytes(jpeg(99))
    summary = coco(tmp_path)
    assert summary.num_stored == 4
    lines = "\n".join(summary.lines())
    assert "images without a caption, left out: 1" in lines
    assert "without a caption: COCO_train2014_000000000025.jpg" in lines
    assert "image files that the annotations do not name: 1" in lines
    assert "not in the annotations: COCO_val2014_000000000099.jpg" in lines


def test_captions_without_images_stop_or_are_counted(tmp_path: Path) -> None:
    root = make_coco(tmp_path / "in")
    (root / "train2014/COCO_train2014_000000000025.jpg").unlink()
    with pytest.raises(DataError, match=r"split train: 1 image.*000000000025.jpg.*--skip-bad"):
        coco(tmp_path)
    assert not (tmp_path / "out").exists()
    summary = coco(tmp_path, skip_bad=True)
    assert summary.num_stored == 4
    assert summary.counts["pairs left out by --skip-bad, image missing"] == 1


def test_a_broken_image_stops_by_name_or_is_counted(tmp_path: Path) -> None:
    root = make_coco(tmp_path / "in")
    file = root / "train2014/COCO_train2014_000000000025.jpg"
    file.write_bytes(jpeg(25)[:600])
    with pytest.raises(DataError, match=r"coco/train image COCO_train2014_000000000025.jpg"):
        coco(tmp_path, check_images=True)
    summary = coco(tmp_path, check_images=True, skip_bad=True)
    assert summary.num_stored == 4
    assert summary.counts["pairs left out by --skip-bad, image broken"] == 1


def test_a_caption_of_an_unknown_image_is_refused(tmp_path: Path) -> None:
    file = make_coco(tmp_path / "in") / "annotations/captions_val2014.json"
    edit_json(file, "annotations", lambda a: [*a, {"image_id": 7, "id": 1, "caption": "x"}])
    with pytest.raises(DataError, match=r"captions_val2014.json: a caption of image id 7"):
        coco(tmp_path)
    assert not (tmp_path / "out").exists()


def test_text_that_is_no_utf8_is_refused(tmp_path: Path) -> None:
    file = make_coco(tmp_path / "in") / "annotations/captions_val2014.json"
    file.write_bytes(file.read_bytes().replace(b"caption 0", b"caf\xe9"))
    with pytest.raises(DataError, match=r"captions_val2014.json: not UTF-8"):
        coco(tmp_path)


@pytest.mark.parametrize("bad", [{"image_id": "9"}, {"caption": 3}, {"caption": None}])
def test_fields_of_another_kind_are_refused(tmp_path: Path, bad: dict) -> None:
    file = make_coco(tmp_path / "in") / "annotations/captions_val2014.json"
    edit_json(file, "annotations", lambda a: [a[0] | bad, *a[1:]])
    with pytest.raises(DataError, match=f"captions_val2014.json: .*{next(iter(bad))!r} is"):
        coco(tmp_path)


def test_an_interrupted_import_goes_on(tmp_path: Path) -> None:
    make_vqa(tmp_path / "in")

    class Stop(Exception):
        pass

    def stop(name: str, done: int, total: int | None) -> None:
        assert total == 9
        if done == 4:
            raise Stop

    with pytest.raises(Stop):
        import_vqa(
            str(tmp_path / "in"), tmp_path / "out", VqaOptions(), replace(CONTEXT, progress=stop)
        )
    assert PairStore(tmp_path / "out/train").num_pairs == 4
    summary = vqa(tmp_path)
    assert (summary.num_before, summary.num_stored) == (4, 21)
    again = vqa(tmp_path)
    assert (again.num_before, again.num_stored) == (21, 21)
    vqa_whole = import_vqa(str(tmp_path / "in"), tmp_path / "whole", VqaOptions(), CONTEXT)
    assert vqa_whole.num_stored == 21
    for file in ("images.data", "images.bin", "pairs.jsonl", "pairs.bin"):
        one, other = (tmp_path / folder / "train" / file for folder in ("out", "whole"))
        assert one.read_bytes() == other.read_bytes()


def test_another_source_is_not_mixed_in(tmp_path: Path) -> None:
    make_coco(tmp_path / "in")
    coco(tmp_path)
    file = tmp_path / "in/annotations/captions_train2014.json"
    edit_json(file, "annotations", lambda a: a[:-1])
    with pytest.raises(DataError, match="another header"):
        coco(tmp_path)


def test_vqa(tmp_path: Path) -> None:
    make_vqa(tmp_path / "in")
    summary = vqa(tmp_path)
    assert summary.num_stored == 21
    assert pair_splits(tmp_path / "out") == ["test", "train", "val"]
    store = PairStore(tmp_path / "out/train")
    assert (store.num_pairs, store.num_images) == (9, 3)
    pair = store.pair(4)
    assert pair.question == "Is this 25, 1?"
    assert pair.texts == tuple(answers_of(25_001))
    assert pair.metadata == {
        "question_id": 25_001, "image_id": 25, "question_type": "is this",
        "answer_type": "yes/no", "number": 4,
    }  # fmt: skip
    assert store.image_of(4) == jpeg(25)
    test = PairStore(tmp_path / "out/test")
    assert test.pair(0).texts == () and test.num_texts().sum() == 0


def test_vqa_in_the_folders_of_the_official_tools(tmp_path: Path) -> None:
    root = make_vqa(tmp_path / "in")
    for folder, pattern in (("Questions", "*questions.json"), ("Annotations", "*annotations.json")):
        (root / folder).mkdir()
        for file in list(root.glob(pattern)):
            file.rename(root / folder / file.name)
    (root / "Images/mscoco").mkdir(parents=True)
    for part in ("train2014", "val2014", "test2015"):
        (root / part).rename(root / "Images/mscoco" / part)
    assert vqa(tmp_path, splits="train, val", max_pairs=2).num_stored == 4
    (root / "Images/mscoco").rename(tmp_path / "photos")
    with pytest.raises(DataError, match="no images of train2014, looked for .*--images"):
        vqa(tmp_path)
    assert vqa(tmp_path, images=str(tmp_path / "photos")).num_stored == 21


@pytest.mark.parametrize(
    ("file", "key", "change", "message"),
    [
        ("v2_mscoco_train2014_annotations.json", "annotations", lambda a: a[1:],
         "question id 30002 has no answers"),
        ("v2_OpenEnded_mscoco_train2014_questions.json", "questions", lambda q: q[1:],
         "answers to question id 9000, which is not in"),
        ("v2_OpenEnded_mscoco_train2014_questions.json", "questions", lambda q: [*q, q[0]],
         "question id 9000 appears twice"),
        ("v2_mscoco_train2014_annotations.json", "annotations",
         lambda a: [a[0] | {"image_id": 9}, *a[1:]], "question id 30002 is about image 9, but"),
        ("v2_mscoco_train2014_annotations.json", "annotations",
         lambda a: [a[0] | {"answers": []}, *a[1:]], "question id 30002 has no answer"),
        ("v2_OpenEnded_mscoco_train2014_questions.json", "questions",
         lambda q: [q[0] | {"image_id": 5}, *q[1:]], "question id 9000 is about image 9, but"),
    ],
)  # fmt: skip
def test_ids_that_do_not_match_are_refused(
    tmp_path: Path, file: str, key: str, change: object, message: str
) -> None:
    edit_json(make_vqa(tmp_path / "in") / file, key, change)
    with pytest.raises(DataError, match=message):
        vqa(tmp_path)
    assert not (tmp_path / "out").exists()


def test_missing_annotations_are_refused(tmp_path: Path) -> None:
    (make_vqa(tmp_path / "in") / "v2_mscoco_val2014_annotations.json").unlink()
    with pytest.raises(DataError, match="there is no v2_mscoco_val2014_annotations.json"):
        vqa(tmp_path)


def test_images_can_be_shrunk(tmp_path: Path) -> None:
    make_coco(tmp_path / "in")
    coco(tmp_path, shrink_to=32)
    store = PairStore(tmp_path / "out/train")
    assert store.image_sizes().tolist() == [[32, 43]] * 3
    assert ImageFile(store.image_of(0), "x").info.format == "JPEG"
    assert store.header.origin["options"] == {"shrink_to": 32}
    with pytest.raises(DataError, match="another header"):
        coco(tmp_path)


def test_bad_options_are_refused(tmp_path: Path) -> None:
    make_coco(tmp_path / "in")
    with pytest.raises(ConfigError, match="--splits: 'tain'.*did you mean 'train'"):
        coco(tmp_path, splits="tain")
    with pytest.raises(ConfigError, match="--year: got '2015'"):
        CocoOptions(year="2015")
    with pytest.raises(DataError, match="no such folder"):
        import_coco(str(tmp_path / "none"), tmp_path / "out", CocoOptions(), CONTEXT)
    with pytest.raises(DataError, match="no v2_OpenEnded_mscoco_train2014_questions.json"):
        import_vqa(str(tmp_path / "in"), tmp_path / "out", VqaOptions(), CONTEXT)
    with pytest.raises(DataError, match="no dataset_coco.json"):
        coco(tmp_path, karpathy=True)


@pytest.mark.parametrize("kind", ["coco", "vqa", "easy-vqa", "pictograms"])
def test_the_kinds_are_registered(kind: str) -> None:
    assert IMPORTERS[kind].example.startswith(f"db1 import {kind} ")
    IMPORTERS[kind].options()


def _karpathy(root: Path, images: list[dict[str, str]]) -> Path:
    """`in/` with dataset_coco.json of one caption an image."""
    (root / "in").mkdir()
    entries = [{**image, "sentences": [{"raw": f"of {n}"}]} for n, image in enumerate(images)]
    (root / "in/dataset_coco.json").write_text(json.dumps({"images": entries}))
    return root / "in"


def _official(root: Path, names: list[str]) -> Path:
    """`in/` with annotations of one caption an image, and an empty train2014/."""
    (root / "in/annotations").mkdir(parents=True)
    (root / "in/train2014").mkdir()
    content = {
        "images": [{"id": n, "file_name": name} for n, name in enumerate(names)],
        "annotations": [{"image_id": n, "caption": f"of {n}"} for n in range(len(names))],
    }
    (root / "in/annotations/captions_train2014.json").write_text(json.dumps(content))
    return root / "in/train2014"


def test_one_name_in_two_folders_is_two_images(tmp_path: Path) -> None:
    images = [{"filepath": f, "filename": "1.jpg", "split": "train"} for f in "ab"]
    root = _karpathy(tmp_path, [*images, {**images[0], "filename": "2.jpg"}])
    for number, name in enumerate(["a/1.jpg", "b/1.jpg", "a/2.jpg"]):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(jpeg(number))
    assert coco(tmp_path, karpathy=True).num_stored == 3
    store = PairStore(tmp_path / "out/train")
    assert [store.pair(n).image_name for n in range(3)] == ["a/1.jpg", "b/1.jpg", "2.jpg"]
    assert [store.image_of(n) for n in range(3)] == [jpeg(n) for n in range(3)]


def test_names_with_folders(tmp_path: Path) -> None:
    images = _official(tmp_path, ["x/a.jpg", "y/a.jpg", "train2014/b.jpg"])
    for number, name in enumerate(["x/a.jpg", "y/a.jpg", "b.jpg"]):
        (images / name).parent.mkdir(exist_ok=True)
        (images / name).write_bytes(jpeg(number))
    summary = coco(tmp_path)
    assert summary.num_stored == 3 and not any(summary.counts.values())
    store = PairStore(tmp_path / "out/train")
    assert [store.image_of(n) for n in range(3)] == [jpeg(n) for n in range(3)]


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_names_in_another_unicode_form(tmp_path: Path, form: str) -> None:
    other = {"NFC": "NFD", "NFD": "NFC"}[form]
    images = _official(tmp_path, [unicodedata.normalize(form, "caf\u00e9.jpg")])
    (images / unicodedata.normalize(other, "caf\u00e9.jpg")).write_bytes(jpeg(1))
    summary = coco(tmp_path)
    assert summary.num_stored == 1 and not any(summary.counts.values())


@pytest.mark.parametrize("name", ["../../secret.jpg", "/secret.jpg", "link.jpg"])
def test_images_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret.jpg").write_bytes(jpeg(1))
    images = _official(tmp_path, [name])
    (images / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    with pytest.raises(DataError, match="out of its folder"):
        coco(tmp_path)
    assert not (tmp_path / "out/train/images.data").exists()


@pytest.mark.parametrize("key", ["filepath", "filename", "split"])
@pytest.mark.parametrize("name", ["../outside", "/outside"])
def test_karpathys_names_stay_inside(tmp_path: Path, key: str, name: str) -> None:
    image = {"filepath": "a", "filename": "1.jpg", "split": "train", key: name}
    root = _karpathy(tmp_path, [image])
    for folder in (root / "a", tmp_path / "outside"):
        folder.mkdir()
        (folder / "1.jpg").write_bytes(jpeg(1))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError, match="out of its folder; refused|cannot be that of a file"):
        coco(tmp_path, karpathy=True)
    assert sorted(tmp_path.rglob("*")) == before
