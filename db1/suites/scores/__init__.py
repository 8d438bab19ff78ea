"""Reference scores of the tasks, each with where it comes from.

    measured/<suite>.json      random and expert returns that `db1 tasks measure` found
    published/<name>.json      returns that others published: db1, jat, d4rl, atari-human
    datasets.json              Minari's data sets by task
    agents.json                figures of other agents over many tasks
    agents/<name>.json         returns of other agents task by task: jat, tdmpc2, vintix

`references_of(task)` gives all of a task by name; `measured_of(task, version)` the measured ones of
one environment version. Scores that were got in another environment version, or under other rules,
are kept but say so: `comparable` and `why_not`. `standing_of` judges a task's expert by them.
"""

from __future__ import annotations

from db1.suites.scores.measured import (
    Measured,
    add_measurement,
    measured_of,
    read_measured,
    version_difference,
)
from db1.suites.scores.published import datasets_of, published_names, published_of
from db1.suites.scores.reference import (
    MEASURED,
    Reference,
    recorded_references,
    reference_names,
    references_of,
)
from db1.suites.scores.standing import Standing, standing_of

__all__ = [
    "MEASURED",
    "Measured",
    "Reference",
    "Standing",
    "add_measurement",
    "datasets_of",
    "measured_of",
    "published_names",
    "published_of",
    "read_measured",
    "recorded_references",
    "reference_names",
    "references_of",
    "standing_of",
    "version_difference",
]
