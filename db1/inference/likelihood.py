"""The likelihood of a given text: what a model loses on each token, given those before it.

A text is read in segments of `target_length` tokens T; `memory_length` M is what a segment can
look back on. Two ways, both scoring every token but the first once:

    memory            | M remembered | T |  ->  | M remembered | T |      T tokens of work a segment
    sliding windows   | M + T anew       |      | M + T anew       |      M + T tokens of work

A remembered key was computed with its own memory, so that with several layers a memory reaches
further back than the window that looks as long. T = 1 with sliding windows is how models without
a memory are evaluated.

Source: Dai et al. 2019, section 3.2 and table 9 (evaluation with memory, and its speed-up).
"""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import torch

from db1.errors import ConfigError, DataError
from db1.model.memory import Memory
from db1.model.transformer_xl import TransformerXL
from db1.sequence.segment import NO_LOCAL_POSITION
from db1.tokens.vocabulary import Vocabulary

_SCORED_AT_ONCE = 1_024


def with_attention_span(model: TransformerXL, memory_length: int) -> TransformerXL:
    """The model with an attention span of at least `memory_length`; the weights are shared.

    Under `same_length` a query sees as many keys as in training; a longer memory would be of no
    use without this. A span never becomes shorter: inside a segment the model sees what it saw.
    """
    config = model.config
    if not config.same_length or memory_length <= config.memory_length:
        return model
    other = copy.copy(model)
    other.config = replace(config, memory_length=memory_length)
    return other


@torch.inference_mode()
def text_losses(
    model: TransformerXL,
    vocabulary: Vocabulary,
    tokens: np.ndarray,
    *,
    target_length: int,
    memory_length: int,
    batch_size: int = 8,
) -> np.ndarray:
    """Negative log-likelihood of every token but the first, given those before it.

    The label of a segment's last token is the next segment's first.

        memory_length 0   segments stand alone, batch_size of them at once
        otherwise         batch_size stretches of the text side by side, each with its memory

    Args:
        model: Decoder in evaluation mode.
        vocabulary: Id ranges; the softmax runs over the whole vocabulary, as in training.
        tokens: Tokenizer ids of the text, integer (n,), n at least 2.
        target_length: Tokens of a segment.
        memory_length: Tokens carried from segment to segment; may be longer than in training.
        batch_size: Segments (or stretches) at once.

    Returns:
        float64 (n - 1,), in nats, in the order of the text.

    Raises:
        ConfigError: For a segment without tokens or a negative memory.
        DataError: For a text of fewer than 2 tokens.
    """
    inputs, labels = _inputs_and_labels(vocabulary, tokens, target_length, memory_length)
    model = with_attention_span(model, memory_length)
    lanes = min(batch_size, -(-len(inputs) // target_length))
    lane_length = target_length if memory_length == 0 else -(-len(inputs) // lanes)
    inputs_LT, labels_LT = (_lanes(part, lane_length) for part in (inputs, labels))
    losses = np.zeros(inputs_LT.shape)
    for first in range(0, len(inputs_LT), batch_size):
        memory = model.new_memory(len(inputs_LT[first : first + batch_size]), memory_length)
        for start in range(0, lane_length, target_length):
            part = (slice(first, first + batch_size), slice(start, start + target_length))
            hidden_BTD, memory = _read(model, inputs_LT[part], memory)
            losses[part] = _losses(model, hidden_BTD, labels_LT[part])
    return losses.reshape(-1)[: len(inputs)]


@torch.inference_mode()
def sliding_losses(
    model: TransformerXL,
    vocabulary: Vocabulary,
    tokens: np.ndarray,
    *,
    target_length: int,
    memory_length: int,
    batch_size: int = 8,
) -> np.ndarray:
    """As `text_losses`, but each segment reads the tokens before it again; nothing is kept.

    Arguments, result (n - 1,) and errors as of `text_losses`; `batch_size` windows run at once.
    """
    inputs, labels = _inputs_and_labels(vocabulary, tokens, target_length, memory_length)
    model = with_attention_span(model, memory_length + target_length)
    labels_LT = _lanes(labels, target_length)
    behind = labels_LT.size - len(inputs)
    padded = np.pad(inputs, (memory_length, behind), mode="edge")
    width = memory_length + target_length
    windows = np.lib.stride_tricks.sliding_window_view(padded, width)[::target_length]
    lengths = np.minimum(np.arange(len(windows)) * target_length, memory_length) + target_length
    losses = np.zeros(labels_LT.shape)
    for first in range(0, len(windows), batch_size):
        part = slice(first, first + batch_size)
        longest = int(lengths[part].max())
        nothing = model.new_memory(len(lengths[part]), 0)
        shown = windows[part, width - longest :]
        hidden_BTD, _ = _read(model, shown, nothing, lengths[part])
        losses[part] = _losses(model, hidden_BTD[:, -target_length:], labels_LT[part])
    return losses.reshape(-1)[: len(inputs)]


def _read(
    model: TransformerXL, ids: np.ndarray, memory: Memory, lengths: np.ndarray | None = None
) -> tuple[torch.Tensor, Memory]:
    """Ids (B, T) -> hidden states (B, T, D); only the last `lengths` tokens of a row count."""
    ids_BT = torch.from_numpy(ids.astype(np.int64)).to(next(model.parameters()).device)
    positions_BT = torch.full_like(ids_BT, NO_LOCAL_POSITION)
    is_even = lengths is None or (lengths == ids.shape[1]).all()
    valid = None if is_even else torch.from_numpy(lengths)
    return model.decode(ids_BT, positions_BT, (), memory, valid)


def _inputs_and_labels(
    vocabulary: Vocabulary, tokens: np.ndarray, target_length: int, memory_length: int
) -> tuple[np.ndarray, np.ndarray]:
    """Checks the settings; returns all ids but the last, and all but the first, int64 (n - 1,)."""
    if target_length < 1:
        raise ConfigError(f"target_length: got {target_length}, expected at least 1")
    if memory_length < 0:
        raise ConfigError(f"memory_length: got {memory_length}, expected at least 0")
    if len(tokens) < 2:
        raise DataError(f"a text of {len(tokens)} tokens, expected at least 2 to score")
    ids = vocabulary.text_ids(np.asarray(tokens)).astype(np.int64)
    return ids[:-1], ids[1:]


def _lanes(ids: np.ndarray, lane_length: int) -> np.ndarray:
    """Cuts ids (n,) in rows of `lane_length`; what pads the last row comes after the text."""
    padding = -len(ids) % lane_length
    return np.pad(ids, (0, padding), mode="edge").reshape(-1, lane_length)


def _losses(model: TransformerXL, hidden_BTD: torch.Tensor, labels: np.ndarray) -> np.ndarray:
    """Cross-entropy of labels (B, T), float64; scores a few tokens at a time to save memory."""
    labels_N = torch.from_numpy(labels.reshape(-1)).to(hidden_BTD.device)
    hidden_ND = hidden_BTD.flatten(0, 1)
    pieces = zip(hidden_ND.split(_SCORED_AT_ONCE), labels_N.split(_SCORED_AT_ONCE), strict=True)
    losses = [
        torch.nn.functional.cross_entropy(model.logits(hidden).float(), label, reduction="none")
        for hidden, label in pieces
    ]
    return torch.cat(losses).double().cpu().numpy().reshape(labels.shape)
