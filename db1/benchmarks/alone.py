"""Processes that each act alone with a model of their own, as many as there is memory for.

1. One process starts, loads the model and plays a session; its memory is what one costs.
2. As many as fit into the free memory start, and do the same.
3. All wait at a line, are let go at once, and act until each has played its sessions.
4. All tell their memory while all are still there.
"""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from db1.benchmarks.memory import ProcessMemory, process_memory
from db1.errors import Db1Error
from db1.runtime import free_memory

KEPT_FREE_MB = 1_024
"""Memory that is left to the rest of the machine."""
_MARGIN = 1.2
"""A process may take this much more than the first one did."""


@dataclass(frozen=True, kw_only=True)
class AloneWork:
    """Work of the processes together.

    Args:
        run: The model folder.
        task: Task id.
        sessions: To be played by all of them; at least one each.
        observations: Of a session's steps, one by one.
    """

    run: Path
    task: str
    sessions: int
    observations: Sequence[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class AloneFigures:
    """Figures of the processes.

    Args:
        processes: How many there were.
        why: Of how many that were asked for, and what limited them.
        acts: Of all together.
        acts_per_second: Of all together, from the start of the first to the end of the last one.
        slowest, median, fastest: Acts a second of one process.
        cpu_ms: Processor time of an act.
        memory: Of each process, while all were there; None where the system does not tell.
    """

    processes: int
    why: str
    acts: int
    acts_per_second: float
    slowest: float
    median: float
    fastest: float
    cpu_ms: float
    memory: tuple[ProcessMemory, ...] | None


class _Acted(NamedTuple):
    """Acts of one process, when they began and ended (the machine's clock), and CPU seconds."""

    acts: int
    started: float
    ended: float
    cpu: float


class _Worker:
    """One process and the line to it."""

    def __init__(self, work: AloneWork, number: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._line, theirs = context.Pipe()
        self._name = f"process {number + 1} that acts alone"
        self._process = context.Process(target=_act_alone, args=(work, theirs), daemon=True)
        self._process.start()
        theirs.close()

    def ask(self, request: Any) -> None:
        """Sends a request; its answer is awaited by `answer`."""
        with suppress(BrokenPipeError):  # it has ended, as `answer` will say
            self._line.send(request)

    def answer(self) -> Any:
        """Waits for an answer.

        Raises:
            Db1Error: The process has ended.
        """
        try:
            found = self._line.recv()
        except (EOFError, ConnectionResetError):
            self._process.join()
            raise Db1Error(
                f"{self._name} ended with status {self._process.exitcode}; where the system killed "
                "it for its memory, ask for fewer with --processes"
            ) from None
        if isinstance(found, Db1Error):
            raise found
        return found

    def dismiss(self) -> None:
        """Tells the process that nothing more is asked."""
        self._line.close()

    def end(self) -> None:
        """Waits for the end of a dismissed process; one that does not listen is ended."""
        self._process.join(10)
        if self._process.is_alive():
            self._process.terminate()
            self._process.join()


def time_alone(
    work: AloneWork, asked: int, tell: Callable[[str], None], free: Callable[[], int] = free_memory
) -> AloneFigures:
    """Starts the processes, lets all act at once, and ends them.

    Args:
        work: What they do.
        asked: How many there shall be.
        tell: Called with sentences about how it goes.
        free: Bytes of memory that programs can still have.

    Raises:
        Db1Error: One of them fails.
    """
    with _workers() as workers:
        _start(workers, work, 1)
        why = f"{asked} of {asked} processes"
        while len(workers) < asked:
            need = _need(workers[-1])
            room = fitting(asked - len(workers), need, free() / (1 << 20))
            if room == 0:
                why = (
                    f"{len(workers)} of {asked} processes: another one takes up to {need:,.0f} MB, "
                    f"{free() >> 20:,} MB are free, and {KEPT_FREE_MB:,} of them are left alone"
                )
                break
            tell(f"{len(workers)} of {asked} processes are ready; starting {room} more")
            _start(workers, work, room)
        tell(why)
        acted = _let_go(workers, work)
        memory = [_memory(worker) for worker in workers]
    rates = [each.acts / (each.ended - each.started) for each in acted]
    acts = sum(each.acts for each in acted)
    seconds = max(each.ended for each in acted) - min(each.started for each in acted)
    return AloneFigures(
        processes=len(workers),
        why=why,
        acts=acts,
        acts_per_second=acts / seconds,
        slowest=min(rates),
        median=statistics.median(rates),
        fastest=max(rates),
        cpu_ms=1_000 * sum(each.cpu for each in acted) / acts,
        memory=None if None in memory else tuple(found for found in memory if found is not None),
    )


def fitting(wanted: int, need: float | None, free: float) -> int:
    """Number of processes to start next.

    Args:
        wanted: How many are still asked for.
        need: Megabytes that one takes at most; None: unknown.
        free: Megabytes that there are.

    Example: 8 wanted that take 300 MB each, and 2,300 MB are free, of which 1,024 stay so: 4.
    """
    return wanted if not need else max(0, min(wanted, int((free - KEPT_FREE_MB) / need)))


@contextmanager
def _workers() -> Iterator[list[_Worker]]:
    """A list whose processes are ended with it."""
    workers: list[_Worker] = []
    try:
        yield workers
    finally:
        for worker in workers:
            worker.dismiss()
        for worker in workers:
            worker.end()


def _start(workers: list[_Worker], work: AloneWork, count: int) -> None:
    """Starts more processes and waits until they stand at the line."""
    first = len(workers)
    for number in range(first, first + count):
        workers.append(_Worker(work, number))
    for worker in workers[first:]:
        worker.answer()


def _need(worker: _Worker) -> float | None:
    """Megabytes that another process takes: its own pages, and what loading took for a while."""
    memory = _memory(worker)
    return None if memory is None else _MARGIN * (memory.own + memory.peak - memory.resident)


def _memory(worker: _Worker) -> ProcessMemory | None:
    worker.ask(None)
    return worker.answer()


def _let_go(workers: Sequence[_Worker], work: AloneWork) -> list[_Acted]:
    """Shares the sessions out, and waits until all are played."""
    whole, rest = divmod(work.sessions, len(workers))
    for number, worker in enumerate(workers):
        worker.ask(max(1, whole + (number < rest)))
    return [worker.answer() for worker in workers]


def _act_alone(work: AloneWork, line: Connection) -> None:
    """Runs in a process: acts in one session after the other, as fast as it can.

    Its line carries numbers of sessions to play, answered by `_Acted`, and None, answered by the
    memory of the process.
    """
    import torch

    from db1.api.acting import make_agent
    from db1.inference.load import load_agent_parts

    torch.set_num_threads(1)
    try:
        agent = make_agent(load_agent_parts(work.run, device="cpu"), work.task)
        play(agent, work.observations, 1)
        line.send("ready")
        while True:
            request = line.recv()
            if request is None:
                line.send(process_memory())
            else:
                line.send(play(agent, work.observations, request))
    except EOFError:  # nobody asks any more
        return
    except Db1Error as error:
        line.send(error)


def play(agent: Any, observations: Sequence[dict[str, Any]], sessions: int) -> _Acted:
    """Plays whole sessions."""
    started, cpu = time.monotonic(), time.process_time()
    for _ in range(sessions):
        agent.reset()
        for observation in observations:
            agent.act(observation)
    acts = sessions * len(observations)
    return _Acted(acts, started, time.monotonic(), time.process_time() - cpu)
