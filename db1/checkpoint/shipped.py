"""Models that come with db1, by name.

base    models/db1_base of a checkout, or the same folder inside the installed package
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from db1.errors import ConfigError

SHIPPED: Mapping[str, str] = MappingProxyType({"base": "db1_base"})
"""Folder of each shipped model below one of `shipped_roots`, by its name."""
_PACKAGE = Path(__file__).parents[1]


def shipped_roots() -> tuple[Path, Path]:
    """Folders that hold shipped models: of a checkout, and of the installed package."""
    return _PACKAGE.parent / "models", _PACKAGE / "models"


def shipped_model(name: str) -> Path:
    """Returns the folder of a shipped model.

    Raises:
        ConfigError: When it did not come with this copy of db1.
    """
    places = [root / SHIPPED[name] for root in shipped_roots()]
    for place in places:
        if place.is_dir():
            return place
    raise ConfigError(
        f"{name}: this copy of db1 does not include the model, expected it in "
        f"{' or '.join(map(str, places))}; update the checkout or the package, copy its folder "
        "there, or name a run folder, a safetensors folder or hf://user/name"
    )


def is_read_only_place(folder: Path) -> bool:
    """Tells whether a model's folder must not be written to: shipped, or the hub's cache."""
    whole = folder.absolute()
    shipped = any(whole.is_relative_to(root) for root in shipped_roots())
    return shipped or "snapshots" in whole.parts
