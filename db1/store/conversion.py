"""Copies of episode stores: another way to store images, an older version, several in one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from db1.errors import DataError
from db1.files import resolved
from db1.store.episode_layout import HEADER_FILE, VERSION, StoreFiles, StoreHeader
from db1.store.episodes import EpisodeStore, EpisodeWriter


def convert_store(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    image_format: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> EpisodeStore:
    """Copies a store, episode by episode, into the newest version of the format.

    An interrupted copy is a valid store; calling again goes on after its last episode. Other
    files in the folder (`references.json`) are copied too.

    Args:
        source: Folder of the store to read.
        out: Folder of the copy.
        image_format: Of the copy's images; None: as in the source.
        progress: Called with (episodes done, all episodes).

    Returns:
        The copy.

    Raises:
        DataError: A damaged source, or a folder `out` that holds something else.
    """
    copy = merge_stores([source], out, image_format=image_format, progress=progress)
    store = EpisodeStore(source)
    own = {path.name for path in StoreFiles(store.path, store.header).paths()} | {HEADER_FILE}
    for file in sorted(store.path.iterdir()):
        if file.is_file() and file.name not in own and not (copy.path / file.name).exists():
            shutil.copyfile(file, copy.path / file.name)
    return copy


def merge_stores(
    sources: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    image_format: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> EpisodeStore:
    """Copies the episodes of several stores with equal headers, in order, into one.

    Args:
        sources: Folders of the stores to read.
        out: Folder of the new store; goes on where an interrupted call stopped.
        image_format: Of the new store's images; None: as in the first source.
        progress: Called with (episodes done, all episodes).

    Returns:
        The new store.

    Raises:
        DataError: Sources that differ, a damaged one, or a folder `out` that holds something else.
    """
    stores = [EpisodeStore(source) for source in sources]
    if not stores:
        raise DataError("no store to copy from; name at least one folder")
    header = replace(
        stores[0].header,
        image_format=image_format or stores[0].header.image_format,
        created_by=StoreHeader.created_by,
        version=VERSION,
    )
    for store in stores:
        found = replace(store.header, image_format=header.image_format).difference(header)
        if found:
            raise DataError(f"{store.path} and {stores[0].path} have different headers ({found})")
        if resolved(out) == resolved(store.path):
            raise DataError(f"{store.path}: cannot be copied onto itself; write to another folder")
    total, done = sum(store.num_episodes for store in stores), 0
    with EpisodeWriter(out, header) as writer:
        copied = writer.num_episodes
        _check_beginning(EpisodeStore(out), stores)
        for store in stores:
            for episode in range(store.num_episodes):
                if done >= copied:
                    writer.append(store.read(episode))
                done += 1
                if progress is not None:
                    progress(done, total)
    return EpisodeStore(out)


def _check_beginning(copy: EpisodeStore, stores: Sequence[EpisodeStore]) -> None:
    """Raises DataError unless the episodes of `copy` are the first ones of `stores`."""
    for name in ("lengths", "seeds", "returns"):
        wanted = np.concatenate([getattr(store, name) for store in stores])
        if not np.array_equal(getattr(copy, name), wanted[: copy.num_episodes]):
            raise DataError(
                f"{copy.path}: its {copy.num_episodes} episodes are not the first ones of "
                f"{stores[0].path}; write to another folder"
            )
