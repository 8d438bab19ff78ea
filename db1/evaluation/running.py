"""Plays the tasks of an evaluation: several at once, each on its own share of the workers.

    lane 1   claim a task | model, environments, model, ... | write it | claim the next one
    lane 2   the same with other workers: while they step, the model acts for lane 1

A task whose environment's process dies or hangs is tried once more with fresh processes, then it is
a failure; so is a task that raises, at once.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from db1.errors import Db1Error
from db1.evaluation.execution import ExecutionConfig
from db1.evaluation.queue import TaskQueue
from db1.processes.supervised import ProcessLost
from db1.rollout.remote import WorkerPool

logger = logging.getLogger(__name__)

TRIES = 2
POLL = 0.2
"""Seconds between two looks at what lanes and other processes have finished."""

PATIENCE = 10.0
"""Seconds that lanes have to end when an evaluation is interrupted."""

Play = Callable[[str, WorkerPool | None], dict[str, Any]]
"""Task id and the workers to use -> the task's entry of results.json."""


def play_tasks(
    tasks: Sequence[str],
    queue: TaskQueue,
    play: Play,
    execution: ExecutionConfig,
    collect: Callable[[], None],
    *,
    alone: bool = True,
    waits: bool = True,
) -> None:
    """Plays tasks until all are finished.

    Args:
        tasks: Task ids, in this order.
        queue: Where they are claimed and finished; other processes may take their share.
        play: Plays one task.
        execution: What may be used.
        collect: Called in this thread every now and then, and at last when all tasks are finished.
        alone: No other process takes part.
        waits: Wait for tasks that other processes have, and take those of processes that died.
    """
    stop = threading.Event()
    lanes = [TaskRunner(queue, play, execution, stop) for _ in range(execution.num_lanes)]
    try:
        if len(lanes) == 1 and alone:
            lanes[0].run(tasks, collect)
        else:
            _run_threads(lanes, tasks, collect)
        while waits and (missing := [t for t in tasks if not queue.is_finished(t)]):
            lanes[0].run(missing, collect)
            time.sleep(POLL)
            collect()
    finally:
        stop.set()
        for lane in lanes:
            lane.close()
    collect()


def _run_threads(
    lanes: Sequence[TaskRunner], tasks: Sequence[str], collect: Callable[[], None]
) -> None:
    """One thread a lane; errors of db1 itself end all of them."""
    errors: list[BaseException] = []

    def work(lane: TaskRunner) -> None:
        try:
            lane.run(tasks, lambda: None)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(lane,), daemon=True) for lane in lanes]
    try:
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads) and not errors:
            time.sleep(POLL)
            collect()
        if errors:
            lanes[0].stop.set()
    except BaseException:  # Ctrl-C: a thread that still computes would abort a closing interpreter
        lanes[0].stop.set()
        for lane in lanes:
            lane.close()
        end = time.monotonic() + PATIENCE
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))
        raise
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


class TaskRunner:
    """Takes one task after the other."""

    def __init__(
        self, queue: TaskQueue, play: Play, execution: ExecutionConfig, stop: threading.Event
    ) -> None:
        self.stop = stop
        self._queue = queue
        self._play = play
        self._threads = execution.threads
        workers = execution.workers or 0
        share = workers // execution.num_lanes
        self._pool = WorkerPool(max(1, share), execution.timeout) if workers else None

    def run(self, tasks: Sequence[str], finished: Callable[[], None]) -> None:
        """Plays what is neither finished nor claimed by another."""
        if self._threads is not None:
            import torch

            torch.set_num_threads(self._threads)
        for task in tasks:
            if self.stop.is_set():
                break
            if self._queue.is_finished(task):
                continue
            part = None
            with self._queue.claim(task) as mine:
                for number in range(TRIES if mine else 0):
                    try:
                        part = {"entry": self._play(task, self._pool)}
                    except Exception as error:  # one broken environment must not cost the others
                        part = self._failure(task, error, number)
                    if part is not None or self.stop.is_set():
                        break
                if part is not None:
                    self._queue.finish(task, part)
            if part is not None:
                finished()
        self.close()

    def close(self) -> None:
        """Ends the workers."""
        if self._pool is not None:
            self._pool.stop()

    def _failure(self, task: str, error: Exception, number: int) -> dict[str, Any] | None:
        """Outcome of a failed try `number`; None when it is tried again, or all is stopped."""
        if self.stop.is_set():
            return None
        self.close()
        why = _reason(error)
        logger.debug("traceback of %s", task, exc_info=True)
        if isinstance(error, ProcessLost):
            if number + 1 < TRIES:
                logger.warning("%s; trying again", why)
                return None
            why = f"{why}, {TRIES} times; play it alone to see why"
        logger.error("%s failed: %s", task, why)
        return {"failure": why}


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, Db1Error) else f"{type(error).__name__}: {error}"
