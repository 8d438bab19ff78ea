"""Settings that decide an evaluation's numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any

from db1.errors import ConfigError, check_one_of
from db1.evaluation.references import check_choice
from db1.inference.prompting import PROMPT_PARTS, PROMPT_STRATEGIES
from db1.metrics.pair_scoring import PAIRS_PANEL, PairScoring
from db1.options import nested, option
from db1.ranges import Checked, Count, Natural, Positive, Range, Seed
from db1.rollout.policies import POLICIES
from db1.suites.seeds import EVALUATION, seed_for

if TYPE_CHECKING:
    from db1.inference.load import RunParts

PROMPT_RULES = ("top", "sample_peak", "uniform")
_MEMORY, _POLICY, _TEXT = "Prompt and memory", "Policy", "Held-out text"
PRECISIONS = ("float32", "float64", "bfloat16", "float16")


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig(Checked):
    """Everything that decides an evaluation's numbers; results.json keeps it as `settings`.

    Args:
        episodes: Episodes of each task.
        first_episode: Number of the first evaluation seed.
        max_steps: Cut episodes off after these steps (the released script has this, too); their
            returns have no reference then. None: as long as the task lets them.
        policy: `model`, `random` (uniform over the allowed actions), `expert`, or `retrieval` (the
            action of the nearest demonstration step).
        prompt: Prime the memory with a demonstration; None: unless the model learned with
            instructions and without prompts.
        prompt_rule: Which one: `top`: those of the highest return in turn; `sample_peak`: for each
            episode one drawn from the best tenth, `uniform`: from all (both as released).
        prompt_strategy: `moving`: the memory slides over the prompt; `fixed`: the prompt stays in
            front of what is remembered.
        prompt_part: `start` or `end` of the demonstration.
        prompt_fill: Where a demonstration is shorter than the prompt, put further ones after it.
        prompt_tokens: Tokens of a prompt; None: the memory length, half of it when fixed.
        num_prompts: Demonstrations that rule `top` takes in turn.
        memory_length: Tokens that a step can look back on; 0: a step sees only itself; None: what
            the model was trained with.
        instruction: Words that take the place of the task's own, for a model that learned with
            instructions; empty: it is told nothing; None: the task's.
        greedy: Take the best action; else sample.
        temperature: Of sampling.
        seed: Of sampling, of the random policy and of random weights.
        precision: Of the model: `float32`, `float64` (results then depend on rounding no more),
            `bfloat16` or `float16`.
        random_weights: Fresh weights in place of the trained ones (the control experiment).
        text: Score the run's held-out text.
        text_memory_length: Tokens carried between windows of text; None: what the model was
            trained with.
        max_text_tokens: Held-out tokens of each corpus that are scored; None: all.
        pairs: How captions and answers about held-out images are scored; None: not at all.
        reference: Name of the returns that scores are normalised by: `store`, `measured`, a
            published one, or `none`; None: the store's, else the measured ones.
    """

    episodes: Count = option(20, "Episodes per task.")
    first_episode: Natural = option(0, "Number of the first evaluation seed.")
    max_steps: Count | None = option(
        None, "Cut episodes off after this many steps; only raw returns are reported then."
    )
    policy: str = option(
        "model", "model, random, expert, or retrieval (nearest demonstration step).", panel=_POLICY
    )
    prompt: bool | None = option(
        None,
        "Prime the memory with a demonstration; default: unless trained with instructions and "
        "without prompts.",
        panel=_MEMORY,
        two_way=True,
    )
    prompt_rule: str = option(
        "top",
        "Which one: top (return), sample_peak (drawn from the best tenth) or uniform.",
        panel=_MEMORY,
    )
    prompt_strategy: str = option(
        "moving",
        "moving: the memory slides over the prompt; fixed: it stays in front.",
        panel=_MEMORY,
    )
    prompt_part: str = option("start", "start or end of the demonstration.", panel=_MEMORY)
    prompt_fill: bool = option(
        False, "Put further demonstrations after a short one.", panel=_MEMORY, two_way=True
    )
    prompt_tokens: Natural | None = option(
        None,
        "Tokens of the prompt; default: the memory, half of it when fixed.",
        panel=_MEMORY,
    )
    num_prompts: Count = option(16, "Demonstrations that rule top takes in turn.", panel=_MEMORY)
    memory_length: Natural | None = option(
        None, "Tokens of memory; default: as trained.", panel=_MEMORY, name="memory"
    )
    instruction: str | None = option(
        None,
        "Words in place of the task's own, for models that learned with instructions.",
        panel=_MEMORY,
    )
    greedy: bool = option(
        True,
        "Sample actions; default: take the likeliest.",
        panel=_POLICY,
        name="sample",
        negated=True,
    )
    temperature: Positive = option(1.0, "Sampling temperature.", panel=_POLICY)
    seed: Seed = option(
        0, "Seed of sampling, prompts, the random policy and random weights.", panel=_POLICY
    )
    precision: str = option(
        "float32", "Precision of the model: float32, float64, bfloat16 or float16.", panel=_POLICY
    )
    random_weights: bool = option(
        False, "Use random weights: the control experiment.", panel=_POLICY
    )
    text: bool = option(True, "Score the run's held-out text.", panel=_TEXT, two_way=True)
    text_memory_length: Natural | None = option(
        None,
        "Tokens carried between windows; default: as trained.",
        panel=_TEXT,
        name="text_memory",
    )
    max_text_tokens: Annotated[int, Range(least=2)] | None = option(
        None, "Most tokens per corpus; default: all.", panel=_TEXT
    )
    pairs: PairScoring | None = nested(
        PairScoring, "Score captions and answers.", panel=PAIRS_PANEL
    )
    reference: str | None = option(
        None,
        "store, measured, db1, jat, d4rl, atari-human, or none for raw returns; default: the "
        "demonstrations' own, else measured.",
        panel="Reference returns",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.pairs, Mapping):  # as results.json has them
            object.__setattr__(self, "pairs", PairScoring(**self.pairs))
        for name, known in (
            ("policy", POLICIES),
            ("prompt_rule", PROMPT_RULES),
            ("prompt_strategy", PROMPT_STRATEGIES),
            ("prompt_part", PROMPT_PARTS),
            ("precision", PRECISIONS),
        ):
            check_one_of(name, getattr(self, name), known)
        if self.first_episode + self.episodes > len(EVALUATION):
            raise ConfigError(f"episodes: there are only {len(EVALUATION)} evaluation seeds")
        check_choice(self.reference)
        if self.random_weights and self.policy != "model":
            raise ConfigError(f"random_weights goes with policy model, got {self.policy!r}")

    @property
    def seeds(self) -> list[int]:
        """The evaluation seeds, one an episode."""
        return [seed_for("evaluation", self.first_episode + i) for i in range(self.episodes)]

    @property
    def prompt_length(self) -> int:
        """Tokens of a prompt, with the memory length filled in; 0: there is none."""
        memory = self.memory_length or 0
        if self.prompt is False or self.policy != "model" or memory == 0:
            return 0
        if self.prompt_tokens is not None:
            return self.prompt_tokens
        return memory if self.prompt_strategy == "moving" else memory // 2

    @property
    def needs_demonstrations(self) -> bool:
        """Tells whether a task can only be evaluated with demonstrations at hand."""
        return self.policy == "retrieval" or (
            self.policy == "model"
            and self.prompt is not False
            and self.memory_length != 0
            and self.prompt_tokens != 0
        )


def as_trained(config: EvaluationConfig, run: RunParts) -> EvaluationConfig:
    """The settings with what they leave open filled in from how the model was trained.

    Raises:
        ConfigError: An instruction for a model that learned without.
    """
    sequence, model = run.sequence_config, run.model_config
    if config.instruction is not None and not sequence.instruction:
        raise ConfigError(
            f"instruction {config.instruction!r}: {run.folder} learned without instructions "
            "(sequence.instruction); drop it"
        )
    prompted = not sequence.instruction or sequence.prompt_probability > 0
    memory = run.context_length
    if sequence.instruction and model.attention_span is not None:
        memory = min(memory, model.attention_span // 2)  # the words in front are to be seen, too
    return replace(
        config,
        prompt=prompted if config.prompt is None else config.prompt,
        memory_length=_default(config.memory_length, memory),
        text_memory_length=_default(config.text_memory_length, model.memory_length),
    )


def _default(value: int | None, default: int) -> int:
    return default if value is None else value


PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "default": {},
        "released": {
            "episodes": 5,
            "prompt": True,
            "prompt_rule": "uniform",
            "prompt_strategy": "moving",
            "prompt_part": "start",
            "prompt_fill": True,
            "greedy": True,
            "seed": 42,
            "text": False,
            "pairs": None,
        },
        "publication": {"episodes": 50},
    }
)
"""Settings by name. `released` is what DB1's evaluation script does: 5 trials, and for each a
prompt from the start of a demonstration drawn from all of its minimal data (an expert's), filled up
with others, that the memory slides over; its rule for whole data sets is `sample_peak`."""


def preset(name: str, **given: Any) -> EvaluationConfig:
    """The settings of a preset, but for those given.

    Raises:
        ConfigError: For an unknown preset, or settings that cannot be used.
    """
    check_one_of("preset", name, PRESETS)
    return EvaluationConfig(**{**PRESETS[name], **given})
