"""Text from a checkpoint: writing on from a prompt, and the likelihood of a given text.

Both keep the last `memory_length` tokens in the memory, like acting does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from db1.errors import ConfigError, DataError
from db1.model.memory import Memory
from db1.model.transformer_xl import TransformerXL
from db1.policy.decode import DecodeConfig, choose
from db1.sequence.sample import NO_LOCAL_POSITION
from db1.tokens.text import TextTokenizer
from db1.tokens.vocabulary import Vocabulary


@dataclass(frozen=True, kw_only=True)
class Generation:
    """A written text.

    Args:
        text: What was written behind the prompt.
        ids: Its tokenizer ids, int32 (n,), without the end of text.
        ended: True when the model ended the text itself.
    """

    text: str
    ids: np.ndarray
    ended: bool


@torch.inference_mode()
def generate(
    model: TransformerXL,
    vocabulary: Vocabulary,
    tokenizer: TextTokenizer,
    prompt: str,
    *,
    memory_length: int,
    max_tokens: int = 128,
    decode: DecodeConfig | None = None,
    seed: int = 0,
) -> Generation:
    """Writes on from a prompt until the end of text or `max_tokens`.

    Args:
        model: Decoder in evaluation mode.
        vocabulary: Id ranges; only the tokenizer's ids can be written.
        tokenizer: Text <-> ids.
        prompt: Text to go on from; an empty one starts a new document.
        memory_length: Tokens that the model can look back on, at least 1.
        max_tokens: The most tokens to write.
        decode: How a token is chosen; None: sampled with temperature 1.
        seed: Of the sampling.

    Raises:
        ConfigError: For a memory or number of tokens below 1.
    """
    for name, value in (("memory_length", memory_length), ("max_tokens", max_tokens)):
        if value < 1:
            raise ConfigError(f"{name}: got {value}, expected at least 1")
    decode = decode or DecodeConfig(greedy=False)
    generators = [torch.Generator().manual_seed(seed)]
    text_ids = vocabulary.text_ids(np.arange(tokenizer.size))
    ids = vocabulary.text_ids(tokenizer.encode(prompt))
    if not len(ids):
        ids = text_ids[[tokenizer.end_of_text]]
    reader = _Reader(model, memory_length)
    written: list[int] = []
    while len(written) < max_tokens:
        hidden_1D = reader.read(ids[None])[:, -1]
        logits_1N = model.logits(hidden_1D, ids=range(int(text_ids[0]), int(text_ids[-1]) + 1))
        index = int(choose(logits_1N, None, decode, generators)[0])
        if index == tokenizer.end_of_text:
            break
        written.append(index)
        ids = text_ids[[index]]
    result = np.array(written, dtype=np.int32)
    return Generation(text=tokenizer.decode(result), ids=result, ended=len(written) < max_tokens)


@torch.inference_mode()
def text_losses(
    model: TransformerXL,
    vocabulary: Vocabulary,
    tokens: np.ndarray,
    *,
    window: int,
    memory_length: int,
    batch_size: int = 8,
) -> np.ndarray:
    """Negative log-likelihood of every token but the first, given those before it.

    The text is read in consecutive windows; the label of a window's last token is the next
    window's first, so every token is scored once.

        memory_length 0   windows stand alone, batch_size of them at once
        otherwise         batch_size stretches of the text side by side, each with its memory

    Args:
        model: Decoder in evaluation mode.
        vocabulary: Id ranges; the softmax runs over the whole vocabulary, as in training.
        tokens: Tokenizer ids of the text, integer (n,), n at least 2.
        window: Tokens of a window.
        memory_length: Tokens carried from window to window.
        batch_size: Windows (or stretches) at once.

    Returns:
        float64 (n - 1,), in nats, in the order of the text.

    Raises:
        DataError: For a text of fewer than 2 tokens.
    """
    if len(tokens) < 2:
        raise DataError(f"a text of {len(tokens)} tokens, expected at least 2 to score")
    ids = vocabulary.text_ids(np.asarray(tokens)).astype(np.int64)
    num_losses = len(ids) - 1
    lanes = min(batch_size, -(-num_losses // window))
    lane_length = window if memory_length == 0 else -(-num_losses // lanes)
    inputs_LT, labels_LT = (_lanes(part, lane_length) for part in (ids[:-1], ids[1:]))
    losses = np.zeros(inputs_LT.shape)
    for first in range(0, len(inputs_LT), batch_size):
        reader = _Reader(model, memory_length)
        for start in range(0, lane_length, window):
            part = (slice(first, first + batch_size), slice(start, start + window))
            losses[part] = _losses(model, reader.read(inputs_LT[part]), labels_LT[part])
    return losses.reshape(-1)[:num_losses]


class _Reader:
    """Runs equally long stretches of text through the model and keeps their memory."""

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
            memory = Memory.empty(self._model, len(ids), self._memory_length, self._device)
        hidden_BTD, memory = self._model.decode(ids_BT, positions_BT, (), memory, None)
        self._memory = memory.truncated(self._memory_length)
        return hidden_BTD


def _lanes(ids: np.ndarray, lane_length: int) -> np.ndarray:
    """Cuts ids (n,) in rows of `lane_length`; what pads the last row comes after the text."""
    padding = -len(ids) % lane_length
    return np.pad(ids, (0, padding), mode="edge").reshape(-1, lane_length)


def _losses(model: TransformerXL, hidden_BTD: torch.Tensor, labels: np.ndarray) -> np.ndarray:
    """Cross-entropy of labels (B, T), float64; scores a few tokens at a time to save memory."""
    labels_N = torch.from_numpy(labels.reshape(-1)).to(hidden_BTD.device)
    pieces = zip(hidden_BTD.flatten(0, 1).split(1_024), labels_N.split(1_024), strict=True)
    losses = [
        torch.nn.functional.cross_entropy(model.logits(hidden).float(), label, reduction="none")
        for hidden, label in pieces
    ]
    return torch.cat(losses).double().cpu().numpy().reshape(labels.shape)
