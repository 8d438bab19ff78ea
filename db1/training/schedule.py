"""The learning rate: linear warm-up, then cosine decay; a pure function of the step.

learning_rate            /^^^--..
                        /         ^-.
initial_learning_rate  /             ^--..__  learning_rate * min_learning_rate_ratio
                       0  warmup_steps      num_steps
"""

from __future__ import annotations

import math

from db1.training.config import TrainingConfig


def learning_rate_at(step: int, config: TrainingConfig) -> float:
    """Returns the learning rate of one optimizer step.

    Args:
        step: Number of optimizer steps done before, from 0.
        config: Gives initial, highest and lowest rate, warm-up and total steps.

    Source: Gato (Reed et al. 2022), appendix D: linear warm-up from 1e-7, cosine decay by 10.
    """
    highest = config.learning_rate
    if step < config.warmup_steps:
        start = config.initial_learning_rate
        return start + (highest - start) * step / config.warmup_steps
    lowest = highest * config.min_learning_rate_ratio
    length = config.num_steps - config.warmup_steps
    done = min((step - config.warmup_steps) / length, 1.0) if length > 0 else 1.0
    return lowest + 0.5 * (highest - lowest) * (1.0 + math.cos(math.pi * done))
