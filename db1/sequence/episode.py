"""A window of one episode, with or without a prompt from another one -> a training sequence.

    without prompt   step s | step s+1 | ... cut at T + 1 tokens
    with prompt      first half of the steps from another episode | steps of this episode
    instruction      the task in words | one of the above

Loss falls on the action tokens of the body only; a sequence that ends early is padded with
separators that are never predicted. Source: Reed et al. 2022, section 2.2; released DB1 model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np

from db1.errors import ConfigError, DataError
from db1.ranges import Checked, Count, NonNegative, Range, Share
from db1.sequence.sample import NO_LOCAL_POSITION, Sample
from db1.sequence.step import StepCodec
from db1.tokens.number_patch import concatenate_patches
from db1.tokens.spec import Episode

WINDOW_STARTS = ("inside", "clipped")


@dataclass(frozen=True, kw_only=True)
class SequenceConfig(Checked):
    """Shape of the training sequences.

    Args:
        length: Tokens of a sequence that the model sees (Gato: 1,024).
        prompt_probability: Share of control sequences that start with a prompt (Gato: 0.25).
        prompt_goal_share: Share of prompts taken from the end of the other episode (Gato: 0.5).
        prompt_steps_share: Share of a sequence's steps that the prompt takes (released: half).
        history_noise: Noise on the actions that the model reads back, never on those it is to
            predict: the standard deviation for continuous actions, the probability of a uniform
            draw for discrete ones. With 0 (Gato) a model trained on few demonstrations learns to
            repeat its last action instead of looking (causal confusion, de Haan et al. 2019).
        instruction: Say the task in words in front of every control sequence, and keep them in
            front of the memory when acting: a demonstration's own words (BabyAI's mission, which
            then is not repeated at every step), else those of the suite. Off in Gato and DB1.
        max_instruction: Tokens that an instruction may have.
        window_starts: Which windows of an episode are drawn: `inside`: all that fill a sequence,
            equally likely, so that an episode's first and last steps are seen less often than
            its middle; `clipped`: starts from one window before the episode to its end, moved
            inside, so that the first and the last window are drawn more often.
    """

    length: Annotated[int, Range(least=8)] = 1_024
    prompt_probability: Share = 0.25
    prompt_goal_share: Share = 0.5
    prompt_steps_share: Share = 0.5
    history_noise: NonNegative = 0.0
    instruction: bool = False
    max_instruction: Count = 64
    window_starts: str = "inside"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.window_starts not in WINDOW_STARTS:
            raise ConfigError(
                f"window_starts: got {self.window_starts!r}, expected one of {WINDOW_STARTS}"
            )
        if self.instruction and self.max_instruction >= self.length:
            raise ConfigError(
                f"max_instruction: got {self.max_instruction}, expected fewer tokens than length "
                f"{self.length}; lower it or raise length"
            )


def encode_episode(codec: StepCodec, episode: Episode, source: str) -> Sample:
    """All steps of `episode` as one sequence of any length; every action token is a target."""
    return encode_window(codec, episode.observations, episode.actions, source)


def encode_window(
    codec: StepCodec, observations: Mapping[str, np.ndarray], actions: np.ndarray, source: str
) -> Sample:
    """Consecutive steps as one sequence of any length; every action token is a target.

    Args:
        codec: Of the task.
        observations: Arrays (N, ...) by key, of N steps.
        actions: Actions of the same steps, (N, *shape).
        source: Task id.

    Raises:
        DataError: For values outside their field, or an observation longer than 512 tokens.
    """
    tokens = codec.encode_steps(observations, actions)
    return Sample(
        ids=tokens.ids,
        local_positions=tokens.local_positions,
        target_mask=tokens.action_mask,
        images=tokens.images,
        numbers=tokens.numbers,
        source=source,
    )


def check_instruction(ids: np.ndarray, text: str, most: int) -> np.ndarray:
    """Returns the ids of an instruction, (n,).

    Raises:
        DataError: When there are more than `most`.
    """
    if len(ids) > most:
        raise DataError(
            f"instruction {text[:60]!r} of {len(ids)} tokens, expected at most {most}; shorten it "
            "or raise sequence.max_instruction"
        )
    return ids


def instruct(words: np.ndarray, sample: Sample) -> Sample:
    """Puts the task's words in front of a sequence; nothing of them is predicted.

    Args:
        words: int32 (n,), ids of the instruction.
        sample: The sequence, with or without prompt.
    """
    spoken = Sample(
        ids=words,
        local_positions=np.full(len(words), NO_LOCAL_POSITION, dtype=np.int32),
        target_mask=np.zeros(len(words), dtype=bool),
        source=sample.source,
    )
    joined = join(spoken, sample)
    return replace(
        joined,
        prompt_length=len(words) + sample.prompt_length if sample.prompt_length else 0,
        instruction_length=len(words),
    )


def disturb_history(
    codec: StepCodec, sample: Sample, noise: float, generator: np.random.Generator
) -> Sample:
    """Puts noise on the action tokens that are read; the labels keep the true ones.

    Args:
        codec: Of the sample's task.
        sample: A body: every target is an action token.
        noise: See `SequenceConfig.history_noise`.
        generator: Of the noise.
    """
    if noise == 0.0:
        return sample
    ids = sample.ids.copy()
    places = np.flatnonzero(sample.target_mask)
    shown = codec.disturb_actions(
        ids[places].reshape(-1, codec.num_action_tokens), noise, generator
    )
    ids[places] = shown.ravel()
    return replace(sample, ids=ids, labels=sample.ids)


def join(prompt: Sample | None, body: Sample) -> Sample:
    """Puts a prompt in front of a body; nothing of the prompt is predicted."""
    if prompt is None:
        return body
    has_labels = prompt.labels is not None or body.labels is not None
    return Sample(
        ids=np.concatenate([prompt.ids, body.ids]),
        labels=np.concatenate([prompt.label_ids, body.label_ids]) if has_labels else None,
        local_positions=np.concatenate([prompt.local_positions, body.local_positions]),
        target_mask=np.concatenate([np.zeros_like(prompt.target_mask), body.target_mask]),
        images=prompt.images + body.images,
        numbers=concatenate_patches([prompt.numbers, body.numbers]),
        source=body.source,
        prompt_length=len(prompt.ids),
    )


def fit(sample: Sample, num_tokens: int, pad_id: int) -> Sample:
    """Cuts or pads a sequence to exactly `num_tokens`; padding is never predicted.

    Images and number patches that are cut off stay; `collate` drops them.
    """
    return Sample(
        ids=_fitted(sample.ids, num_tokens, pad_id),
        labels=None if sample.labels is None else _fitted(sample.labels, num_tokens, pad_id),
        local_positions=_fitted(sample.local_positions, num_tokens, NO_LOCAL_POSITION),
        target_mask=_fitted(sample.target_mask, num_tokens, False),
        images=sample.images,
        numbers=sample.numbers,
        source=sample.source,
        prompt_length=min(sample.prompt_length, num_tokens),
        instruction_length=min(sample.instruction_length, num_tokens),
    )


def _fitted(values: np.ndarray, length: int, filler: int) -> np.ndarray:
    """The first `length` values, a view where there are that many."""
    if len(values) >= length:
        return values[:length]
    padded = np.full(length, filler, dtype=values.dtype)
    padded[: len(values)] = values
    return padded
