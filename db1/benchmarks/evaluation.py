"""Evaluating many tasks: db1's lockstep against one episode after the other.

    db1             all episodes of a task in one batch, keys and values cached, only the ids that
                    an action may take scored, environments in workers, two tasks at once
    recomputed      one episode at a time without any memory: each pass runs all tokens again that
                    the next one can depend on
    hidden states   one episode at a time as released: the memory holds the layers' inputs, and each
                    pass projects all of them to keys, values and position vectors again

The two naive ways also score all ids at all places and give the last action id a pass of its own,
as the released code does. All have the same weights, prompts and seeds and take the best action, so
that they must come to the same returns; in float64 no rounding decides between actions.

Shapes: L layers, B batch rows (1), M memory tokens, T new tokens, D width.
"""

from __future__ import annotations

import json
import resource
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from db1.benchmarks.timing import OURS, Comparison, Timing
from db1.errors import ConfigError, Db1Error, check_one_of
from db1.evaluation.evaluate import evaluate
from db1.evaluation.execution import EvaluationData, ExecutionConfig, TaskSelection
from db1.evaluation.settings import EvaluationConfig
from db1.evaluation.task import make_prompted_agent
from db1.inference.agent import Agent
from db1.inference.load import load_agent_parts
from db1.inference.state import DecodingState, left_pad
from db1.model.transformer_xl import TransformerXL
from db1.options import option
from db1.ranges import Checked, Count, Natural
from db1.rollout.loop import rollout
from db1.rollout.policies import ModelPolicy
from db1.runtime import usable_cores
from db1.sequence.segment import TokenSegment, concatenate, cut
from db1.sequence.step import StepCodec
from db1.tokens.vocabulary import nth_ids

RECOMPUTED, HIDDEN_STATES = NAIVE = ("recomputed", "hidden states")

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class EvaluationBenchmark(Checked):
    """Settings of the measurement.

    Args:
        run: The model folder.
        data: Folder of the demonstrations; None: the run's.
        tasks: Task ids; None: those that the run learned.
        suites: Keep only tasks of these suites.
        episodes: Episodes of each task.
        max_steps: As in `EvaluationConfig`.
        memory_length: As in `EvaluationConfig`.
        precision: As in `EvaluationConfig`.
        against: Naive ways to evaluate.
        workers: Processes for environments of db1's evaluation.
        lanes: Tasks that it plays at once; None: as `ExecutionConfig` has it.
        threads: torch threads of the naive evaluation; None: one a core.
        keep: Keep db1's results in this folder, for `db1 report`.
    """

    run: Path
    data: Path | None = option(None, "Folder of demonstrations.")
    tasks: list[str] | None = option(None, "Only these tasks (repeatable).", name="task")
    suites: list[str] | None = option(None, "Only these suites.", name="suite")
    episodes: Count = option(10, "Episodes per task.")
    max_steps: Count | None = option(None, "Cut every episode off after this many steps.")
    memory_length: Count | None = option(
        None, "Tokens of memory; default: as trained.", name="memory"
    )
    precision: str = option(
        "float64", "float64 gives equal returns; float32 is what evaluations use."
    )
    against: tuple[str, ...] = option(
        (RECOMPUTED,), "recomputed (default) or 'hidden states' (repeatable)."
    )
    workers: Natural = option(2, "Worker processes for environments.")
    lanes: Count | None = option(None, "Tasks at once.")
    threads: Count | None = option(
        None, "torch threads of the naive evaluation; default: one per core."
    )
    keep: Path | None = option(None, "Folder in which to keep db1's results.", name="out")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.against:
            check_one_of("against", name, NAIVE)

    @property
    def config(self) -> EvaluationConfig:
        """Settings of both evaluations."""
        return EvaluationConfig(
            episodes=self.episodes,
            max_steps=self.max_steps,
            memory_length=self.memory_length,
            precision=self.precision,
            text=False,
        )


@dataclass(frozen=True, kw_only=True)
class _Spent:
    """Seconds on the clock, and of all processes' work."""

    wall: float
    work: float


def run(benchmark: EvaluationBenchmark, progress: Progress | None = None) -> Comparison:
    """Evaluates twice, and compares the returns.

    Args:
        benchmark: What is measured.
        progress: Called with (task, finished episodes, all episodes).

    Raises:
        Db1Error: When a task could not be played, or an option cannot be used.
    """
    with tempfile.TemporaryDirectory() as scratch:
        out = benchmark.keep or Path(scratch) / "lockstep"
        results, ours = _timed(lambda: _lockstep(benchmark, out, progress))
    if results["failures"]:
        raise Db1Error(f"bench eval: tasks failed: {json.dumps(results['failures'])}")
    spent, returns = {OURS: ours}, {}
    for name in benchmark.against:
        play = partial(_one_at_a_time, benchmark, results, name, progress)
        returns[name], spent[name] = _timed(play)
    return _comparison(benchmark, results["tasks"], spent, returns)


def _comparison(
    benchmark: EvaluationBenchmark,
    entries: Mapping[str, Any],
    spent: Mapping[str, _Spent],
    returns: Mapping[str, Mapping[str, list[float]]],
) -> Comparison:
    num_episodes = sum(entry["episodes"] for entry in entries.values())
    notes: dict[str, Any] = {
        "tasks": len(entries),
        "episodes": num_episodes,
        "steps": sum(sum(entry["lengths"]) for entry in entries.values()),
    }
    for name, seconds in spent.items():
        notes[f"{name}: seconds"] = seconds.wall
        notes[f"{name}: processor seconds"] = seconds.work
    for name, found in returns.items():
        other = [task for task in entries if entries[task]["returns"] != found[task]]
        notes[f"{name}: db1 is faster by processor time"] = spent[name].work / spent[OURS].work
        notes[f"{name}: tasks with equal returns"] = len(entries) - len(other)
        notes[f"{name}: tasks with other returns"] = ", ".join(other) or "none"
    num_suites = len({task.split("/")[0] for task in entries})
    limit = "" if benchmark.max_steps is None else f" of {benchmark.max_steps} steps at most"
    return Comparison(
        work=f"evaluation: {len(entries)} tasks of {num_suites} suites, "
        f"{benchmark.episodes} episodes each{limit}, {benchmark.precision}",
        unit="episode",
        timings=tuple(
            Timing(name=name, seconds_per_unit=(seconds.wall / num_episodes,))
            for name, seconds in spent.items()
        ),
        notes=notes,
    )


def _lockstep(
    benchmark: EvaluationBenchmark, out: Path, progress: Progress | None
) -> dict[str, Any]:
    return evaluate(
        benchmark.run,
        benchmark.config,
        out=out,
        selection=TaskSelection(tasks=benchmark.tasks, suites=benchmark.suites),
        data=EvaluationData(data=benchmark.data, allow_missing_reference=True),
        execution=ExecutionConfig(
            workers=benchmark.workers,
            lanes=benchmark.lanes,
            threads=1,
            num_environments=benchmark.episodes,
        ),
        overwrite=True,
        progress=progress,
    )


def _one_at_a_time(
    benchmark: EvaluationBenchmark,
    results: Mapping[str, Any],
    name: str,
    progress: Progress | None,
) -> dict[str, list[float]]:
    """Returns by task, of the same seeds and prompts."""
    torch.set_num_threads(benchmark.threads or usable_cores())
    loaded = load_agent_parts(benchmark.run)
    loaded.model.to(getattr(torch, benchmark.precision))
    memory_length = results["settings"]["memory_length"]
    config = replace(benchmark.config, memory_length=memory_length)
    root = Path(benchmark.data or loaded.config["data"]["root"])
    found = {}
    for task in results["tasks"]:
        agent, _ = make_prompted_agent(task, config, root / task, loaded, 1, kind=_AGENTS[name])
        report = None if progress is None else _named(progress, f"{task}, {name}")
        options = {"num_environments": 1, "max_steps": benchmark.max_steps}
        episodes = rollout(task, ModelPolicy(agent), config.seeds, report, **options)
        found[task] = [float(episode.total_reward) for episode in episodes]
    return found


def _named(progress: Progress, name: str) -> Callable[[int, int], None]:
    return lambda done, total: progress(name, done, total)


def _timed(work: Callable[[], Any]) -> tuple[Any, _Spent]:
    started, before = time.perf_counter(), _processor_seconds()
    result = work()
    wall = time.perf_counter() - started
    return result, _Spent(wall=wall, work=_processor_seconds() - before)


def _processor_seconds() -> float:
    """Of this process and of its children that ended."""
    usages = (resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


@dataclass(frozen=True)
class Past:
    """Knowledge of one row's tokens; has what `Agent` asks of a memory.

    Args:
        inputs: Of every layer at the last tokens, (L, 1, M, D); None: an episode's start.
        tokens: The last tokens themselves.
    """

    inputs: Tensor | None = None
    tokens: TokenSegment | None = None

    def truncated(self, length: int) -> Past:
        """The past whose layers' inputs are cut to `length` tokens."""
        if self.inputs is None or self.inputs.shape[2] <= length:
            return self
        return replace(self, inputs=self.inputs[:, :, self.inputs.shape[2] - length :])


@dataclass(frozen=True, kw_only=True)
class NaiveState(DecodingState):
    """One row as the released code runs it: every pass scores all ids at all places.

    Args:
        capacity: Tokens that it remembers at most.
        all_scores: Of all ids at the last token, (1, V).
    """

    capacity: int
    all_scores: Tensor | None = None

    def logits(self) -> Tensor:
        """See `DecodingState.logits`."""
        return self.all_scores[:, self.ids.start : self.ids.stop]

    def grown(self, index_B: Tensor) -> DecodingState:
        """See `DecodingState.grown`."""
        ids = nth_ids(self.ids, index_B.cpu().numpy()).astype(np.int32)
        return self.read([TokenSegment(ids=ids, local_positions=np.zeros_like(ids))])

    def _pass(
        self, tokens: TokenSegment, inputs: Tensor | None, keep: int
    ) -> tuple[Tensor, Tensor]:
        """Scores of all ids at the last token, (1, V), and the layers' inputs."""
        batch = left_pad([tokens], self.hidden_BD.device)
        hidden_BTD, grown_LBMD = self.model.recur(
            batch.ids, batch.local_positions, batch.images, inputs, keep
        )
        return self.model.logits(hidden_BTD)[:, -1], grown_LBMD


class HiddenState(NaiveState):
    """Remembers the layers' inputs."""

    def read(self, segments: Sequence[TokenSegment]) -> DecodingState:
        """See `DecodingState.read`."""
        scores, inputs = self._pass(segments[0], self.memory.inputs, self.capacity)
        return replace(self, memory=Past(inputs=inputs), all_scores=scores)


class RecomputedState(NaiveState):
    """Remembers tokens only: as many as can reach the next one through all layers.

    That is equal only where what a token sees does not depend on the borders of steps.
    """

    def read(self, segments: Sequence[TokenSegment]) -> DecodingState:
        """See `DecodingState.read`."""
        (new,) = segments
        past = self.memory.tokens
        whole = new if past is None else concatenate([past, new])
        config = self.model.config
        start = len(whole) - len(new) - config.num_layers * config.memory_length
        tokens = cut(whole, max(0, start), len(whole))
        scores, _ = self._pass(tokens, None, 0)
        return replace(self, memory=Past(tokens=tokens), all_scores=scores)


class NaiveAgent(Agent):
    """One episode at a time, as the released code plays it; subclasses name the state.

    Source: released DB1 model, `evaluate_rl.py`.
    """

    state: type[NaiveState]

    def act(
        self, observations: Sequence[Mapping[str, Any]], rows: np.ndarray | None = None
    ) -> list[Any]:
        """See `Agent.act`, with rows int64 (N,); then tells the model its last action id."""
        actions = super().act(observations, rows)
        with torch.inference_mode():
            for pending in self._pending.values():
                self._state = self._state.read([pending])
        self._pending.clear()
        return actions

    def _start(self, num_rows: int) -> DecodingState:
        start = super()._start(num_rows)
        return self.state(
            model=start.model,
            ids=start.ids,
            memory=Past(),
            hidden_BD=start.hidden_BD,
            local_position=start.local_position,
            capacity=self._capacity,
        )


class HiddenStateAgent(NaiveAgent):
    """See `HiddenState`."""

    state = HiddenState


class RecomputingAgent(NaiveAgent):
    """See `RecomputedState`.

    Raises:
        ConfigError: For a model without `same_length`, or a memory that is not its own.
    """

    state = RecomputedState

    def __init__(self, model: TransformerXL, codec: StepCodec, **options: Any) -> None:
        super().__init__(model, codec, **options)
        config = model.config
        if not config.same_length or self.memory_length != config.memory_length:
            raise ConfigError(
                "bench eval against recomputed: expected a model with same_length: true and its "
                f"own memory of {config.memory_length}, got same_length: {config.same_length} and "
                f"a memory of {self.memory_length}; measure against hidden states"
            )


_AGENTS = {RECOMPUTED: RecomputingAgent, HIDDEN_STATES: HiddenStateAgent}
