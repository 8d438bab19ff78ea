"""The tasks as a table: what runs here, who is expert, which reference scores there are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from db1.errors import ConfigError
from db1.splits import splits_of, tasks_of_splits
from db1.suites.base import SUITES
from db1.suites.scores import (
    MEASURED,
    Reference,
    Standing,
    datasets_of,
    recorded_references,
    references_of,
    standing_of,
)
from db1.suites.scores.agents import AgentResult, results_of_agents
from db1.suites.scores.measured import FOLDER
from db1.suites.scores.standing import RULES


@dataclass(frozen=True, kw_only=True)
class TaskRow:
    """One task.

    Args:
        id: `suite/task`.
        suite: Name of its suite.
        reason: Why it does not run here; None: it does.
        expert: Name of the expert that db1 has; None: demonstrations must be imported.
        datasets: Public data sets with an expert's episodes, as `db1 import` calls them.
        references: Reference scores by name.
        agents: Published results of other agents by name.
        standing: How good the expert is known to be; None without an expert.
    """

    id: str
    suite: str
    reason: str | None
    expert: str | None
    datasets: tuple[str, ...]
    references: dict[str, Reference]
    agents: dict[str, AgentResult]
    standing: Standing | None = None

    @property
    def expert_return(self) -> float | None:
        """Mean return of db1's expert as it was measured."""
        found = self.references.get(MEASURED)
        return None if found is None else found.expert

    @property
    def describes_expert(self) -> str:
        """`tsp_elkai: -3.73 (0.97 of db1*)`, or where an expert's episodes can be had.

        `weak` marks an expert that does not reach (`db1.suites.scores.standing`).
        """
        if self.expert is None:
            return f"none offline; {self._elsewhere}"
        if self.standing is None or self.expert_return is None:
            return f"{self.expert}: not measured"
        weak = "weak: " if self.standing.rule is not None and not self.standing.reached else ""
        return f"{self.expert}: {self.expert_return:.4g} ({weak}{self.standing})"

    @property
    def _elsewhere(self) -> str:
        """Advice where db1 has no expert."""
        if self.datasets:
            return f"import from {', '.join(self.datasets)}"
        return "no public data set known; import your own (db1 import --help)"

    @property
    def describes_references(self) -> str:
        """`measured -10.5 to -3.7, db1* -50 to -6.8`; the star marks another version or rules."""
        return ", ".join(
            f"{name}{'' if found.comparable else '*'} {_number(found.random)} to "
            f"{_number(found.best)}"
            for name, found in self.references.items()
        )

    def to_dict(self) -> dict[str, Any]:
        """Entry of `db1 tasks --json`."""
        return {
            "id": self.id,
            "suite": self.suite,
            "runnable": self.reason is None,
            "reason": self.reason,
            "expert": self.expert,
            "expert_return": self.expert_return,
            "standing": None if self.standing is None else self.standing.to_dict(),
            "datasets": list(self.datasets),
            "references": {name: found.to_dict() for name, found in self.references.items()},
            "agents": {name: found.to_dict() for name, found in self.agents.items()},
            "splits": list(splits_of(self.id)),
        }


def task_row(task_id: str, folder: Path = FOLDER) -> TaskRow:
    """Returns everything known about one task.

    Args:
        task_id: `suite/task`.
        folder: Where measured scores lie.

    Raises:
        ConfigError: For an unknown task.
    """
    name, _, task = task_id.partition("/")
    suite = SUITES[name]
    expert, references = suite.expert_name(task), references_of(task_id, folder)
    return TaskRow(
        id=task_id,
        suite=name,
        reason=suite.task_missing(task),
        expert=expert,
        datasets=datasets_of(task_id),
        references=references,
        agents=results_of_agents(task_id),
        standing=standing_of(task_id, expert, references) if expert else None,
    )


def task_rows(
    suites: Iterable[str] | None = None,
    folder: Path = FOLDER,
    splits: Iterable[str] | None = None,
) -> list[TaskRow]:
    """Returns all tasks, or those of some suites or splits.

    Args:
        suites: Names; None: all suites.
        folder: Where measured scores lie.
        splits: Named splits (`db1.splits`); None: whether a task is in one does not matter.

    Raises:
        ConfigError: For an unknown suite or split.
    """
    wanted = None if splits is None else tasks_of_splits(splits)
    rows = []
    for name in list(SUITES) if suites is None else suites:
        suite = SUITES[name]
        for task in suite.task_names():
            task_id = f"{name}/{task}"
            if wanted is not None and task_id not in wanted:
                continue
            rows.append(task_row(task_id, folder))
    return rows


@dataclass(frozen=True, kw_only=True)
class TaskLine:
    """One task in brief.

    Args:
        id: `suite/task`.
        installed: Whether the suite's packages are here.
        expert: Name of the expert that db1 has; None: demonstrations must be imported.
        random: Mean return of uniformly random actions; None: nobody measured it.
        best: The best return known: of db1's expert, else a published one; None: there is none.
        source: Of `best`: `measured`, or who published it; empty without one.
    """

    id: str
    installed: bool
    expert: str | None
    random: float | None
    best: float | None
    source: str


def task_lines(
    suites: Iterable[str] | None = None, splits: Iterable[str] | None = None
) -> list[TaskLine]:
    """Returns all tasks in brief, or those of some suites or splits; imports no environment.

    Args:
        suites: Names; None: all suites.
        splits: Named splits (`db1.splits`); None: whether a task is in one does not matter.

    Raises:
        ConfigError: For an unknown suite or split.
    """
    wanted = None if splits is None else tasks_of_splits(splits)
    lines = []
    for name in list(SUITES) if suites is None else suites:
        suite = SUITES[name]
        installed = suite.packages_missing() is None
        for task in suite.task_names():
            task_id = f"{name}/{task}"
            if wanted is None or task_id in wanted:
                lines.append(_line(task_id, suite.expert_name(task), installed))
    return lines


def _line(task_id: str, expert: str | None, installed: bool) -> TaskLine:
    known = recorded_references(task_id)
    here = known.get(MEASURED)
    randoms = (found.random for found in known.values() if found.random is not None)
    bests = ((found.best, name) for name, found in known.items() if found.best is not None)
    best, source = next(bests, (None, ""))
    if here is not None and here.expert is not None:
        best, source = here.expert, MEASURED
    return TaskLine(
        id=task_id,
        installed=installed,
        expert=expert,
        random=next(randoms, None),
        best=best,
        source=source,
    )


def count_rows(rows: Sequence[TaskRow]) -> dict[str, dict[str, int]]:
    """Returns the counts by suite, and those of all under `total`.

    listed; runnable; expert (db1 has one); references (any, of whoever); random and both (measured
    here in the installed version: the random return, random and expert return); reached (experts
    that are optimal or come to 80 % of the best published reference,
    `db1.suites.scores.standing`), and by which of its rules.
    """
    counts: dict[str, dict[str, int]] = {}
    for row in rows:
        here = row.references.get(MEASURED)
        here = here if here is not None and here.comparable else None
        reached = row.standing.rule if row.standing is not None and row.standing.reached else None
        has_random = here is not None and here.random is not None
        marks = {
            "listed": True,
            "runnable": row.reason is None,
            "expert": row.expert is not None,
            "references": bool(row.references),
            "random": has_random,
            "both": has_random and here is not None and here.expert is not None,
            "reached": reached is not None,
            **{f"reached_{rule}": reached == rule for rule in RULES},
        }
        for name in (row.suite, "total"):
            group = counts.setdefault(name, dict.fromkeys(marks, 0))
            for key, mark in marks.items():
                group[key] += mark
    return {name: group for name, group in counts.items() if name != "total"} | {
        "total": counts.get("total", {})
    }


def choose_tasks(
    tasks: Sequence[str] | None,
    suites: Sequence[str] | None,
    splits: Sequence[str] | None = None,
) -> list[str]:
    """Returns the tasks named and all tasks of the suites and splits named; all there are for none.

    Raises:
        ConfigError: For an unknown task, suite or split; names near matches.
    """
    chosen = dict.fromkeys([*(tasks or ()), *tasks_of_splits(splits or ())])
    for task_id in chosen:
        suite, slash, name = task_id.partition("/")
        if not slash:
            raise ConfigError(
                f"task id {task_id!r}, expected suite/task with a suite out of {sorted(SUITES)}"
            )
        SUITES[suite].check_task(name)
    for suite in (suites or ()) if suites or chosen else sorted(SUITES):
        chosen |= dict.fromkeys(f"{suite}/{name}" for name in SUITES[suite].task_names())
    return list(chosen)


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:.4g}"
