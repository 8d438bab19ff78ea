"""Opening a store whatever it holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from db1.errors import DataError
from db1.json_shape import parse_json_file

if TYPE_CHECKING:
    from db1.store.documents import DocumentStore
    from db1.store.episodes import EpisodeStore
    from db1.store.pairs import PairStore

_HEADER = "header.json"


def open_store(path: str | Path) -> EpisodeStore | PairStore | DocumentStore:
    """Opens a store for reading.

    Args:
        path: Folder of demonstrations of a task or of images with texts, or the prefix of a corpus
            (`data/text/kjv/train`).

    Raises:
        DataError: When there is no store, or a damaged one.
    """
    place = Path(path)
    if (place / _HEADER).is_file():
        return _open_folder(place)
    if Path(f"{place}.idx").is_file():
        from db1.store.documents import DocumentStore

        return DocumentStore(place)
    raise DataError(
        f"{place}: no store, expected a folder with {_HEADER} (`db1 collect` and `db1 import` make "
        f"them) or the prefix of {place.name}.idx and {place.name}.bin"
    )


def _open_folder(place: Path) -> EpisodeStore | PairStore:
    from db1.store.episodes import EpisodeStore
    from db1.store.pair_layout import PairHeader
    from db1.store.pairs import PairStore

    try:
        kind = parse_json_file(place / _HEADER).get("format")
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(f"{place / _HEADER}: not readable as JSON ({error})") from None
    return PairStore(place) if kind == PairHeader.FORMAT else EpisodeStore(place)
