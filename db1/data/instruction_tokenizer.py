"""A tokenizer of the tasks' words, for mixtures of control tasks with instructions and no text."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from db1.data.config import DataConfig
from db1.data.weights import resolve_weights
from db1.store.episodes import EpisodeStore
from db1.store.instructions import read_instruction
from db1.tokens.instruction import EPISODE_KEY
from db1.tokens.text import TextTokenizer

MAX_EPISODES = 256
"""Episodes of a task whose own words are read, spread over the store."""


def train_instruction_tokenizer(config: DataConfig, text_size: int) -> TextTokenizer:
    """Trains a byte-level BPE on the words of all tasks and of their episodes.

    Args:
        config: The `data` section.
        text_size: Most ids.

    Raises:
        DataError: A task is not stored.
    """
    return TextTokenizer.train(_texts(config), text_size)


def _texts(config: DataConfig) -> Iterator[str]:
    for task, _ in resolve_weights(config):
        folder = config.root / task
        instruction = read_instruction(folder, task)
        yield instruction.text
        store = EpisodeStore(folder)
        count = min(MAX_EPISODES, store.num_episodes)
        for number in np.linspace(0, store.num_episodes - 1, count).astype(int).tolist():
            if instruction.field is not None:
                yield str(store.read_field(number, instruction.field, 0, 1)[0])
            elif EPISODE_KEY in (metadata := store.metadata(number)):
                yield str(metadata[EPISODE_KEY])
