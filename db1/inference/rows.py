"""Sequences side by side behind the model, each with its memory, that texts grow from.

    read       prompts of any lengths, with images ---> memory, scores of the next id
    grown      one more id a row
    selected   rows by number: reordered, repeated or left out

Shapes: B rows, N ids that may be written, D width, T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from db1.inference.ragged import Piece, left_pad
from db1.model.memory import Memory
from db1.model.transformer_xl import TransformerXL
from db1.sequence.sample import NO_LOCAL_POSITION
from db1.tokens.vocabulary import nth_ids


class Rows(Protocol):
    """Interface of searches and samplers to a set of growing texts."""

    @property
    def num_rows(self) -> int:
        """B."""
        ...

    def logits(self) -> Tensor:
        """Scores of the N ids that may come next, float (B, N)."""
        ...

    def grown(self, index_B: Tensor) -> Rows:
        """With one more id a row: int64 (B,), numbers in 0..N - 1."""
        ...

    def selected(self, rows: Tensor) -> Rows:
        """With row `rows[i]`, int64 (N,), as row i."""
        ...


@dataclass(frozen=True, kw_only=True)
class TextRows:
    """Rows of a model; they are never changed, so that they can be continued in several ways.

    Args:
        model: Decoder in evaluation mode.
        memory: Of what was read so far.
        hidden_BD: Hidden states of the last tokens.
        text_ids: Vocabulary ids that may be written.
    """

    model: TransformerXL
    memory: Memory
    hidden_BD: Tensor
    text_ids: range

    @classmethod
    @torch.inference_mode()
    def read(
        cls,
        model: TransformerXL,
        prompts: Sequence[Piece],
        *,
        text_ids: range,
        memory_length: int,
    ) -> TextRows:
        """Runs prompts through the model, one a row; none may be empty.

        Args:
            model: Decoder in evaluation mode.
            prompts: Ids with their images, of any lengths and sizes.
            text_ids: Vocabulary ids that may be written.
            memory_length: Tokens that each row can look back on.
        """
        weight = model.embedding.token.weight
        start = cls(
            model=model,
            memory=model.new_memory(len(prompts), memory_length, weight.device),
            hidden_BD=weight.new_zeros(len(prompts), model.config.width),
            text_ids=text_ids,
        )
        return start.read_on(prompts)

    @torch.inference_mode()
    def read_on(self, pieces: Sequence[Piece]) -> TextRows:
        """Behind what was read before, one piece a row; pieces may differ in length, none empty."""
        device = self.hidden_BD.device
        batch = left_pad(pieces, self.text_ids.start, self.model.config.patch_size, device)
        hidden_BTD, memory = self.model.decode(
            batch.ids, batch.local_positions, batch.images, self.memory, batch.lengths
        )
        return replace(self, memory=memory, hidden_BD=hidden_BTD[:, -1])

    @property
    def num_rows(self) -> int:
        """B."""
        return len(self.hidden_BD)

    @torch.inference_mode()
    def logits(self) -> Tensor:
        """See `Rows`: float (B, N)."""
        return self.model.logits(self.hidden_BD, ids=self.text_ids)

    @torch.inference_mode()
    def grown(self, index_B: Tensor) -> TextRows:
        """See `Rows`: index int64 (B,)."""
        ids_B1 = nth_ids(self.text_ids, index_B.to(self.hidden_BD.device)[:, None])
        hidden_BTD, memory = self.model.decode(
            ids_B1, torch.full_like(ids_B1, NO_LOCAL_POSITION), (), self.memory, None
        )
        return replace(self, memory=memory, hidden_BD=hidden_BTD[:, -1])

    @torch.inference_mode()
    def selected(self, rows: Tensor) -> TextRows:
        """See `Rows`: rows int64 (N,)."""
        rows = rows.to(self.hidden_BD.device)
        if torch.equal(rows, torch.arange(self.num_rows, device=rows.device)):
            return self
        return replace(self, memory=self.memory.select_rows(rows), hidden_BD=self.hidden_BD[rows])

    @torch.inference_mode()
    def log_probabilities(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """Log-probability of one whole continuation a row, float64 (B,).

        Args:
            texts: Numbers in 0..N - 1, at least one a row.
        """
        pieces = [_piece(text[:-1], self.text_ids) for text in texts]
        hidden_BTD = self.hidden_BD[:, None]
        if any(len(piece) for piece in pieces):
            device = self.hidden_BD.device
            batch = left_pad(pieces, self.text_ids.start, self.model.config.patch_size, device)
            read_BTD, _ = self.model.decode(
                batch.ids, batch.local_positions, (), self.memory, batch.lengths
            )
            hidden_BTD = torch.cat([hidden_BTD, read_BTD], dim=1)
        totals = []
        for row, text in enumerate(texts):
            behind = hidden_BTD[row, hidden_BTD.shape[1] - (len(text) - 1) :]
            hidden_TD = torch.cat([self.hidden_BD[row, None], behind])
            scores = self.model.logits(hidden_TD, ids=self.text_ids).double().log_softmax(-1)
            totals.append(scores[torch.arange(len(text)), torch.tensor(text)].sum())
        return torch.stack(totals)


def _piece(text: Sequence[int], text_ids: range) -> Piece:
    ids = nth_ids(text_ids, np.asarray(text, dtype=np.int32))
    return Piece(ids=ids, local_positions=np.full(len(ids), NO_LOCAL_POSITION, dtype=np.int32))
