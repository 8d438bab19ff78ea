"""Provenance of the numbers: weights, versions, command, seeds, settings."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from db1.report.blocks import Facts, Section
from db1.report.material import Material
from db1.report.wording import plain


def settings(material: Material) -> Section:
    """Settings that decided the numbers."""
    pairs = {key: plain(value) for key, value in material.results["settings"].items()}
    return Section(name="settings", title="Settings", blocks=(Facts(pairs=pairs),), is_folded=True)


def provenance(material: Material) -> Section:
    """Weights, command, seeds and versions."""
    found = material.results["provenance"]
    checkpoint = found["checkpoint"] or {}
    pairs = {
        "run": checkpoint.get("run", "-"),
        "checkpoint": checkpoint.get("tag") or "-",
        "weights sha256": checkpoint.get("sha256") or "-",
        "command": shlex.join(found["command"]),
        "seeds": seeds(material.results["tasks"]),
        "results": str(material.folder),
    }
    versions = {f"version of {name}": str(version) for name, version in found["versions"].items()}
    return Section(
        name="provenance", title="Provenance", blocks=(Facts(pairs={**pairs, **versions}),)
    )


def seeds(tasks: Mapping[str, Any]) -> str:
    """The evaluation seeds as stretches: `2000000..2000019`."""
    known = sorted({seed for entry in tasks.values() for seed in entry["seeds"]})
    if not known:
        return "-"
    stretches = [[known[0], known[0]]]
    for seed in known[1:]:
        if seed == stretches[-1][1] + 1:
            stretches[-1][1] = seed
        else:
            stretches.append([seed, seed])
    words = [f"{a}" if a == b else f"{a}..{b}" for a, b in stretches[:8]]
    return ", ".join(words) + (", ..." if len(stretches) > 8 else "")
