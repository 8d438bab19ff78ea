"""A checkpoint that acts: many episodes of one task in lockstep, one memory row each.

    reset    prompt tokens of a demonstration ------------------------------> memory
    act 1    instruction (and then the prompt), where the model learned with one -> memory
    act      last action id of the step before | observation | SEP ---------> memory, scores
             action id 1 .. n - 1, one at a time ---------------------------> memory, scores
             action id n waits: it goes in front of the next observation

Every step starts with the memory cut to `memory_length` tokens: its last ones (`moving`), or the
prompt and the last ones after it (`fixed`). With `memory_length` 0 a step sees only itself.
An instruction stays in front of either, and is not counted in `memory_length`.
Source: Reed et al. 2022, section 2.4 and appendix; released DB1 model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from db1.errors import ConfigError, DataError, check_one_of
from db1.inference.decode import DecodeConfig, draw_ids, probabilities
from db1.inference.prompting import PROMPT_PARTS, PROMPT_STRATEGIES
from db1.inference.state import DecodingState
from db1.model.config import ModelConfig
from db1.model.memory import Memory
from db1.model.transformer_xl import TransformerXL
from db1.sequence.episode import encode_episode, fit_instruction
from db1.sequence.segment import TokenSegment, concatenate, cut
from db1.sequence.step import MAX_STEP_TOKENS, StepCodec, stack_observations
from db1.tokens.spec import Episode
from db1.tokens.vocabulary import nth_ids


class Agent:
    """Acts in a batch of episodes of one task.

    Args:
        model: Decoder in evaluation mode.
        codec: Step <-> ids of the task.
        memory_length: Tokens that a step can look back on, besides its own.
        batch_size: Number of rows (episodes) that can run at once.
        prompts: Demonstrations that prime the memory; row i takes prompt i modulo their number
            unless `reset` says otherwise. None or empty: no prompt.
        prompt_of: Number of the prompt that an episode of some seed takes, for those who choose it.
        prompt_tokens: Tokens of a demonstration that are used; None: `memory_length`.
        prompt_part: `start` or `end` of the demonstration.
        prompt_strategy: `moving`: the memory slides over the prompt and leaves it behind; `fixed`:
            the prompt stays in front of what is remembered.
        greedy: Take the best action, as the model's `continuous_choice` and `discrete_choice`
            understand it; else sample.
        temperature: Of sampling.
        seed: Of sampling, with the episode's seed.
        keep_probabilities: Fill `last_probabilities`, for people who watch.
        instruction: The task in words; None: no instruction. Where the codec has an instruction
            field, every episode's own words take its place, unless `override_instruction`.
        max_instruction: Tokens that an instruction may have.
        cut_instruction: Leave out what a longer one of the task or an episode has at its end.
        override_instruction: Use `instruction` also where an episode brings words of its own.

    Attributes:
        keep_probabilities: May be changed between acts.
        last_probabilities: float32 (B, num_action_tokens, N): how likely each of the N ids that an
            action may have was in the last `act`; None unless kept.

    Raises:
        ConfigError: For settings that cannot be used.
    """

    def __init__(
        self,
        model: TransformerXL,
        codec: StepCodec,
        *,
        memory_length: int,
        batch_size: int,
        prompts: Sequence[Episode] | None = None,
        prompt_of: Mapping[int, int] | None = None,
        prompt_tokens: int | None = None,
        prompt_part: str = "start",
        prompt_strategy: str = "moving",
        greedy: bool = True,
        temperature: float = 1.0,
        seed: int = 0,
        keep_probabilities: bool = False,
        instruction: str | None = None,
        max_instruction: int = 64,
        cut_instruction: bool = False,
        override_instruction: bool = False,
    ) -> None:
        if memory_length < 0:
            raise ConfigError(f"memory_length: got {memory_length}, expected at least 0")
        check_one_of("prompt_part", prompt_part, PROMPT_PARTS)
        check_one_of("prompt_strategy", prompt_strategy, PROMPT_STRATEGIES)
        self.codec = codec
        self.memory_length = memory_length
        self.batch_size = batch_size
        self.prompt_of = dict(prompt_of or {})
        self._model = model
        self._device = next(model.parameters()).device
        self._decode = _choice(model.config, codec, greedy, temperature)
        self._seed = seed
        num_tokens = memory_length if prompt_tokens is None else prompt_tokens
        self._prompts = [
            self._prompt_piece(episode, num_tokens, prompt_part)
            for episode in (prompts or ())
            if memory_length > 0 and num_tokens > 0
        ]
        self._fixed = prompt_strategy == "fixed"
        if self._fixed:
            self._check_fixed_prompts()
        self._fronts: dict[int, int] = {}
        self._spoken: dict[int, int] = {}
        self._instruction = instruction
        self._max_instruction = max_instruction
        self._cuts = cut_instruction
        self._overrides = override_instruction
        self._front_prompts: dict[int, TokenSegment] = {}
        self._capacity = memory_length + MAX_STEP_TOKENS + 2 + codec.num_action_tokens
        if instruction is not None:
            self._capacity += max_instruction
        self.keep_probabilities = keep_probabilities
        self.last_probabilities: np.ndarray | None = None
        self._rows = np.empty(0, dtype=np.int64)
        self._state: DecodingState | None = None
        self._pending: dict[int, TokenSegment] = {}
        self._generators: dict[int, torch.Generator] = {}

    def _check_fixed_prompts(self) -> None:
        longest = max(map(len, self._prompts), default=0)
        if self._prompts and longest >= self.memory_length:
            raise ConfigError(
                f"prompt_strategy fixed: prompts of up to {longest} tokens in a memory of "
                f"{self.memory_length}, expected fewer; lower prompt_tokens"
            )

    @property
    def rows(self) -> np.ndarray:
        """Rows with a running episode, ascending, int64 (N,)."""
        return self._rows

    @torch.inference_mode()
    def reset(
        self,
        rows: np.ndarray,
        seeds: Sequence[int] | None = None,
        prompt_numbers: Sequence[int] | None = None,
    ) -> None:
        """Starts new episodes in some rows; the others go on.

        Args:
            rows: bool (batch_size,), True where an episode starts.
            seeds: The episodes' seeds, one for each True row; they seed the sampling. None: the
                row numbers.
            prompt_numbers: Which prompt each True row takes; None: its row number.
        """
        rows = np.asarray(rows)
        if rows.dtype != bool or rows.shape != (self.batch_size,):
            raise DataError(
                f"reset: got a {rows.dtype} mask of shape {rows.shape}, "
                f"expected bool ({self.batch_size},)"
            )
        started = np.flatnonzero(rows)
        if not len(started):
            return
        numbers = started if prompt_numbers is None else np.asarray(prompt_numbers)
        for row, seed in zip(started, started if seeds is None else seeds, strict=True):
            state = np.random.SeedSequence((self._seed, int(seed))).generate_state(1, np.uint64)[0]
            self._generators[int(row)] = torch.Generator().manual_seed(int(state))
            self._pending.pop(int(row), None)
        self._join(started)
        chosen = {int(row): _EMPTY for row in started}
        if self._prompts:
            chosen = {
                int(row): self._prompts[int(number) % len(self._prompts)]
                for row, number in zip(started, numbers, strict=True)
            }
        if self._instruction is not None:  # the words may come with the first observation
            self._front_prompts |= chosen
        elif self._prompts:
            self._state = self._state.read([chosen.get(int(row), _EMPTY) for row in self._rows])
            if self._fixed:
                self._fix({row: len(piece) for row, piece in chosen.items()})

    @torch.inference_mode()
    def act(
        self, observations: Sequence[Mapping[str, Any]], rows: np.ndarray | None = None
    ) -> list[Any]:
        """Chooses one action for each running episode.

        Args:
            observations: One step's values by key, for each of `rows`.
            rows: Ascending row numbers still running, (N,); the other rows are dropped for good
                (until `reset` starts them again). None: all running rows.

        Returns:
            Actions in the order of `rows`, each of the spec's action shape.
        """
        rows = self._rows if rows is None else np.asarray(rows)
        self._keep(rows)
        if len(observations) != len(rows):
            raise DataError(f"act: {len(observations)} observations for {len(rows)} rows")
        if not len(rows):
            return []
        stacked = stack_observations(observations)
        self._instruct(stacked)
        steps = self.codec.encode_observations(stacked)
        self._state = self._cut(self._state).read(
            [
                concatenate([self._pending[row], step]) if row in self._pending else step
                for row, step in zip(rows.tolist(), steps, strict=True)
            ]
        )
        allowed = self.codec.allowed_action_mask(stacked)
        allowed_BN = None if allowed is None else torch.from_numpy(allowed).to(self._device)
        drawn: list[torch.Tensor] = []
        seen: list[torch.Tensor] = []

        def take(running: Sequence[int], index_B: torch.Tensor, logits_BN: torch.Tensor) -> Any:
            if self.keep_probabilities:
                seen.append(probabilities(logits_BN, allowed_BN, self._decode.temperature))
            drawn.append(index_B)
            return running

        generators = [self._generators[row] for row in rows.tolist()]
        num_ids = self.codec.num_action_tokens
        self._state = draw_ids(self._state, num_ids, self._decode, generators, take, allowed_BN)
        if seen:
            self.last_probabilities = torch.stack(seen, dim=1).cpu().numpy()
        index = torch.stack(drawn, dim=1).cpu().numpy().astype(np.int32)
        ids = nth_ids(self.codec.action_ids, index)
        if self.memory_length:
            self._pending = {row: _last_id(ids[i]) for i, row in enumerate(rows.tolist())}
        return list(self.codec.decode_action(ids))

    def _instruct(self, observations: Mapping[str, np.ndarray]) -> None:
        """Feeds instruction and prompt of the episodes whose first step this is."""
        if not self._front_prompts:
            return
        pieces, lengths = [], {}
        for index, row in enumerate(self._rows.tolist()):
            prompt = self._front_prompts.get(row)
            if prompt is None:
                pieces.append(_EMPTY)
                continue
            words = self._words(observations, index)
            pieces.append(concatenate([TokenSegment.without_positions(words), prompt]))
            lengths[row] = len(pieces[-1])
            self._spoken[row] = len(words)
            self._fronts[row] = len(pieces[-1]) if self._fixed else len(words)
        self._front_prompts = {}
        self._state = self._cut(self._state).read(pieces)
        self._limit(lengths)

    def _words(self, observations: Mapping[str, np.ndarray], index: int) -> np.ndarray:
        """Ids of an episode's instruction, int32 (n,)."""
        text, key = self._instruction, self.codec.instruction_field
        if key is not None and not self._overrides:
            text = str(observations[key][index])
        assert text is not None
        ids = self.codec.encode_instruction(text)
        return fit_instruction(ids, text, self._max_instruction, self._cuts and not self._overrides)

    def _prompt_piece(self, episode: Episode, num_tokens: int, part: str) -> TokenSegment:
        whole = encode_episode(self.codec, episode, source="prompt")
        length = len(whole)
        start = 0 if part == "start" else max(0, length - num_tokens)
        return cut(whole, start, min(length, start + num_tokens))

    def _keep(self, rows: np.ndarray) -> None:
        """Drops the memory rows of finished episodes."""
        if np.array_equal(rows, self._rows):
            return
        index = np.searchsorted(self._rows, rows)
        if (
            (np.diff(rows) <= 0).any()
            or (index >= len(self._rows)).any()
            or (self._rows[index] != rows).any()
        ):
            raise DataError(
                f"act: rows {rows.tolist()}, expected ascending ones of the running "
                f"{self._rows.tolist()}; call reset first"
            )
        self._state = self._state.selected(torch.from_numpy(index))
        self._rows = rows.astype(np.int64)

    def _join(self, started: np.ndarray) -> None:
        """Puts the started rows, with the memory of an episode's start, beside the running ones."""
        running = np.setdiff1d(self._rows, started)
        rows = np.union1d(running, started)
        if self._state is None or not len(running):
            state = self._start(len(rows))
        else:
            old = {int(row): i for i, row in enumerate(self._rows) if row in running}
            state = self._state.selected(torch.tensor([old.get(int(row), -1) for row in rows]))
        for row in started:
            self._fronts.pop(int(row), None)
            self._spoken.pop(int(row), None)
        self._rows = rows
        self._state = self._cut(state)

    def _start(self, num_rows: int) -> DecodingState:
        ids, capacity = self.codec.action_ids, self._capacity
        return DecodingState.start(
            self._model, num_rows, ids=ids, memory_length=capacity, local_position=0
        )

    def _fix(self, lengths: Mapping[int, int]) -> None:
        """Remembers how long the prompts of some rows are, and drops what lies before them."""
        self._fronts |= lengths
        self._limit(lengths)

    def _limit(self, lengths: Mapping[int, int]) -> None:
        """Drops what lies before the last tokens of some rows."""
        most = [lengths.get(int(row), self._capacity) for row in self._rows]
        memory = self._state.memory.limited(torch.tensor(most))
        self._state = replace(self._state, memory=memory)

    def _cut(self, state: DecodingState) -> DecodingState:
        """State at the start of a step."""
        return replace(state, memory=self._cut_memory(state.memory))

    def _cut_memory(self, memory: Memory) -> Memory:
        if self._instruction is None and not (self._fixed and self._prompts):
            return memory.truncated(self.memory_length)
        fronts = [self._fronts.get(int(row), 0) for row in self._rows]
        if self._instruction is None:
            return memory.without_middle(self.memory_length, torch.tensor(fronts))
        spoken = [self._spoken.get(int(row), 0) for row in self._rows]
        lengths = self.memory_length + torch.tensor(spoken)
        return memory.without_middle(lengths, torch.tensor(fronts))


def _choice(
    config: ModelConfig, codec: StepCodec, greedy: bool, temperature: float
) -> DecodeConfig:
    """The way actions are chosen: what `greedy` means is the model's to say."""
    is_continuous = codec.spec.action.kind == "continuous"
    if greedy and not is_continuous and config.discrete_choice == "sampled":
        return DecodeConfig(greedy=False, temperature=config.discrete_temperature)
    median = is_continuous and config.continuous_choice == "median"
    return DecodeConfig(greedy=greedy, median=median, temperature=temperature)


def _last_id(ids: np.ndarray) -> TokenSegment:
    """The last id of an action, which goes in front of the next observation."""
    return TokenSegment(ids=ids[-1:], local_positions=np.zeros(1, np.int32))


_EMPTY = TokenSegment.without_positions(np.empty(0, np.int32))
