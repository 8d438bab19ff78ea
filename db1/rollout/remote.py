"""A batch of environments of one task, spread over worker processes.

    LocalEnvironments    cheapest for light simulators; one that crashes takes everything along
    WorkerEnvironments   row r lives in worker r modulo their number; a worker that dies or hangs is
                         killed and costs its task alone

Both give the same episodes, for an episode is a function of its seed alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from db1.errors import DataError
from db1.processes.supervised import ProcessLost, SupervisedProcess
from db1.rollout.episode import EpisodeResult
from db1.rollout.server import serve_environments
from db1.suites.base import Observation, StepResult


class WorkerPool:
    """Worker processes that hold one task's environments after the other's.

    Args:
        num_workers: Processes; they are started when they are needed first.
        timeout: Seconds a worker may be silent; then it is killed.
    """

    def __init__(self, num_workers: int, timeout: float) -> None:
        self._num_workers = num_workers
        self._timeout = timeout
        self._processes: list[SupervisedProcess] = []

    def environments(self, task_id: str) -> WorkerEnvironments:
        """The environments of a task, in this pool's processes."""
        return WorkerEnvironments(task_id, self)

    def play(
        self,
        task_id: str,
        policy: dict[str, Any],
        seeds: Sequence[int],
        report: Any = None,
        max_steps: int | None = None,
    ) -> list[EpisodeResult]:
        """Runs whole episodes in the workers, for policies that need no model.

        Args:
            task_id: `suite/task`.
            policy: Arguments of `db1.rollout.policies.make_model_free_policy`.
            seeds: One an episode.
            report: Called with the number of finished episodes.
            max_steps: As in `rollout`.

        Returns:
            Episodes in the order of `seeds`.
        """
        processes = self.processes(min(self._num_workers, len(seeds)))
        shares = [list(seeds[i :: len(processes)]) for i in range(len(processes))]
        for process, share in zip(processes, shares, strict=True):
            process.send(("play", task_id, policy, share, max_steps))
        done: dict[int, EpisodeResult] = {}
        for process in processes:
            for episode in self.receive(process, task_id):
                done[episode.seed] = episode
            if report is not None:
                report(len(done))
        return [done[seed] for seed in seeds]

    def processes(self, count: int) -> list[SupervisedProcess]:
        """The first `count` processes of the pool, at most all; starts those that are missing."""
        count = min(count, self._num_workers)
        while len(self._processes) < count:
            self._processes.append(SupervisedProcess(serve_environments))
        return self._processes[:count]

    def receive(self, process: SupervisedProcess, task_id: str) -> Any:
        """The answer of one process; errors name the task."""
        try:
            return process.receive(self._timeout)
        except ProcessLost as error:
            raise ProcessLost(f"{task_id}: its environment was lost: {error}") from error

    def stop(self) -> None:
        """Kills all processes; the next task gets fresh ones."""
        for process in self._processes:
            process.kill()
        self._processes.clear()


class WorkerEnvironments:
    """See the module's docstring.

    Args:
        task_id: `suite/task`.
        pool: Of the processes.
    """

    def __init__(self, task_id: str, pool: WorkerPool) -> None:
        self._task_id = task_id
        self._pool = pool
        self._workers: list[SupervisedProcess] = []
        self._failed = False

    def reset(self, seeds: Sequence[int]) -> list[Observation]:
        """See `EnvironmentBatch`."""
        if not self._workers:
            self._workers = self._pool.processes(len(seeds))
        return self._scatter("reset", range(len(seeds)), seeds)

    def step(self, rows: Sequence[int], actions: Sequence[Any]) -> list[StepResult]:
        """See `EnvironmentBatch`."""
        return self._scatter("step", rows, actions)

    def close(self) -> None:
        """See `EnvironmentBatch`; after a failure it is for the pool to stop its processes."""
        workers, self._workers = self._workers, []
        if self._failed:
            return
        for worker in workers:
            worker.send(("close",))
        for worker in workers:
            self._pool.receive(worker, self._task_id)

    def _scatter(self, command: str, rows: Sequence[int], values: Sequence[Any]) -> list[Any]:
        """Sends each worker its rows' values; gathers the answers in the order of `rows`."""
        shares: dict[int, list[tuple[int, Any]]] = {}
        for row, value in zip(rows, values, strict=True):
            shares.setdefault(int(row) % len(self._workers), []).append((int(row), value))
        for number, share in shares.items():
            self._workers[number].send((command, self._task_id, share))
        answers: dict[int, Any] = {}
        failures: list[DataError] = []
        for number in shares:
            try:
                answers |= self._pool.receive(self._workers[number], self._task_id)
            except DataError as error:
                failures.append(error)
        if failures:
            self._failed = True
            raise failures[0]
        return [answers[int(row)] for row in rows]
