"""Published figures of other agents over many tasks, and their results task by task.

`agents.json`: a figure is over all tasks (`share_at_least_50`) or of a suite (`interquartile_mean`,
`interval`); `references` names the published returns (`published.py`) that it was normalised by,
and whose tasks are the agent's. With `over` "episodes" a statistic is one of all episodes of all
tasks, without it one of the tasks' means.

`agents/<name>.json`: returns by task, as they were published.

    {"name": "JAT", "kind": "one model for all tasks",
     "source": "...", "rules_source": "...", "license": "Apache-2.0",
     "decimals": 2, "references": "jat",
     "groups": {"babyai": {"environment": "...", "protocol": "...", "count": 100,
                           "comparable": true}},
     "tasks": {"babyai/GoTo": {"name": "babyai-go-to", "group": "babyai",
                               "mean": 0.78, "std": 0.28}}}

`source` says where the returns stand, `rules_source` where it is told how they were got, both with
commits, `license` that of the source, `decimals` how far the returns were rounded. A task has
`mean` and `std` of `count` episodes, or `values`: means of seeds, say. A group whose rules do not
agree with those here says `why_not`; one whose rules do needs returns for 0 and 1 of a score: those
of `references`, or its own `random` and `expert` (0 and 1,000 where a task pays 0 to 1 a step).
`score` is the published one, where nothing else tells it; `unseen` tasks were kept from learning.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from db1.errors import DataError
from db1.json_shape import Number, check_shape, parse_json_file
from db1.suites.scores.published import published_names, published_of

_FILE = Path(__file__).with_name("agents.json")
FOLDER = Path(__file__).with_name("agents")
"""The results by task that come with db1."""
_SHAPE = {
    "name": str,
    "kind": str,
    "source": str,
    "rules_source": str,
    "license": str,
    "decimals": int,
    "references?": str,
    "groups": {
        str: {
            "environment": str,
            "protocol": str,
            "comparable": bool,
            "why_not?": str,
            "count?": int,
            "random?": Number,
            "expert?": Number,
        }
    },
    "tasks": {
        str: {
            "name": str,
            "group": str,
            "mean?": Number,
            "std?": Number,
            "values?": [Number],
            "score?": Number,
            "unseen?": bool,
        }
    },
}
_TOLD = ("name", "kind", "source", "rules_source", "license")


@dataclass(frozen=True, kw_only=True)
class AgentResult:
    """Return of a published agent in one task.

    Args:
        agent, kind: The agent's name, and one model of what.
        name: The task's name there.
        mean: Its mean return.
        std: Standard deviation of the `count` episodes or seeds that the mean is of.
        count: How many these are; None: not published, the spread of the mean is unknown.
        rounding: Half a unit of the last digit that was published.
        random, expert: Returns that count as 0 and 1; None: they are not known.
        score: (mean - random) / (expert - random), else the published score; None: both unknown.
        unseen: Whether the agent was kept from learning the task.
        environment: Version and rules of the task, in words.
        protocol: How many episodes, of what, in words.
        comparable: Whether these are the task's version and rules here.
        why_not: Why they are not; None where they are.
        source, rules_source, license: Where the return and the rules stand; the source's licence.
    """

    agent: str
    kind: str
    name: str
    mean: float
    std: float
    count: int | None
    rounding: float
    random: float | None
    expert: float | None
    score: float | None
    unseen: bool
    environment: str
    protocol: str
    comparable: bool
    why_not: str | None
    source: str
    rules_source: str
    license: str

    def to_dict(self) -> dict[str, Any]:
        """Entry of `db1 tasks --json`."""
        return dict(vars(self))


@cache
def published_agents() -> Mapping[str, Mapping[str, Any]]:
    """Figures of published agents by name, each with its `source`."""
    return json.loads(_FILE.read_text(encoding="utf-8"))


@cache
def agent_names(folder: Path = FOLDER) -> tuple[str, ...]:
    """Names of the agents whose results by task are known."""
    return tuple(sorted(path.stem for path in folder.glob("*.json")))


@cache
def read_agent(name: str, folder: Path = FOLDER) -> Mapping[str, AgentResult]:
    """Returns an agent's results by task id.

    Raises:
        DataError: When the file does not say all that it must: source, licence, rules.
    """
    path = folder / f"{name}.json"
    try:
        content = parse_json_file(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: no results of an agent ({error})") from error
    check_shape(content, _SHAPE, path)
    _check_told(content, path)
    return {task: _result(content, task, path) for task in content["tasks"]}


def results_of_agents(task_id: str, folder: Path = FOLDER) -> dict[str, AgentResult]:
    """Returns what is published of a task by name of the agent's file."""
    found = {name: read_agent(name, folder).get(task_id) for name in agent_names(folder)}
    return {name: result for name, result in found.items() if result is not None}


def _check_told(content: Mapping[str, Any], path: Path) -> None:
    """Refuses empty texts, and groups that do not say why they compare, or why not."""
    if not all(content[key].strip() for key in _TOLD):
        raise DataError(f"{path}: an empty text, expected words in each of {', '.join(_TOLD)}")
    references = content.get("references")
    if references is not None and references not in published_names():
        raise DataError(
            f"{path}: references {references!r}, expected one of {', '.join(published_names())}"
        )
    for name, group in content["groups"].items():
        if not (group["environment"].strip() and group["protocol"].strip()):
            raise DataError(f"{path}: group {name}: empty rules, expected environment and protocol")
        if group["comparable"] is bool(group.get("why_not", "").strip()):
            raise DataError(
                f"{path}: group {name}: comparable {group['comparable']} and why_not "
                f"{group.get('why_not')!r}, expected a reason exactly where it does not compare"
            )


def _result(content: Mapping[str, Any], task: str, path: Path) -> AgentResult:
    entry = content["tasks"][task]
    group = content["groups"].get(entry["group"])
    if group is None:
        known = ", ".join(content["groups"])
        raise DataError(f"{path}: {task}: group {entry['group']!r}, expected one of {known}")
    mean, std, count = _summary(entry, group, f"{path}: {task}")
    random, expert = _references(content, task, group)
    score = entry.get("score")
    if random is not None and expert is not None and random < expert:
        score = (mean - random) / (expert - random)
    elif group["comparable"]:
        raise DataError(f"{path}: {task}: no returns for 0 and 1, which a comparison needs")
    told = {key: content[key] for key in ("kind", "source", "rules_source", "license")}
    return AgentResult(
        agent=content["name"],
        name=entry["name"],
        mean=mean,
        std=std,
        count=count,
        rounding=0.5 * 10.0 ** -content["decimals"],
        random=random,
        expert=expert,
        score=score,
        unseen=entry.get("unseen", False),
        environment=group["environment"],
        protocol=group["protocol"],
        comparable=group["comparable"],
        why_not=group.get("why_not"),
        **told,
    )


def _summary(
    entry: Mapping[str, Any], group: Mapping[str, Any], where: str
) -> tuple[float, float, int | None]:
    """Mean, standard deviation, and of how many values."""
    values = entry.get("values")
    if values is not None and len(values) > 1:
        numbers = [float(value) for value in values]
        found = (statistics.fmean(numbers), statistics.stdev(numbers), len(numbers))
    elif values is None and "mean" in entry and "std" in entry:
        found = (float(entry["mean"]), float(entry["std"]), group.get("count"))
    else:
        raise DataError(f"{where}: expected mean and std, or at least two values")
    mean, std, count = found
    if not math.isfinite(mean) or not std >= 0 or (count is not None and count < 1):
        raise DataError(f"{where}: mean {mean}, std {std}, count {count} are no measurement")
    return found


def _references(
    content: Mapping[str, Any], task: str, group: Mapping[str, Any]
) -> tuple[float | None, float | None]:
    """Returns that count as 0 and 1."""
    published = published_of(task, content["references"]) if "references" in content else None
    found = group if published is None else published
    return found.get("random"), found.get("expert")
