"""Image sets that a run learned, and the settings it was shown them with."""

from __future__ import annotations

import logging

from db1.config import build
from db1.data.pair_config import PairData
from db1.errors import ConfigError, nearest
from db1.inference.load import RunParts

logger = logging.getLogger(__name__)


def learned_sets(run: RunParts) -> dict[str, PairData]:
    """The sets of images with texts that a run learned, by name; empty where it learned none."""
    sections = (run.config.get("data") or {}).get("pairs") or {}
    return {
        name: build(PairData, section, f"data.pairs.{name}") for name, section in sections.items()
    }


def settings_of(run: RunParts, kind: str, name: str | None = None) -> PairData:
    """The settings that new images are shown with.

    Args:
        run: The run.
        kind: `caption` or `question`.
        name: Of a set that the run learned; None: the first of the kind, or where the run learned
            none (as a converted model says nothing of them) the usual settings, with a warning.

    Raises:
        ConfigError: The run learned no set of this name and kind.
    """
    sets = {key: data for key, data in learned_sets(run).items() if data.kind == kind}
    if name is not None:
        if name not in sets:
            raise ConfigError(
                f"{run.folder}: learned no {kind} set {name!r}, expected one of "
                f"{sorted(sets) or 'none'}{nearest(name, sets)}"
            )
        return sets[name]
    if not sets:
        usual = PairData(kind=kind)
        logger.warning(
            "%s: its configuration names no %s set that it learned; images are shown with the "
            "usual settings: %d pixels, %r",
            run.folder, kind, usual.image_size, usual.texts().prompt,
        )  # fmt: skip
        return usual
    return next(iter(sets.values()))
