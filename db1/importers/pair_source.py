"""Interface between readers of images with texts and `import_pairs`; the options they share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from db1.errors import DataError
from db1.importers.registry import option
from db1.ranges import Checked, Count, Range
from db1.store.pairs import Pair


@dataclass(frozen=True, kw_only=True)
class PairOptions(Checked):
    """Options of all kinds of images with texts.

    `max_pairs`, `skip_bad` and `check_images` may differ between runs that fill one store; the
    others are part of it.
    """

    splits: str | None = option(None, "Splits to import, separated by commas; default: all.")
    max_pairs: Count | None = option(None, "Store at most this many pairs per split.")
    skip_bad: bool = option(
        False, "Leave out pairs whose image is missing or broken (counted) instead of stopping."
    )
    check_images: bool = option(False, "Decode every image once, to find truncated ones.")
    shrink_to: Annotated[int, Range(least=16, most=16_384)] | None = option(
        None, "Shrink images to this shortest side and store them as JPEG; default: as they are."
    )
    jpeg_quality: Annotated[int, Range(least=1, most=95)] = option(
        90, "Quality of shrunk images, 1 to 95."
    )

    def lasting(self) -> dict[str, Any]:
        """The options that shape the stored pairs, where they are not the default."""
        transient = {"splits", "max_pairs", "skip_bad", "check_images"}
        default = asdict(type(self)())
        return {
            key: str(value) if isinstance(value, Path) else value
            for key, value in asdict(self).items()
            if key not in transient and value != default[key]
        }


@dataclass(frozen=True, kw_only=True)
class SourcePair:
    """One pair as the source has it.

    Args:
        pair: Image name, texts and metadata.
        load: Returns the compressed image; raises DataError when it is missing.
    """

    pair: Pair
    load: Callable[[], bytes]


@dataclass(frozen=True, kw_only=True)
class PairSplit:
    """One split of a set.

    Args:
        pairs: Yields its pairs, always in the same order.
        num_pairs: How many; None while nobody knows.
        missing_images: Names of images that texts speak of and that are not there.
        counts: What the source leaves out, by reason.
        notes: Sentences for the user about this split.
    """

    pairs: Callable[[], Iterator[SourcePair]]
    num_pairs: int | None = None
    missing_images: tuple[str, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PairSet:
    """A set of images with texts in a foreign format.

    Args:
        name: Of the set, as `coco`.
        source: Absolute path or package with version.
        kind: `caption` or `question`.
        splits: What opens a split, by its name; opening checks all that can be checked without
            reading images.
        origin: Kept in the headers: kind, version, licence, fingerprint of the files; JSON-able.
    """

    name: str
    source: str
    kind: str
    splits: Mapping[str, Callable[[], PairSplit]]
    origin: Mapping[str, Any]


def read_image_file(path: Path) -> bytes:
    """Bytes of an image file.

    Raises:
        DataError: It is missing or cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: no such image; download the images of this split too") from None
    except OSError as error:
        raise DataError(f"{path}: cannot read the image ({error})") from None


def file_names(folder: Path, what: str) -> frozenset[str]:
    """Names of the files in a folder.

    Raises:
        DataError: There is no such folder.
    """
    try:
        return frozenset(entry.name for entry in folder.iterdir())
    except OSError:
        raise DataError(f"{folder}: no such folder, expected {what}") from None


def some_names(names: frozenset[str] | set[str] | tuple[str, ...], limit: int = 3) -> str:
    """The first names in order, for a message."""
    listed = sorted(names)[:limit]
    return ", ".join(listed) + (", ..." if len(names) > limit else "")


def json_field(record: Any, key: str, kind: type, file: Path) -> Any:
    """A field of one record of a JSON file.

    Raises:
        DataError: The record has no such field, or another kind of value there.
    """
    value = record.get(key) if isinstance(record, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        shown = repr(record)[:80]
        raise DataError(f"{file}: {shown}: {key!r} is {value!r}, expected {kind.__name__}")
    return value
