"""The verbs and options of the command line are those that were frozen (see `verbs.py`)."""

from __future__ import annotations

import copy
import json

from verbs import FROZEN, differences, verbs


def test_verbs_and_options_are_the_frozen_ones() -> None:
    found = differences(json.loads(FROZEN.read_text()), verbs())
    assert not found, "\n".join(["python tests/cli/verbs.py freezes them anew", *found])


def test_every_difference_is_named() -> None:
    frozen = json.loads(FROZEN.read_text())
    found = copy.deepcopy(frozen)
    del found["doctor"]
    del found["eval"]["--episodes"]
    found["eval"]["--seed"]["default"] = 3
    found["plot"]["--style"] = dict(found["plot"]["--out"])
    assert differences(frozen, found) == [
        "changed: db1 eval --seed: default 3, was 0",
        "lost: db1 doctor",
        "lost: db1 eval --episodes",
        "new: db1 plot --style",
    ]
