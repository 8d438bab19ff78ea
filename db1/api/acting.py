"""A model as an agent of one environment: observations in, actions out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from db1.errors import DataError
from db1.suites import TaskEnv, parse_task_id
from db1.suites.spaces import StepAdapter
from db1.tokens.spec import Episode, StepSpec

if TYPE_CHECKING:
    import gymnasium

    from db1.inference.agent import Agent as BatchAgent
    from db1.inference.load import LoadedRun
    from db1.store.episodes import EpisodeStore

NUM_PROMPTS = 16
"""Best episodes of a store that prompts are taken from in turn."""


class Translator(Protocol):
    """Translation between an environment's own spaces and the fields of a step, both ways."""

    spec: StepSpec

    def read(self, observation: Any) -> Mapping[str, Any]:
        """The observation by key."""

    def to_native(self, action: Any) -> Any:
        """The action that the environment takes."""


@dataclass(frozen=True)
class SameStep:
    """Translates nothing: for environments of db1."""

    spec: StepSpec

    def read(self, observation: Any) -> Mapping[str, Any]:
        """Checks the keys, so that another task's observation is one clear error."""
        if not isinstance(observation, Mapping) or set(observation) != set(self.spec.observation):
            got = sorted(observation) if isinstance(observation, Mapping) else type(observation)
            raise DataError(
                f"act: got an observation of {got}, expected a dict with the keys "
                f"{sorted(self.spec.observation)}"
            )
        for key, field in self.spec.observation.items():
            field.check(observation[key], f"act: observation {key!r}")
        return observation

    def to_native(self, action: Any) -> Any:
        """The action as it is; a single choice as an int."""
        return int(action) if np.shape(action) == () else action


class Agent:
    """Acts in one environment, or in a batch of environments of one task.

    An episode starts with the first `act` or with `reset`; the memory of what was seen and done
    lasts until the next `reset`.

    Args:
        agent: The model with its memory; one row an episode.
        translator: Of the environment.
        is_batch: `act` takes a list, one observation a row.

    Attributes:
        probabilities: After `act`, how likely each value of each number of the action was, float32
            (num_action_tokens, num_values); of a batch (B, num_action_tokens, num_values).
    """

    def __init__(self, agent: BatchAgent, translator: Translator, is_batch: bool) -> None:
        self._agent = agent
        self._translator = translator
        self._is_batch = is_batch
        self.probabilities: np.ndarray | None = None

    @property
    def spec(self) -> StepSpec:
        """Fields of one step."""
        return self._translator.spec

    def reset(
        self, rows: Sequence[int] | None = None, seed: int | Sequence[int] | None = None
    ) -> None:
        """Starts new episodes.

        Args:
            rows: Of a batch: those that start; None: all.
            seed: Of sampling, one for each row that starts; an int for a single one.
        """
        chosen = range(self._agent.batch_size) if rows is None else sorted(rows)
        seeds = [seed] if isinstance(seed, int) else seed
        mask = np.zeros(self._agent.batch_size, dtype=bool)
        mask[list(chosen)] = True
        self._agent.reset(mask, seeds=seeds)

    def act(self, observation: Any, rows: Sequence[int] | None = None) -> Any:
        """Chooses an action.

        Args:
            observation: As the environment gives it; of a batch a list of them.
            rows: Of a batch: the rows that the list is of, ascending; those left out are dropped
                until `reset` starts them again. None: all that run.

        Returns:
            The action as the environment takes it; of a batch a list of them.

        Raises:
            DataError: For an observation that is not of the environment.
        """
        if not self._is_batch:
            return self._act([observation], None)[0]
        return self._act(observation, None if rows is None else np.asarray(rows))

    def _act(self, observations: Sequence[Any], rows: np.ndarray | None) -> list[Any]:
        if not len(self._agent.rows):
            self.reset()
        read = [self._translator.read(observation) for observation in observations]
        actions = self._agent.act(read, rows)
        last = self._agent.last_probabilities
        self.probabilities = last if self._is_batch or last is None else last[0]
        return [self._translator.to_native(action) for action in actions]


def make_agent(
    loaded: LoadedRun,
    env: gymnasium.Env | str,
    *,
    instruction: str | None = None,
    prompts: Sequence[Episode] | EpisodeStore | Path | str | None = None,
    batch_size: int | None = None,
    memory: int | None = None,
    greedy: bool = True,
    temperature: float = 1.0,
    seed: int = 0,
) -> Agent:
    """The agent of `db1.Model.agent`; its arguments are described there."""
    from db1.evaluation.task import make_codec, spoken
    from db1.inference.agent import Agent as BatchAgent

    task_id, translator = translator_of(env)
    codec = make_codec(task_id, translator.spec, loaded)
    agent = BatchAgent(
        loaded.model,
        codec,
        memory_length=loaded.context_length if memory is None else memory,
        batch_size=1 if batch_size is None else batch_size,
        prompts=read_prompts(prompts, translator.spec),
        greedy=greedy,
        temperature=temperature,
        seed=seed,
        keep_probabilities=True,
        **spoken(task_id, instruction, loaded),
    )
    return Agent(agent, translator, batch_size is not None)


def translator_of(env: gymnasium.Env | str) -> tuple[str, Translator]:
    """The name of an environment, for messages, and how its steps are read.

    Args:
        env: A task id, an environment of db1 (also wrapped), or any environment of Gymnasium.
    """
    if isinstance(env, str):
        suite, name = parse_task_id(env)
        return env, SameStep(suite.step_spec(name))
    inner = env.unwrapped
    if isinstance(inner, TaskEnv):
        return inner.task_id, SameStep(inner.step_spec)
    name = type(inner).__name__ if inner.spec is None else str(inner.spec.id)
    return name, StepAdapter(env.observation_space, env.action_space, name)


def read_prompts(
    prompts: Sequence[Episode] | EpisodeStore | Path | str | None, spec: StepSpec
) -> list[Episode]:
    """The episodes that prime a memory: those given, or the best ones of a store.

    Raises:
        DataError: For episodes of another step.
    """
    from db1.store.episodes import EpisodeStore

    if prompts is None:
        return []
    if isinstance(prompts, str | Path):
        prompts = EpisodeStore(prompts)
    if isinstance(prompts, EpisodeStore):
        if prompts.spec != spec:
            raise DataError(f"{prompts.path}: demonstrations of another step than the environment")
        best = np.argsort(-prompts.returns, kind="stable")[:NUM_PROMPTS]
        return [prompts.read(int(number)) for number in best]
    episodes = list(prompts)
    for number, episode in enumerate(episodes):
        episode.check(spec, f"prompt {number}")
    return episodes
