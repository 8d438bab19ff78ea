"""Episodes of an agent, and what went in and out of its model meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from db1.inference.agent import Agent
from db1.inference.state import left_pad
from db1.model.transformer_xl import TransformerXL
from db1.sequence.segment import TokenSegment
from db1.sequence.step import StepCodec, stack_observations
from db1.suites import make_env
from db1.tokens.number_patch import NumberPatches
from db1.tokens.spec import Episode

TASKS = ["classic_control/CartPole-v1", "classic_control/Pendulum-v1", "babyai/GoToLocal"]
MAX_STEPS = 7


@dataclass
class Trace:
    """What went in and out of the model, by call; `held` is the memory's number of tokens."""

    ids: list[np.ndarray] = field(default_factory=list)
    local_positions: list[np.ndarray] = field(default_factory=list)
    held: list[int] = field(default_factory=list)
    scores: list[np.ndarray] = field(default_factory=list)


@contextmanager
def traced(model: TransformerXL) -> Iterator[Trace]:
    trace, decode, logits = Trace(), model.decode, model.logits

    def record_decode(ids, positions, images, memory, lengths, numbers):
        trace.ids.append(ids.numpy())
        trace.local_positions.append(positions.numpy())
        trace.held.append(int(memory.num_tokens.max()))
        return decode(ids, positions, images, memory, lengths, numbers)

    def record_logits(hidden, ids=None):
        scores = logits(hidden, ids=ids)
        trace.scores.append(scores.numpy())
        return scores

    model.decode, model.logits = record_decode, record_logits
    try:
        yield trace
    finally:
        del model.decode, model.logits


def run_episodes(
    task: str, agent: Agent, seeds: list[int], stops: list[int], prompt_numbers: list[int]
) -> list[Episode]:
    """Acts in one environment a seed; row i is dropped after `stops[i]` steps at the latest."""
    envs = [make_env(task) for _ in seeds]
    observations = [[env.reset(seed=s)[0]] for env, s in zip(envs, seeds, strict=True)]
    actions: list[list] = [[] for _ in seeds]
    agent.reset(np.ones(len(seeds), bool), seeds=seeds, prompt_numbers=prompt_numbers)
    running = list(range(len(seeds)))
    while running:
        chosen = agent.act([observations[row][-1] for row in running], np.array(running))
        still = []
        for row, action in zip(running, chosen, strict=True):
            observation, _, terminated, truncated, _ = envs[row].step(action)
            actions[row].append(action)
            if not (terminated or truncated or len(actions[row]) >= stops[row]):
                observations[row].append(observation)
                still.append(row)
        running = still
    return [
        Episode(
            observations=stack_observations(rows),
            actions=np.stack(done),
            rewards=np.zeros(len(done), np.float32),
        )
        for rows, done in zip(observations, actions, strict=True)
    ]


def demonstrations(task: str, count: int) -> list[Episode]:
    """Short episodes of different lengths with random actions."""
    env, episodes = make_env(task), []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        observations, actions = [env.reset(seed=seed)[0]], []
        for _ in range(2 + seed):
            actions.append(env.sample_action(rng, observations[-1]))
            observations.append(env.step(actions[-1])[0])
        episodes.append(
            Episode(
                observations=stack_observations(observations[:-1]),
                actions=np.stack(actions),
                rewards=np.zeros(len(actions), np.float32),
            )
        )
    return episodes


def whole_pass_scores(
    model: TransformerXL,
    codec: StepCodec,
    ids: np.ndarray,
    positions: np.ndarray,
    numbers: NumberPatches | None = None,
) -> np.ndarray:
    """Scores of the action ids behind every token but the last, in one pass without memory."""
    piece = TokenSegment(ids=ids[:-1], local_positions=positions[:-1], numbers=numbers)
    batch = left_pad([piece], "cpu")
    hidden, _ = model.decode(
        batch.ids, batch.local_positions, (), model.new_memory(1, 0), numbers=batch.numbers
    )
    return model.logits(hidden[0], ids=codec.action_ids).detach().numpy()
