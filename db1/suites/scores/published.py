"""Returns that others published: `published/<name>.json`, and which data sets hold experts.

    {"source": "...",
     "groups": {"metaworld": {"environment": "Meta-World v2, 500 steps", "comparable": false,
                              "why_not": "...", "dataset": "..."}},
     "tasks": {"metaworld/reach-v3": {"name": "reach-v2", "group": "metaworld",
                                      "random": 0.0, "expert": 4863.1}}}

`dataset`, of a task or its group, says how `db1 import` gets demonstrations; {name} stands for the
task's name there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent
_FOLDER = _HERE / "published"


@cache
def published_names() -> tuple[str, ...]:
    """Names of the published collections of scores."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.json")))


def published_of(task_id: str, name: str) -> Mapping[str, Any] | None:
    """Returns a task's entry in one collection, with its group's keys and `source`; None for none.

    Keys: name, source, environment, comparable, why_not, and of random, expert, human and dataset
    those that are known.
    """
    content = _collection(name)
    entry = content["tasks"].get(task_id)
    if entry is None:
        return None
    whole = {"source": content["source"], **content["groups"][entry["group"]], **entry}
    if "dataset" in whole:
        whole["dataset"] = whole["dataset"].format(name=whole["name"])
    return whole


def datasets_of(task_id: str) -> tuple[str, ...]:
    """Returns the public data sets with an expert's episodes, as `db1 import` calls them."""
    known = _datasets()
    found = list(known["tasks"].get(task_id, ()))
    suite, _, name = task_id.partition("/")
    pattern = known["patterns"].get(suite)
    if pattern is not None and name not in pattern["without"]:
        found.append(pattern["dataset"].format(name=name, lower=name.lower()))
    for name in published_names():
        entry = published_of(task_id, name)
        if entry is not None and "dataset" in entry:
            found.append(entry["dataset"])
    return tuple(found)


@cache
def _collection(name: str) -> dict[str, Any]:
    return json.loads((_FOLDER / f"{name}.json").read_text(encoding="utf-8"))


@cache
def _datasets() -> dict[str, Any]:
    return json.loads((_HERE / "datasets.json").read_text(encoding="utf-8"))
