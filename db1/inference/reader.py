"""Text through the model, stretch by stretch, with the memory of the last tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from db1.model.memory import Memory
from db1.model.transformer_xl import TransformerXL
from db1.sequence.sample import NO_LOCAL_POSITION


class TextReader:
    """Runs equally long stretches of text through the model and keeps their memory.

    Args:
        model: Decoder in evaluation mode.
        memory_length: Tokens kept.
    """

    def __init__(self, model: TransformerXL, memory_length: int) -> None:
        self._model = model
        self._memory_length = memory_length
        self._device = next(model.parameters()).device
        self._memory: Memory | None = None

    def read(self, ids: np.ndarray) -> torch.Tensor:
        """Vocabulary ids (B, T) -> hidden (B, T, D)."""
        ids_BT = torch.from_numpy(ids.astype(np.int64)).to(self._device)
        positions_BT = torch.full_like(ids_BT, NO_LOCAL_POSITION)
        memory = self._memory
        if memory is None:
            memory = self._model.new_memory(len(ids), self._memory_length, self._device)
        hidden_BTD, memory = self._model.decode(ids_BT, positions_BT, (), memory, None)
        self._memory = memory.truncated(self._memory_length)
        return hidden_BTD

    def spread(self, num_rows: int) -> TextReader:
        """Another reader after the same single text, with this many rows."""
        return self.selected([0] * num_rows)

    def selected(self, rows: Sequence[int]) -> TextReader:
        """Another reader, with these rows of this one."""
        other = TextReader(self._model, self._memory_length)
        other._memory = self._memory
        if self._memory is not None and list(rows) != list(range(self._memory.batch_size)):
            other._memory = self._memory.select_rows(torch.tensor(rows))
        return other
