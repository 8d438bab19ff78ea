"""Foreign images with texts -> stores of db1, one a split; goes on where an earlier run stopped."""

from __future__ import annotations

import io
import logging
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

from db1.errors import ConfigError, DataError, nearest
from db1.importers.new_store import store_or_nothing
from db1.importers.pair_source import PairOptions, PairSet, PairSplit, SourcePair, some_names
from db1.importers.registry import ImportContext, ImportSummary
from db1.store.pairs import PairHeader, PairStore, PairWriter
from db1.tokens.image_file import ImageFile

logger = logging.getLogger(__name__)

NUMBER_KEY = "number"
"""Metadata: place of the pair in its source's split, by which an interrupted import goes on."""
MISSING = "pairs left out by --skip-bad, image missing"
BROKEN = "pairs left out by --skip-bad, image broken"


def import_pairs(
    source: PairSet, out: Path, options: PairOptions, context: ImportContext
) -> ImportSummary:
    """Stores the splits of a set below `out`, one folder each.

    All splits are opened and checked before anything is written.

    Args:
        source: The set.
        out: Folder of the set's stores.
        options: What is kept and how.
        context: Progress.

    Raises:
        ConfigError: An unknown split.
        DataError: Broken or missing data, a store of another origin, or a full disk. What was
            stored before stays, and the same command goes on; a store without a pair is removed.
    """
    opened = {name: source.splits[name]() for name in _chosen(source, options)}
    for name, split in opened.items():
        if split.missing_images and not options.skip_bad:
            raise DataError(
                f"{source.source}, split {name}: {len(split.missing_images)} image(s) that texts "
                f"speak of are missing ({some_names(split.missing_images)}); get them, or pass "
                "--skip-bad to leave their pairs out"
            )
    counts: Counter[str] = Counter()
    num_stored = num_before = 0
    for name, split in opened.items():
        header = PairHeader(
            name=source.name,
            split=name,
            kind=source.kind,
            origin={**source.origin, "options": options.lasting()},
        )
        with store_or_nothing(
            out / name, partial(PairWriter, out / name, header), lambda writer: writer.num_pairs
        ) as writer:
            num_before += writer.num_pairs
            _fill(writer, name, split, options, context, counts)
            if writer.num_pairs == 0:
                raise DataError(f"{source.source}, split {name}: no pair to store")
            num_stored += writer.num_pairs
        counts.update(split.counts)
    return ImportSummary(
        source=source.source,
        out=out,
        unit="pairs",
        num_stored=num_stored,
        num_before=num_before,
        counts=dict(counts),
        notes=tuple(note for split in opened.values() for note in split.notes),
    )


def _chosen(source: PairSet, options: PairOptions) -> list[str]:
    if options.splits is None:
        return list(source.splits)
    names = [name.strip() for name in options.splits.split(",") if name.strip()]
    for name in names:
        if name not in source.splits:
            raise ConfigError(
                f"--splits: {name!r} is not in {source.source}, which has "
                f"{', '.join(source.splits)}{nearest(name, source.splits)}"
            )
    if not names:
        raise ConfigError("--splits: names no split")
    return names


def _fill(
    writer: PairWriter,
    name: str,
    split: PairSplit,
    options: PairOptions,
    context: ImportContext,
    counts: Counter[str],
) -> None:
    """Appends what the store lacks."""
    first, missing = _next_number(writer), frozenset(split.missing_images)
    for number, item in enumerate(split.pairs()):
        if number < first:
            continue
        if options.max_pairs is not None and writer.num_pairs >= options.max_pairs:
            return
        if item.pair.image_name in missing:
            counts[MISSING] += 1
            continue
        _append(writer, number, item, options, counts)
        context.progress(name, number + 1, split.num_pairs)


def _append(
    writer: PairWriter, number: int, item: SourcePair, options: PairOptions, counts: Counter[str]
) -> None:
    pair = replace(item.pair, metadata={**item.pair.metadata, NUMBER_KEY: number})
    place = f"{writer.header.name}/{writer.header.split} image {pair.image_name}"
    try:
        content = None if writer.has_image(pair.image_name) else _image(item, place, options)
    except DataError as error:
        if not options.skip_bad:
            raise
        logger.warning("%s", error)
        counts[BROKEN] += 1
        return
    writer.append(pair, content or b"")


def _image(item: SourcePair, place: str, options: PairOptions) -> bytes:
    """Loads, checks and, where asked for, shrinks an image."""
    content = item.load()
    file = ImageFile(content, place)
    height, width = file.info.height, file.info.width
    if options.shrink_to is None or min(height, width) <= options.shrink_to:
        if options.check_images:
            file.decode()
        return content
    scale = options.shrink_to / min(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    shrunk = io.BytesIO()
    picture = file.decode(height=size[1], width=size[0]).resize(size, reducing_gap=2.0)
    picture.save(shrunk, "JPEG", quality=min(95, options.jpeg_quality))
    return shrunk.getvalue()


def _next_number(writer: PairWriter) -> int:
    """Number of the first source pair after the last stored one."""
    if writer.num_pairs == 0:
        return 0
    last = PairStore(writer.path).pair(writer.num_pairs - 1).metadata.get(NUMBER_KEY)
    if not isinstance(last, int):
        raise DataError(
            f"{writer.path}: its last pair does not say which pair of the source it is; write to "
            "another folder"
        )
    return last + 1
