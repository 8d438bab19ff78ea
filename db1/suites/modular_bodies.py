"""The 38 bodies of modular locomotion as models that today's MuJoCo compiles.

The XML files come from the package modular-mujoco-envs; its Python code, written for the old gym,
is never imported. Walkers and hoppers are drawn in global coordinates, which MuJoCo dropped: here
every position is made relative to the body that it belongs to.
"""

from __future__ import annotations

import importlib.util
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np

from db1.errors import DataError

PACKAGE = "modular_mujoco_envs"
_NOT_NUMBERS = {"0.13/2": "0.065"}
"""Numbers for the arithmetic in hopper files, where MuJoCo wants a number."""


def body_xml(name: str) -> str:
    """Returns the MJCF of a body with its includes written out, in local coordinates.

    Args:
        name: File name without ending, such as `walker_7_main`.

    Raises:
        DataError: When the installed package lacks the file.
    """
    folder = _folder()
    path = folder / "xmls" / f"{name}.xml"
    if not path.is_file():
        raise DataError(f"{path}: no such body, expected the files of modular-mujoco-envs 1.5")
    root = ElementTree.parse(path).getroot()
    _write_out_includes(root, path.parent)
    compiler = root.find("compiler")
    if compiler is not None and compiler.attrib.pop("coordinate", "local") == "global":
        for body in root.findall("worldbody/body"):
            _make_local(body, np.zeros(3))
    return ElementTree.tostring(root, encoding="unicode")


def _folder() -> Path:
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise DataError(f"the package {PACKAGE} is missing; run: pip install 'db1[modular_rl]'")
    return Path(next(iter(spec.submodule_search_locations)))


def _write_out_includes(root: ElementTree.Element, folder: Path) -> None:
    for include in root.findall("include"):
        place = list(root).index(include)
        root.remove(include)
        parts = ElementTree.parse(folder / include.attrib["file"]).getroot()
        for offset, part in enumerate(parts):
            root.insert(place + offset, part)


def _make_local(body: ElementTree.Element, parent: np.ndarray) -> None:
    """Subtracts from every position of `body` where the body itself stands."""
    place = _numbers(body.attrib["pos"])
    body.attrib["pos"] = _text(place - parent)
    for child in body:
        if child.tag == "body":
            _make_local(child, place)
            continue
        for key in ("pos", "fromto"):
            if key in child.attrib:
                numbers = _numbers(child.attrib[key]).reshape(-1, 3)
                child.attrib[key] = _text((numbers - place).ravel())


def _numbers(text: str) -> np.ndarray:
    return np.array([float(_NOT_NUMBERS.get(word, word)) for word in text.split()])


def _text(numbers: np.ndarray) -> str:
    return " ".join(f"{number:.10g}" for number in numbers)
