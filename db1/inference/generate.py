"""Text from a checkpoint: writing on from a prompt.

The last `memory_length` tokens are kept in the memory, as in acting.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from db1.errors import ConfigError
from db1.inference.decode import DecodeConfig, draw_ids
from db1.inference.state import DecodingState
from db1.inference.stream import TextStream
from db1.model.transformer_xl import TransformerXL
from db1.sequence.segment import TokenSegment
from db1.tokens.text import TextTokenizer
from db1.tokens.vocabulary import Vocabulary, nth_ids


@dataclass(frozen=True, kw_only=True)
class Generation:
    """A written text.

    Args:
        text: What was written after the prompt, up to a stop text.
        ids: The tokenizer ids drawn, int32 (n,), without the end of text.
        reason: Why it ends: `end_of_text` (drawn by the model), `stop` or `max_tokens`.
    """

    text: str
    ids: np.ndarray
    reason: str

    @property
    def ended(self) -> bool:
        """True when the model ended the text itself."""
        return self.reason == "end_of_text"


Shown = Callable[[int, str], None]
"""Called with (number of the sample, piece of its text) as soon as the piece is certain."""


class Writer:
    """Writes text after a prompt; its memory lasts from one call to the next.

        read    prompt --------------------> memory          in segments of `memory_length` tokens
        write   prompt's last id -> scores -> id -> scores -> ...   one memory row a sample

    Args:
        model: Decoder in evaluation mode.
        vocabulary: Id ranges; only the tokenizer's ids can be written.
        tokenizer: Text <-> ids.
        memory_length: Tokens that the model can look back on, at least 1.

    Raises:
        ConfigError: For a memory below 1.
    """

    def __init__(
        self,
        model: TransformerXL,
        vocabulary: Vocabulary,
        tokenizer: TextTokenizer,
        *,
        memory_length: int,
    ) -> None:
        if memory_length < 1:
            raise ConfigError(f"memory_length: got {memory_length}, expected at least 1")
        self._model = model
        self._tokenizer = tokenizer
        self._text_ids = vocabulary.text_range(tokenizer.size)
        self._memory_length = memory_length
        self.clear()

    def clear(self) -> None:
        """Forgets everything."""
        self._state = DecodingState.start(
            self._model, 1, ids=self._text_ids, memory_length=self._memory_length
        )
        self._pending = np.empty(0, dtype=np.int32)

    def read(self, text: str) -> None:
        """Puts text into the memory; what comes next is written after it.

        All but the last token are run through the model, at most `memory_length` at once, so that a
        long prompt takes no more room than a short one.
        """
        ids = np.concatenate([self._pending, nth_ids(self._text_ids, self._tokenizer.encode(text))])
        self._pending = ids[-1:]
        for start in range(0, len(ids) - 1, self._memory_length):
            part = ids[start : min(start + self._memory_length, len(ids) - 1)]
            self._state = self._state.read([TokenSegment.without_positions(part)])

    def write(
        self,
        *,
        max_tokens: int = 128,
        decode: DecodeConfig | None = None,
        seeds: Sequence[int] = (0,),
        stops: Sequence[str] = (),
        shown: Shown | None = None,
    ) -> list[Generation]:
        """Writes on until the end of text, a stop text or `max_tokens`, once for each seed.

        Behind nothing, a new document starts. A single sample stays in the memory, so that what is
        read next follows it; with several, the memory stays as it was.

        Args:
            max_tokens: The most tokens to write.
            decode: How a token is chosen; None: sampled with temperature 1.
            seeds: Of the sampling, one a sample; a sample depends on its own seed only.
            stops: Texts that end the writing.
            shown: Called with each new piece of text.

        Raises:
            ConfigError: For a number of tokens or samples below 1, or an empty stop text.
        """
        for name, value in (("max_tokens", max_tokens), ("num_samples", len(seeds))):
            if value < 1:
                raise ConfigError(f"{name}: got {value}, expected at least 1")
        end_of_text = self._tokenizer.end_of_text
        if not len(self._pending):
            self._pending = nth_ids(self._text_ids, np.array([end_of_text], dtype=np.int32))
        samples = [
            _Sample(number, seed, TextStream(self._tokenizer, stops), shown or _show_nothing)
            for number, seed in enumerate(seeds)
        ]
        last = [end_of_text]

        def take(running: Sequence[int], index_B: Tensor, logits_BN: Tensor) -> list[int]:
            last[:] = index_B.tolist()
            for row, token in zip(running, last, strict=True):
                samples[row].take(token, end_of_text)
            return [place for place, row in enumerate(running) if samples[row].is_running]

        spread = self._state.selected(torch.zeros(len(samples), dtype=torch.int64))
        read = spread.read([TokenSegment.without_positions(self._pending)] * len(samples))
        decode = decode or DecodeConfig(greedy=False)
        generators = [sample.generator for sample in samples]
        state = draw_ids(read, max_tokens, decode, generators, take)
        if len(samples) == 1:
            self._state = state
            unread = [token for token in last if token != end_of_text]
            self._pending = nth_ids(self._text_ids, np.array(unread, dtype=np.int32))
        return [sample.result() for sample in samples]


class _Sample:
    """One text while it is written."""

    def __init__(self, number: int, seed: int, stream: TextStream, shown: Shown) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self._number = number
        self._stream = stream
        self._shown = shown
        self._ids: list[int] = []
        self._reason: str | None = None

    @property
    def is_running(self) -> bool:
        return self._reason is None

    def take(self, token: int, end_of_text: int) -> None:
        """Enters the id drawn."""
        if token == end_of_text:
            self._reason = "end_of_text"
            return
        self._ids.append(token)
        self._show(self._stream.add(token))
        if self._stream.stopped:
            self._reason = "stop"

    def result(self) -> Generation:
        """The text, when nothing more is drawn."""
        self._show(self._stream.finish())
        return Generation(
            text=self._stream.text,
            ids=np.array(self._ids, dtype=np.int32),
            reason=self._reason or ("stop" if self._stream.stopped else "max_tokens"),
        )

    def _show(self, text: str) -> None:
        if text:
            self._shown(self._number, text)


def _show_nothing(number: int, text: str) -> None:
    """For callers that want the whole text only."""


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
    stops: Sequence[str] = (),
) -> Generation:
    """Writes on from a prompt until the end of text, a stop text or `max_tokens`.

    Args:
        model: Decoder in evaluation mode.
        vocabulary: Id ranges; only the tokenizer's ids can be written.
        tokenizer: Text <-> ids.
        prompt: Text to go on from; an empty one starts a new document.
        memory_length: Tokens that the model can look back on, at least 1.
        max_tokens: The most tokens to write.
        decode: How a token is chosen; None: sampled with temperature 1.
        seed: Of the sampling.
        stops: Texts that end the writing.

    Raises:
        ConfigError: For a memory or number of tokens below 1, or an empty stop text.
    """
    writer = Writer(model, vocabulary, tokenizer, memory_length=memory_length)
    writer.read(prompt)
    return writer.write(max_tokens=max_tokens, decode=decode, seeds=[seed], stops=stops)[0]
