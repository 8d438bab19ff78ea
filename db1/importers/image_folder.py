"""A folder of images whose names come from an annotation file.

Names may have folders in front of them, the name of the folder itself as well
(`train2014/a.jpg` of train2014/); names in another Unicode form are found (macOS writes `e` and an
accent where annotations have one letter); what leads out of the folder is refused.
"""

from __future__ import annotations

import os
import unicodedata
from functools import cached_property
from pathlib import Path

from db1.errors import DataError
from db1.importers.pair_source import file_names, read_image_file
from db1.untrusted import below, check_relative

OFFICIAL = ("", ".", "train2014", "val2014", "test2014")
"""Places that no file had to name: they may be links to another disk."""


class ImageFolder:
    """See the module's docstring.

    Args:
        root: Trusted.
        what: Which images it holds, for messages.
        place: The folder below `root`, as a file names it; empty: `root` itself.
        file: The file that names it.
    """

    def __init__(self, root: Path, what: str, place: str = "", file: Path | None = None) -> None:
        self.place = place
        self.path = root / place if place in OFFICIAL else below(root, place, file)
        self._top = file_names(self.path, what)

    def inside(self, name: str, file: Path) -> str:
        """The name of an image as it counts from this folder.

        Args:
            name: As the annotations have it.
            file: The annotations.

        Raises:
            DataError: It leads out of the folder.
        """
        name = check_relative(name, file)
        first, slash, rest = name.partition("/")
        if slash and first == self.path.name and first not in self._top:
            return rest
        return name

    def __contains__(self, name: str) -> bool:
        if "/" not in name and name in self._top:
            return True
        return plain_name(name) in self._files

    def names(self) -> frozenset[str]:
        """All images in one Unicode form, with the folders in front of them."""
        return frozenset(self._files)

    def read(self, name: str) -> bytes:
        """Bytes of an image.

        Raises:
            DataError: It is missing, cannot be read, or is a link out of the folder.
        """
        there = name if "/" not in name and name in self._top else self._files.get(plain_name(name))
        return read_image_file(below(self.path, there or name))

    @cached_property
    def _files(self) -> dict[str, str]:
        """Files below the folder by their name in one Unicode form."""
        found: dict[str, str] = {}
        for place, _, files in os.walk(self.path):
            front = Path(place).relative_to(self.path).as_posix()
            for file in files:
                name = file if front == "." else f"{front}/{file}"
                earlier = found.setdefault(plain_name(name), name)
                if earlier != name:
                    raise DataError(
                        f"{self.path}: {earlier!r} and {name!r} differ in their Unicode form only; "
                        "keep one of them"
                    )
        return found


def plain_name(name: str) -> str:
    """A name in the Unicode form by which names are compared."""
    return unicodedata.normalize("NFC", name)
