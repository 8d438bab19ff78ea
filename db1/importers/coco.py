"""COCO captions in the official layout, or in Karpathy's split of it.

    coco/ annotations/captions_train2014.json      {"images": [{"id", "file_name"}, ...],
          annotations/captions_val2014.json         "annotations": [{"image_id", "caption"}, ...]}
          train2014/COCO_train2014_000000000009.jpg
          val2014/...                              2017: the same names with 2017
          dataset_coco.json                        Karpathy: {"images": [{"filepath", "filename",
                                                    "split", "sentences": [{"raw"}, ...]}, ...]}

Karpathy's splits are train, restval, val and test, all with images of 2014; `restval` is the rest
of the official val that is usually added to train.

Source: https://cocodataset.org, format of the data; A. Karpathy and L. Fei-Fei 2015, section 4.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from db1.errors import ConfigError, DataError, check_one_of
from db1.files import resolved
from db1.formats.json_stream import json_elements
from db1.importers.fingerprint import fingerprint
from db1.importers.image_folder import ImageFolder, plain_name
from db1.importers.pair_import import import_pairs
from db1.importers.pair_source import (
    PairOptions,
    PairSet,
    PairSplit,
    SourcePair,
    json_field,
    some_names,
)
from db1.importers.registry import IMPORTERS, ImportContext, ImportKind, ImportSummary, option
from db1.store.pair_layout import CAPTION
from db1.store.pairs import Pair
from db1.untrusted import check_name

YEARS = ("2014", "2017")
KARPATHY_FILE = "dataset_coco.json"
_WITHOUT_CAPTION = "images without a caption, left out"
_UNLISTED = "image files that the annotations do not name"
_EMPTY = "empty captions, left out"


@dataclass(frozen=True, kw_only=True)
class CocoOptions(PairOptions):
    """Options of `db1 import coco`."""

    year: str | None = option(None, "2014 or 2017; default: the one that is there.")
    karpathy: bool = option(False, f"Use the splits of {KARPATHY_FILE} (images of 2014).")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.year is not None:
            check_one_of("--year", self.year, YEARS)
        if self.karpathy and self.year not in (None, "2014"):
            raise ConfigError(f"--karpathy: its images are of 2014, got --year {self.year}")


@dataclass(frozen=True, kw_only=True)
class _Captioned:
    """One image with its captions, as the annotations have it.

    Args:
        name: Of the file, with folders below its image folder in front of it, if any.
        folder: Of the image.
        captions: Those that are not empty.
        metadata: Of the pair.
        label: By which the set tells it from others; empty: its name.
    """

    name: str
    folder: ImageFolder
    captions: tuple[str, ...]
    metadata: Mapping[str, Any]
    label: str = ""

    @property
    def image_name(self) -> str:
        """Name of the image in the store."""
        return self.label or self.name


def import_coco(
    source: str, out: Path, options: CocoOptions, context: ImportContext
) -> ImportSummary:
    """Stores COCO captions; see `import_pairs`."""
    root = Path(source)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder, expected COCO with annotations/ and its images")
    found = _karpathy_set(root) if options.karpathy else _official_set(root, options.year)
    return import_pairs(found, out, options, context)


def _official_set(root: Path, year: str | None) -> PairSet:
    folder = root / "annotations" if (root / "annotations").is_dir() else root
    years = [y for y in YEARS if any(folder.glob(f"captions_*{y}.json"))]
    year = year or (years[0] if len(years) == 1 else None)
    if year is None:
        there = f"captions of {' and '.join(years)}, pass --year" if years else "none"
        raise DataError(f"{folder}: expected captions_train2014.json or its like, found {there}")
    files = {
        split: folder / f"captions_{split}{year}.json"
        for split in ("train", "val")
        if (folder / f"captions_{split}{year}.json").exists()
    }
    if not files:
        raise DataError(f"{folder}: no captions_train{year}.json and no captions_val{year}.json")
    return PairSet(
        name="coco",
        source=str(resolved(root)),
        kind=CAPTION,
        splits={
            split: partial(_official_split, file, root / f"{split}{year}")
            for split, file in files.items()
        },
        origin={"kind": "coco", "year": year, "fingerprint": fingerprint(files.values())},
    )


def _official_split(file: Path, images: Path) -> PairSplit:
    """Joins images and captions of one annotation file by id."""
    names: dict[int, str] = {}
    for record in json_elements(file, "images"):
        number, name = (
            json_field(record, "id", int, file),
            json_field(record, "file_name", str, file),
        )
        if names.setdefault(number, name) != name:
            raise DataError(f"{file}: the image id {number} stands for two files")
    captions: dict[int, list[str]] = {number: [] for number in names}
    counts: Counter[str] = Counter()
    for record in json_elements(file, "annotations"):
        number = json_field(record, "image_id", int, file)
        if number not in captions:
            raise DataError(
                f"{file}: a caption of image id {number}, which is not among its "
                f"{len(names)} images; get the file again"
            )
        caption = json_field(record, "caption", str, file).strip()
        counts[_EMPTY] += not caption
        captions[number] += [caption] if caption else []
    there = ImageFolder(images, f"the images of {file.name}")
    items = [
        _Captioned(
            name=there.inside(name, file),
            folder=there,
            captions=tuple(captions.pop(number)),
            metadata={"image_id": number},
        )
        for number, name in names.items()
    ]
    return _split(items, counts, there)


def _karpathy_set(root: Path) -> PairSet:
    candidates = [root / KARPATHY_FILE, root / "annotations" / KARPATHY_FILE]
    file = next((path for path in candidates if path.exists()), None)
    if file is None:
        raise DataError(f"{root}: no {KARPATHY_FILE} here or in annotations/")
    splits: dict[str, list[_Captioned]] = {}
    counts: dict[str, Counter[str]] = {}
    folders: dict[str, ImageFolder] = {}
    for record in json_elements(file, "images"):
        split = check_name(json_field(record, "split", str, file), f"{file}: split")
        raw = [
            json_field(sentence, "raw", str, file).strip()
            for sentence in json_field(record, "sentences", list, file)
        ]
        place = json_field(record, "filepath", str, file)
        if place not in folders:
            folders[place] = ImageFolder(root, f"images of {KARPATHY_FILE}", place, file)
        metadata = {"image_id": record["cocoid"]} if "cocoid" in record else {}
        splits.setdefault(split, []).append(
            _Captioned(
                name=folders[place].inside(json_field(record, "filename", str, file), file),
                folder=folders[place],
                captions=tuple(caption for caption in raw if caption),
                metadata=metadata,
            )
        )
        counts.setdefault(split, Counter())[_EMPTY] += sum(not caption for caption in raw)
    splits = {split: _told_apart(items) for split, items in splits.items()}
    return PairSet(
        name="coco",
        source=str(resolved(root)),
        kind=CAPTION,
        splits={split: partial(_karpathy_split, splits[split], counts[split]) for split in splits},
        origin={
            "kind": "coco",
            "year": "2014",
            "karpathy": True,
            "fingerprint": fingerprint([file]),
        },
    )


def _told_apart(items: list[_Captioned]) -> list[_Captioned]:
    """Two files of one name in two folders get their folders in front of it."""
    folders: dict[str, set[str]] = {}
    for item in items:
        folders.setdefault(item.name, set()).add(item.folder.place)
    return [
        replace(item, label=f"{item.folder.place}/{item.name}")
        if len(folders[item.name]) > 1
        else item
        for item in items
    ]


def _karpathy_split(items: list[_Captioned], counts: Counter[str]) -> PairSplit:
    return _split(items, counts, None)


def _split(items: list[_Captioned], counts: Counter[str], whole: ImageFolder | None) -> PairSplit:
    """Compares what is annotated with the files in the image folders.

    Args:
        items: All images of the split.
        counts: What was left out so far.
        whole: The folder that holds the images of this split only; None: there is none.
    """
    counts = Counter(counts)
    captioned = [item for item in items if item.captions]
    bare = {item.image_name for item in items if not item.captions}
    counts[_WITHOUT_CAPTION] = len(bare)
    notes = [f"without a caption: {some_names(bare)}"] if bare else []
    if whole is not None:
        unlisted = whole.names() - {plain_name(item.name) for item in items}
        counts[_UNLISTED] = len(unlisted)
        notes += [f"not in the annotations: {some_names(unlisted)}"] if unlisted else []
    return PairSplit(
        pairs=partial(_pairs, captioned),
        num_pairs=len(captioned),
        missing_images=tuple(i.image_name for i in captioned if i.name not in i.folder),
        counts=counts,
        notes=tuple(notes),
    )


def _pairs(items: list[_Captioned]) -> Iterator[SourcePair]:
    for item in items:
        pair = Pair(image_name=item.image_name, texts=item.captions, metadata=item.metadata)
        yield SourcePair(pair=pair, load=partial(item.folder.read, item.name))


IMPORTERS.register("coco")(
    ImportKind(
        run=import_coco,
        options=CocoOptions,
        help="Captions of COCO 2014 or 2017, or Karpathy's splits.",
        source_help="Folder with annotations/captions_train2014.json, train2014/, ...",
        example="db1 import coco ~/coco --out data/pairs/coco --karpathy",
    )
)
