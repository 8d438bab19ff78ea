"""Assignment of demonstrations to episodes, whose memory they prime.

    top          the `num_prompts` of the highest return, taken in turn
    sample_peak  one drawn for each episode from the best tenth (released rule for whole data sets)
    uniform      one drawn for each episode from all (released rule for its minimal data)

Draws depend on the evaluation's seed and the episode's seed alone. Source: released DB1 model,
`sample_expert_demonstration`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from db1.errors import DataError
from db1.evaluation.settings import EvaluationConfig
from db1.rollout.demonstrations import check_demonstrations, learned_episodes
from db1.sequence.step import StepCodec
from db1.store.episodes import EpisodeStore
from db1.suites.seeds import EVALUATION
from db1.tokens.spec import Episode

PEAK_SHARE = 0.1
_TAG = 0x70726F6D  # keeps these draws apart from the policy's of the same seeds


@dataclass(frozen=True, kw_only=True)
class Prompts:
    """The prompts of one task.

    Args:
        episodes: Stretches of demonstrations.
        demonstrations: For each, the numbers of the demonstrations that it is made of.
        number_of: Which one each episode takes, by its seed.
    """

    episodes: Sequence[Episode] = ()
    demonstrations: Sequence[Sequence[int]] = ()
    number_of: dict[int, int]

    def of(self, seed: int) -> list[int]:
        """Numbers of the demonstrations that an episode is prompted with; [] for none."""
        if not self.episodes:
            return []
        return list(self.demonstrations[self.number_of[seed]])


def no_prompts() -> Prompts:
    """Prompts of an evaluation without any."""
    return Prompts(number_of={})


def read_prompts(
    task_id: str,
    folder: Path,
    codec: StepCodec,
    config: EvaluationConfig,
    chosen: Sequence[int] | None = None,
) -> Prompts:
    """Chooses and reads the prompts of all episodes of an evaluation.

    Args:
        task_id: `suite/task`, named in errors.
        folder: The task's demonstration store.
        codec: Step <-> ids of the task.
        config: With its memory length filled in.
        chosen: A few-shot run may be prompted with the episodes that it learned from only; None:
            with all.

    Raises:
        DataError: When there are no demonstrations, or those of another step.
    """
    if not config.prompt_length:
        return no_prompts()
    check_demonstrations(task_id, folder)
    store = EpisodeStore(folder)
    if store.spec != codec.spec:
        raise DataError(
            f"{folder}: demonstrations of another step {store.spec.to_dict()}, expected "
            f"{codec.spec.to_dict()}; collect them again"
        )
    steps = -(-config.prompt_length // codec.min_step_tokens)
    ranked = _best_first(store, chosen)
    drawn = [_choose(store, ranked, config, seed, steps) for seed in config.seeds]
    numbers = {demonstrations: i for i, demonstrations in enumerate(dict.fromkeys(drawn))}
    return Prompts(
        episodes=[_read(store, demonstrations, config, steps) for demonstrations in numbers],
        demonstrations=list(numbers),
        number_of=dict(zip(config.seeds, (numbers[d] for d in drawn), strict=True)),
    )


def _best_first(store: EpisodeStore, chosen: Sequence[int] | None) -> np.ndarray:
    """Numbers of the demonstrations that may be taken, the highest return first."""
    known = learned_episodes(store, chosen)
    return known[np.argsort(-store.returns[known], kind="stable")]


def _choose(
    store: EpisodeStore,
    best_first: np.ndarray,
    config: EvaluationConfig,
    seed: int,
    num_steps: int,
) -> tuple[int, ...]:
    """Numbers of the demonstrations that one episode's prompt is made of."""
    if config.prompt_rule == "top":
        candidates = best_first[: config.num_prompts]
        turn = (seed - EVALUATION.start) % len(candidates)
        order = np.roll(candidates, -turn)
    else:
        peak = config.prompt_rule == "sample_peak"
        count = max(1, int(len(best_first) * PEAK_SHARE)) if peak else len(best_first)
        rng = np.random.default_rng([_TAG, config.seed, seed])
        order = rng.choice(best_first[:count], size=max(1, num_steps), replace=True)
    if not config.prompt_fill:
        return (int(order[0]),)
    taken, steps = [], 0
    for number in np.resize(order, max(len(order), num_steps)):
        taken.append(int(number))
        steps += int(store.lengths[number])
        if steps >= num_steps:
            break
    return tuple(taken)


def _read(
    store: EpisodeStore, numbers: Sequence[int], config: EvaluationConfig, num_steps: int
) -> Episode:
    """One prompt, no longer than it needs to be."""
    from_start = config.prompt_part == "start"
    parts, missing = [], num_steps
    for number in numbers:
        length = int(store.lengths[number])
        start = 0 if from_start else max(0, length - missing)
        parts.append(store.read(number, start, min(length, start + missing)))
        missing -= min(length, missing)
    ordered = parts if from_start else parts[::-1]
    first = ordered[0]
    return Episode(
        observations={
            key: np.concatenate([part.observations[key] for part in ordered])
            for key in first.observations
        },
        actions=np.concatenate([part.actions for part in ordered]),
        rewards=np.concatenate([part.rewards for part in ordered]),
        seed=first.seed,
        terminated=ordered[-1].terminated,
        success=first.success,
    )
