"""Sequences side by side behind the model, each with its memory: what acting and writing grow from.

    read       segments of any lengths, with images ---> memory, scores of the next id
    grown      one more id a row
    selected   rows by number: reordered, repeated or left out

Shapes: B rows, N ids that may be chosen, D width, T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from db1.model.batch import ImageGroup, NumberGroup
from db1.model.memory import Memory
from db1.model.transformer_xl import TransformerXL
from db1.sequence.segment import NO_LOCAL_POSITION, TokenSegment, place_images, place_numbers
from db1.tokens.vocabulary import nth_ids

PAD_ID = 0
"""Any id will do: nothing attends to padding."""


@dataclass(frozen=True, kw_only=True)
class RaggedBatch:
    """Arguments of `TransformerXL.decode`.

    Args:
        ids: int64 (B, T).
        local_positions: int64 (B, T).
        images: Images by size; positions count in the flattened (B * T) tokens.
        lengths: int64 (B,), real tokens of each row; None when no row is padded.
        numbers: Number patches; None: there are none.
    """

    ids: torch.Tensor
    local_positions: torch.Tensor
    images: tuple[ImageGroup, ...]
    lengths: torch.Tensor | None
    numbers: NumberGroup | None = None


def left_pad(segments: Sequence[TokenSegment], device: torch.device | str) -> RaggedBatch:
    """Stacks segments as rows whose tokens end at the right edge.

    Args:
        segments: One a row; one may be empty, but not all.
        device: Where the tensors go.
    """
    lengths = np.array([len(segment) for segment in segments], dtype=np.int64)
    width = int(lengths.max())
    ids = np.full((len(segments), width), PAD_ID, dtype=np.int64)
    positions = np.full((len(segments), width), NO_LOCAL_POSITION, dtype=np.int64)
    for row, segment in enumerate(segments):
        if len(segment):
            ids[row, -len(segment) :] = segment.ids
            positions[row, -len(segment) :] = segment.local_positions
    numbers = None
    if placed := place_numbers(segments, ids):
        patches, places = placed
        numbers = NumberGroup(
            values=torch.tensor(patches.values).to(device),
            codes=torch.tensor(patches.codes).to(device),
            layouts=torch.tensor(patches.layouts).to(device),
            positions=torch.from_numpy(places).to(device),
        )
    return RaggedBatch(
        ids=torch.from_numpy(ids).to(device),
        local_positions=torch.from_numpy(positions).to(device),
        images=tuple(
            ImageGroup(
                pixels=torch.from_numpy(np.stack(images)).to(device),
                positions=torch.from_numpy(places).to(device),
            )
            for images, places in place_images(segments, ids)
        ),
        lengths=torch.from_numpy(lengths).to(device) if (lengths != width).any() else None,
        numbers=numbers,
    )


@dataclass(frozen=True, kw_only=True)
class DecodingState:
    """Rows behind a model; never changed, so that they can be continued in several ways.

    Args:
        model: Decoder in evaluation mode.
        ids: Vocabulary ids that may be chosen.
        memory: Of what was read so far.
        hidden_BD: Hidden states of the last tokens.
        local_position: Of the chosen ids.
    """

    model: TransformerXL
    ids: range
    memory: Memory
    hidden_BD: Tensor
    local_position: int = NO_LOCAL_POSITION

    @classmethod
    @torch.inference_mode()
    def start(
        cls,
        model: TransformerXL,
        num_rows: int,
        *,
        ids: range,
        memory_length: int,
        local_position: int = NO_LOCAL_POSITION,
    ) -> DecodingState:
        """Rows before their first token, which can look back on `memory_length` tokens each."""
        weight = model.embedding.token.weight
        return cls(
            model=model,
            ids=ids,
            memory=model.new_memory(num_rows, memory_length, weight.device),
            hidden_BD=weight.new_zeros(num_rows, model.config.width),
            local_position=local_position,
        )

    @torch.inference_mode()
    def read(self, segments: Sequence[TokenSegment]) -> DecodingState:
        """Behind what was read before, one segment a row, of any lengths."""
        if not any(map(len, segments)):
            return self
        batch = left_pad(segments, self.hidden_BD.device)
        hidden_BTD, memory = self.model.decode(
            batch.ids,
            batch.local_positions,
            batch.images,
            self.memory,
            batch.lengths,
            batch.numbers,
        )
        return replace(self, memory=memory, hidden_BD=hidden_BTD[:, -1])

    @property
    def num_rows(self) -> int:
        """B."""
        return len(self.hidden_BD)

    @torch.inference_mode()
    def logits(self) -> Tensor:
        """See `Rows`: float (B, N)."""
        return self.model.logits(self.hidden_BD, ids=self.ids)

    @torch.inference_mode()
    def grown(self, index_B: Tensor) -> DecodingState:
        """See `Rows`: index int64 (B,)."""
        ids_B1 = nth_ids(self.ids, index_B.to(self.hidden_BD.device)[:, None])
        positions_B1 = torch.full_like(ids_B1, self.local_position)
        hidden_BTD, memory = self.model.decode(ids_B1, positions_B1, (), self.memory, None, None)
        return replace(self, memory=memory, hidden_BD=hidden_BTD[:, -1])

    @torch.inference_mode()
    def selected(self, rows: Tensor) -> DecodingState:
        """See `Rows`: rows int64 (N,), -1 for a new row."""
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
        segments = [
            TokenSegment.without_positions(nth_ids(self.ids, np.asarray(text[:-1], dtype=np.int32)))
            for text in texts
        ]
        hidden_BTD = self.hidden_BD[:, None]
        if any(len(segment) for segment in segments):
            batch = left_pad(segments, self.hidden_BD.device)
            read_BTD, _ = self.model.decode(
                batch.ids, batch.local_positions, (), self.memory, batch.lengths
            )
            hidden_BTD = torch.cat([hidden_BTD, read_BTD], dim=1)
        totals = []
        for row, text in enumerate(texts):
            behind = hidden_BTD[row, hidden_BTD.shape[1] - (len(text) - 1) :]
            hidden_TD = torch.cat([self.hidden_BD[row, None], behind])
            scores = self.model.logits(hidden_TD, ids=self.ids).double().log_softmax(-1)
            totals.append(scores[torch.arange(len(text)), torch.tensor(text)].sum())
        return torch.stack(totals)
