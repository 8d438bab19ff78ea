"""A window of one episode, with or without a prompt from another one -> a training sequence.

    without prompt   step s | step s+1 | ... cut at T + 1 tokens
    with prompt      first half of the steps from another episode | steps of this episode
    instruction      the task in words | one of the above

Loss falls on the action tokens of the body only; a sequence that ends early is padded with
separators that are never predicted. Source: Reed et al. 2022, section 2.2; released DB1 model.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np

from db1.errors import ConfigError, DataError, check_one_of
from db1.ranges import Checked, Count, NonNegative, Range, Share
from db1.sequence.segment import TokenSegment, concatenate
from db1.sequence.step import StepCodec
from db1.tokens.spec import Episode

WINDOW_STARTS = ("inside", "clipped")
LONG_INSTRUCTIONS = ("refused", "cut")


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
        long_instruction: What becomes of a longer one that a task or an episode brings: `refused`,
            or `cut` at its end.
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
    long_instruction: str = "refused"
    window_starts: str = "inside"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_one_of("window_starts", self.window_starts, WINDOW_STARTS)
        check_one_of("long_instruction", self.long_instruction, LONG_INSTRUCTIONS)
        if self.instruction and self.max_instruction >= self.length:
            raise ConfigError(
                f"max_instruction: got {self.max_instruction}, expected fewer tokens than length "
                f"{self.length}; lower it or raise length"
            )


def encode_episode(codec: StepCodec, episode: Episode, source: str) -> TokenSegment:
    """All steps of `episode` as one sequence of any length; every action token is a target."""
    return codec.encode_steps(episode.observations, episode.actions, source)


def fit_instruction(ids: np.ndarray, text: str, most: int, cut: bool = False) -> np.ndarray:
    """Returns the ids of an instruction, (n,), at most `most`.

    Args:
        ids: int32 (n,).
        text: What they say.
        most: Tokens that it may have.
        cut: Leave out what is too much at its end, in place of an error.

    Raises:
        DataError: When there are more than `most`.
    """
    if len(ids) > most and not cut:
        raise DataError(
            f"instruction {text[:60]!r} of {len(ids)} tokens, expected at most {most}; shorten it, "
            "raise sequence.max_instruction, or set sequence.long_instruction: cut"
        )
    return ids[:most]


def instruct(words: np.ndarray, sample: TokenSegment) -> TokenSegment:
    """Puts the task's words in front of a sequence; nothing of them is predicted.

    Args:
        words: int32 (n,), ids of the instruction.
        sample: The sequence, with or without prompt.
    """
    joined = concatenate([TokenSegment.without_positions(words), sample])
    return replace(
        joined,
        prompt_length=len(words) + sample.prompt_length if sample.prompt_length else 0,
        instruction_length=len(words),
    )


def disturb_history(
    codec: StepCodec, sample: TokenSegment, noise: float, generator: np.random.Generator
) -> TokenSegment:
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
    places = np.flatnonzero(sample.targets)
    shown = codec.disturb_actions(
        ids[places].reshape(-1, codec.num_action_tokens), noise, generator
    )
    ids[places] = shown.ravel()
    return replace(sample, ids=ids, labels=sample.ids)
