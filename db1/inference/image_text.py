"""A run that describes images and answers questions about them, many at a time.

    see       file ---> pixels as the run was shown in training, and what a person should know
    write     prompt and image ---> text       greedy, sampled, or the best of several beams
    choose    prompt and image ---> the likeliest of a closed list of answers

A batch holds at most `max_rows` rows of memory: prompts times beams, or prompts times answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
import torch

from db1.data.pair_config import PairData
from db1.errors import CheckpointError, ConfigError, DataError
from db1.inference.beam import BeamConfig, beam_search
from db1.inference.decode import DecodeConfig, Rows, draw_ids
from db1.inference.load import LoadedRun
from db1.inference.state import DecodingState
from db1.ranges import Checked, Count, NonNegative, Range, Seed
from db1.sequence.image_text import ImageTextCodec
from db1.sequence.segment import TokenSegment, cut
from db1.tokens.image_file import ImageFile
from db1.tokens.image_fit import fit_image
from db1.tokens.vocabulary import IMAGE_PLACEHOLDER

Progress = Callable[[int, int], None]
"""Called with (finished texts, all texts)."""


@dataclass(frozen=True, kw_only=True)
class WritingConfig(Checked):
    """Settings for writing a text.

    Args:
        max_tokens: The most tokens.
        beams: Above 1: beam search with as many beams.
        length_penalty: Of the beam search.
        decode: Greedy or sampled, where there is one beam.
        seed: Of the sampling, with the number of the prompt.
    """

    max_tokens: Count = 32
    beams: Annotated[int, Range(least=1, most=4_096)] = 1
    length_penalty: NonNegative = 1.0
    decode: DecodeConfig = field(default_factory=DecodeConfig)
    seed: Seed = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.search()
        if self.beams > 1 and not self.decode.greedy:
            raise ConfigError(
                f"beams: got {self.beams} with sampling (temperature, top_p or top_k); a beam "
                "search looks for the likeliest text, leave one of the two out"
            )

    def search(self) -> BeamConfig:
        """The beam search."""
        return BeamConfig(
            num_beams=self.beams, max_tokens=self.max_tokens, length_penalty=self.length_penalty
        )


@dataclass(frozen=True, kw_only=True)
class WrittenText:
    """A caption or an answer.

    Args:
        text: Without white space around it.
        log_probability: Of its tokens among all text, the end of text included where it has one.
        num_tokens: Its tokens without the end of text.
        reason: Why it ends: `end_of_text` or `max_tokens`.
    """

    text: str
    log_probability: float
    num_tokens: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class ChosenAnswer:
    """The likeliest of several answers.

    Args:
        text: The answer.
        probability: Its share of the probability of all answers in the list.
        log_probabilities: Of each answer with its end of text, float64 (num_answers,).
    """

    text: str
    probability: float
    log_probabilities: np.ndarray


@dataclass(frozen=True, kw_only=True)
class LoadedImage:
    """An image as the model is shown it.

    Args:
        pixels: uint8 (H, W, 3).
        notes: What a person should know about how its file was read.
    """

    pixels: np.ndarray
    notes: tuple[str, ...] = ()


class ImageTextWriter:
    """Captions, and answers to questions.

    Args:
        run: The run with its model.
        data: How images and questions are shown; see `pair_sets.settings_of`.
        max_rows: Rows of memory at once.

    Raises:
        CheckpointError: The run has no tokenizer.
        ConfigError: No row at all.
    """

    def __init__(self, run: LoadedRun, data: PairData, *, max_rows: int = 64) -> None:
        if run.tokenizer is None:
            raise CheckpointError(f"{run.folder}: no tokenizer, so the run never learned text")
        if max_rows < 1:
            raise ConfigError(f"max_rows: got {max_rows}, expected at least 1")
        self.data = data
        self._run = run
        self._max_rows = max_rows
        self._tokenizer = run.tokenizer
        patch_size = run.model_config.patch_size
        self._codec = ImageTextCodec(run.vocabulary, run.tokenizer, data.texts(), patch_size)
        self._text_ids = run.vocabulary.text_range(run.tokenizer.size)

    def load_image(self, content: bytes, where: str) -> LoadedImage:
        """Decodes an image file as in training, without augmentation.

        Args:
            content: Bytes of the file.
            where: Named in errors.

        Raises:
            DataError: No image, a broken or a too large one.
        """
        file = ImageFile(content, where, self.data.max_pixels)
        notes = file.notes()
        return LoadedImage(pixels=fit_image(file, self.data.image_size, self.data.fit), notes=notes)

    def prompt(
        self,
        pixels: np.ndarray,
        question: str | None = None,
        text: str | None = None,
        *,
        cut: bool = False,
    ) -> TokenSegment:
        """Prompt that the model reads before it writes.

        Args:
            pixels: The image, uint8 (H, W, 3), sides multiples of the patch.
            question: None: a caption is to be written.
            text: Instead of the set's text in front of the image.
            cut: Cut off a question that is too long (as training does) instead of an error.

        Raises:
            DataError: A question without a word, or too long a one.
        """
        if question is not None and not question.strip():
            raise DataError("question: empty, expected some words")
        length = self._run.sequence_length
        prompt = self._codec.encode_prompt(pixels, question, text, length)
        if prompt.num_cut and not cut:
            raise DataError(
                f"question: {prompt.num_cut} tokens too long for the run's sequences of {length} "
                f"tokens, of which the image takes {self._num_patches(prompt)}; shorten it: "
                f"{' '.join((question or '').split())[:60]!r}..."
            )
        return prompt

    @torch.inference_mode()
    def write(
        self,
        prompts: Sequence[TokenSegment],
        config: WritingConfig,
        numbers: Sequence[int] | None = None,
        progress: Progress | None = None,
    ) -> list[WrittenText]:
        """Writes a text after each prompt.

        Args:
            prompts: Images may differ in size.
            config: How.
            numbers: Number of each prompt in its set, which seeds its sampling, so that a text
                does not depend on its neighbours; None: its place.
            progress: Called after every batch.
        """
        numbers = range(len(prompts)) if numbers is None else numbers
        size, written = max(1, self._max_rows // config.beams), []
        for first in range(0, len(prompts), size):
            rows = self._read(prompts[first : first + size])
            if config.beams > 1:
                written += self._search(rows, config)
            else:
                written += self._draw(rows, config, numbers[first : first + size])
            if progress is not None:
                progress(len(written), len(prompts))
        return written

    @torch.inference_mode()
    def choose(
        self,
        prompts: Sequence[TokenSegment],
        answers: Sequence[str],
        progress: Progress | None = None,
    ) -> list[ChosenAnswer]:
        """Picks the likeliest of a closed list of answers after each prompt.

        Args:
            prompts: Of questions.
            answers: The list, all different.
            progress: Called after every batch.

        Raises:
            ConfigError: No answer, an empty one, or one that appears twice.
        """
        texts = self._answer_tokens(answers)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        chosen: list[ChosenAnswer] = []
        size = max(1, self._max_rows // len(texts))
        for first in range(0, len(prompts), size):
            rows = self._read(prompts[first : first + size])
            scores = np.empty((rows.num_rows, len(texts)))
            width = max(1, self._max_rows // rows.num_rows)
            for start in range(0, len(order), width):
                part = order[start : start + width]
                spread = rows.selected(torch.arange(rows.num_rows).repeat_interleave(len(part)))
                behind = [texts[i] for i in part] * rows.num_rows
                values = spread.log_probabilities(behind).reshape(rows.num_rows, len(part))
                scores[:, part] = values.cpu().numpy()
            chosen += [_choice(answers, row) for row in scores]
            if progress is not None:
                progress(len(chosen), len(prompts))
        return chosen

    def _read(self, prompts: Sequence[TokenSegment]) -> DecodingState:
        """Runs prompts through the model; several questions about an image share its patches."""
        config = self._run.model_config
        length = config.memory_length
        if config.memory_start == "empty":
            length = max(length, self._run.sequence_length)
        heads, tails = zip(*(_split(prompt) for prompt in prompts), strict=True)
        keys = [(head.ids.tobytes(), *(i.tobytes() for i in head.images)) for head in heads]
        first = {key: row for row, key in reversed(list(enumerate(keys)))}
        fits = all(len(prompt.ids) <= length for prompt in prompts)
        is_shared = len(first) < len(keys) and fits and all(map(len, tails))
        order = sorted(first.values()) if is_shared else range(len(prompts))
        start = DecodingState.start(
            self._run.model, len(order), ids=self._text_ids, memory_length=length
        )
        if not is_shared:
            return start.read(prompts)
        places = {keys[row]: place for place, row in enumerate(order)}
        rows = start.read([heads[row] for row in order])
        return rows.selected(torch.tensor([places[key] for key in keys])).read(tails)

    def _search(self, rows: DecodingState, config: WritingConfig) -> list[WrittenText]:
        found = beam_search(rows, self._tokenizer.end_of_text, config.search())
        return [
            self._text(best[0].tokens, best[0].log_probability, best[0].ended) for best in found
        ]

    def _draw(
        self, rows: DecodingState, config: WritingConfig, numbers: Sequence[int]
    ) -> list[WrittenText]:
        states = [np.random.SeedSequence((config.seed, int(n))) for n in numbers]
        seeds = [int(state.generate_state(1, np.uint64)[0]) for state in states]
        drawn = draw_texts(
            rows, self._tokenizer.end_of_text, config.max_tokens, config.decode, seeds
        )
        return [self._text(*text) for text in drawn]

    def _text(self, tokens: Sequence[int], log_probability: float, ended: bool) -> WrittenText:
        return WrittenText(
            text=self._tokenizer.decode(list(tokens)).strip(),
            log_probability=log_probability,
            num_tokens=len(tokens),
            reason="end_of_text" if ended else "max_tokens",
        )

    def _answer_tokens(self, answers: Sequence[str]) -> list[list[int]]:
        if not answers:
            raise ConfigError("answers: an empty list, expected at least one answer")
        for answer in answers:
            if not answer.strip():
                raise ConfigError("answers: one of the list is empty")
        if len(set(answers)) < len(answers):
            twice = next(a for i, a in enumerate(answers) if a in answers[:i])
            raise ConfigError(f"answers: {twice!r} is in the list twice")
        end = self._tokenizer.end_of_text
        return [[*self._tokenizer.encode(f" {a.strip()}").tolist(), end] for a in answers]

    def _num_patches(self, prompt: TokenSegment) -> int:
        return int((prompt.ids == IMAGE_PLACEHOLDER).sum())


def draw_texts(
    rows: Rows, end: int, max_tokens: int, decode: DecodeConfig, seeds: Sequence[int]
) -> list[tuple[tuple[int, ...], float, bool]]:
    """Draws one text after each row, id by id.

    Args:
        rows: One a prompt.
        end: Number of the id that ends a text.
        max_tokens: A text is cut off after these.
        decode: How an id is chosen.
        seeds: Of each row's own draws.

    Returns:
        Tokens without the end, log-probability with it, and whether the model ended the text.
    """
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    texts: list[list[int]] = [[] for _ in seeds]
    totals, ended = [0.0] * len(seeds), [False] * len(seeds)

    def take(running: Sequence[int], index_B: torch.Tensor, logits_BN: torch.Tensor) -> list[int]:
        log_BN = logits_BN.double().log_softmax(dim=1)
        values = log_BN.gather(1, index_B[:, None])[:, 0].tolist()
        for row, token, value in zip(running, index_B.tolist(), values, strict=True):
            totals[row] += value
            ended[row] = token == end
            texts[row] += [] if ended[row] else [token]
        return [place for place, row in enumerate(running) if not ended[row]]

    draw_ids(rows, max_tokens, decode, generators, take)
    return [(tuple(t), v, e) for t, v, e in zip(texts, totals, ended, strict=True)]


def _split(prompt: TokenSegment) -> tuple[TokenSegment, TokenSegment]:
    """A prompt up to its last image patch, and the text after it."""
    stop = int(np.flatnonzero(prompt.ids == IMAGE_PLACEHOLDER)[-1]) + 1
    return cut(prompt, 0, stop), cut(prompt, stop, len(prompt))


def _choice(answers: Sequence[str], scores: np.ndarray) -> ChosenAnswer:
    best = int(scores.argmax())
    shares = np.exp(scores - scores[best])
    return ChosenAnswer(
        text=answers[best].strip(), probability=float(1 / shares.sum()), log_probabilities=scores
    )
