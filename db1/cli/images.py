"""Images that a command line names: files, folders of files, or a store of images with texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from db1.errors import DataError
from db1.store.pair_layout import HEADER_FILE

if TYPE_CHECKING:
    from db1.inference.image_text import ImageTextWriter, LoadedImage

SUFFIXES = (".jpg", ".jpeg", ".jpe", ".png", ".webp", ".gif")


@dataclass(frozen=True, kw_only=True)
class NamedImage:
    """An image as the model is shown it, the file it came from, and its place in the list."""

    number: int
    path: Path
    image: LoadedImage


def is_store(path: Path) -> bool:
    """Tells whether a path is a store of images with texts."""
    return (path / HEADER_FILE).is_file()


def image_files(paths: Sequence[Path]) -> list[Path]:
    """The files named, and of folders their image files in order of their names.

    Raises:
        DataError: A path that is not there, or a folder without an image.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            found = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES)
            if not found:
                raise DataError(
                    f"{path}: no image in this folder, expected files ending in "
                    f"{', '.join(SUFFIXES)}"
                )
            files += found
        elif path.is_file():
            files.append(path)
        else:
            raise DataError(f"{path}: no such image file or folder")
    return files


def seen_images(
    writer: ImageTextWriter, files: Sequence[tuple[int, Path]], skipped: list[str] | None
) -> Iterator[NamedImage]:
    """Reads and decodes images one after the other.

    Args:
        writer: Knows the size.
        files: Their places in the list and their paths.
        skipped: Takes the errors of files that are left out; None: the first one stops.

    Raises:
        DataError: A file that is no image, is damaged or too large.
    """
    for number, path in files:
        try:
            yield NamedImage(
                number=number, path=path, image=writer.load_image(_content(path), str(path))
            )
        except DataError as error:
            if skipped is None:
                raise
            skipped.append(str(error))


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
