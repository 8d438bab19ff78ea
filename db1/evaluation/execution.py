"""Inputs of an evaluation besides its settings: tasks, data, and resources of the machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from db1.options import option
from db1.ranges import Checked, Count, Positive, Range
from db1.runtime import usable_cores
from db1.splits import SPLITS, tasks_of_splits

_MACHINE, _REFERENCE = "Data and machine", "Reference returns"
Processes = Annotated[int, Range(least=1, most=4_096)]


@dataclass(frozen=True, kw_only=True)
class TaskSelection:
    """Selection of the tasks that are evaluated or shown.

    Args:
        tasks: Task ids; None: those that the run learned.
        suites: Keep only tasks of these suites.
        splits: Names of splits whose tasks are added to `tasks`.
    """

    tasks: list[str] | None = option(None, "Only these tasks (repeatable).", name="task")
    suites: list[str] | None = option(None, "Only these suites.", name="suite")
    splits: list[str] | None = option(
        None, f"The tasks of a named split (repeatable): {', '.join(SPLITS)}.", name="split"
    )

    def named(self) -> Sequence[str] | None:
        """The tasks that are named one by one or by a split; None: none is."""
        if not self.splits:
            return self.tasks
        return [*(self.tasks or ()), *tasks_of_splits(self.splits)]


@dataclass(frozen=True, kw_only=True)
class EvaluationData:
    """Folders of demonstrations and references, and what may be missing.

    Args:
        data: Folder of the demonstration stores; None: the run's `data.root`.
        scores: Folder of `db1 tasks measure`; looked into before the scores that come with db1.
        allow_version_mismatch: Accept references measured on another environment version, and
            record the difference.
        allow_missing_reference: Report raw returns of tasks without references, and record why.
        allow_missing_prompt: Play tasks without demonstrations without a prompt, and record it.
    """

    data: Path | None = option(
        None, "Folder of demonstrations and references; default: the run's.", panel=_MACHINE
    )
    scores: Path | None = option(
        None, "Folder of scores that `db1 tasks measure` wrote.", panel=_REFERENCE
    )
    allow_version_mismatch: bool = option(
        False,
        "Accept references of another environment version.",
        panel=_REFERENCE,
        two_way=True,
    )
    allow_missing_reference: bool = option(
        False, "Report raw returns of tasks without a reference.", panel=_REFERENCE, two_way=True
    )
    allow_missing_prompt: bool = option(
        False,
        "Play tasks without demonstrations without a prompt.",
        panel=_REFERENCE,
        two_way=True,
    )


@dataclass(frozen=True, kw_only=True)
class ExecutionConfig(Checked):
    """Resources of this machine that an evaluation may use; no result depends on them.

    Args:
        num_environments: Most episodes of a task at once.
        workers: Processes that hold environments; 0: they run in this one, unprotected; None: one
            a core.
        timeout: Seconds after which a silent worker is killed.
        lanes: Tasks played at once; None: two where there are workers for both.
        threads: torch threads of each lane; None: as they are.
        device: torch device; None: CUDA where there is one.
    """

    num_environments: Count = option(64, "Most episodes of a task at once.", panel=_MACHINE)
    workers: Annotated[int, Range(least=0, most=4_096)] | None = option(
        None,
        "Worker processes for environments; 0: this process, unprotected; default: one per core.",
        panel=_MACHINE,
    )
    lanes: Processes | None = option(
        None, "Tasks at once; default: two where there are two workers.", panel=_MACHINE
    )
    timeout: Positive = option(
        300.0,
        "Seconds a worker may be silent before it is killed and its task tried again.",
        panel=_MACHINE,
    )
    threads: Processes | None = option(
        None, "torch threads of each task that is played at once.", panel=_MACHINE
    )
    device: str | None = option(None, "cpu, cuda, cuda:1; default: a GPU.", panel=_MACHINE)

    @property
    def num_lanes(self) -> int:
        """Tasks played at once."""
        if self.lanes is not None:
            return self.lanes
        return 2 if (self.workers or 0) > 1 else 1

    def shared(self, num_processes: int) -> ExecutionConfig:
        """Share of one of `num_processes` processes on this machine, with everything filled in."""
        share = max(1, usable_cores() // num_processes)
        filled = replace(self, workers=share if self.workers is None else self.workers)
        return replace(filled, threads=self.threads or max(1, share // filled.num_lanes))


IN_THIS_PROCESS = ExecutionConfig(workers=0)
"""Environments run in this process, one task at a time."""

EVERY_TASK = TaskSelection()
"""The tasks that the run learned."""

DATA_OF_THE_RUN = EvaluationData()
"""The run's own data folder; nothing may be missing."""
