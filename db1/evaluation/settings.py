"""What decides an evaluation's numbers."""

from __future__ import annotations

from dataclasses import dataclass

from db1.errors import ConfigError
from db1.evaluation.policies import POLICIES
from db1.evaluation.references import check_choice
from db1.policy.agent import PROMPT_PARTS
from db1.suites.seeds import EVALUATION, seed_for


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """Everything that decides an evaluation's numbers; results.json keeps it as `settings`.

    Args:
        episodes: Episodes of each task.
        first_episode: Number of the first evaluation seed.
        policy: `model`, `random` (uniform over the allowed actions) or `expert`.
        prompt: Prime the memory with a demonstration.
        prompt_part: `start` or `end` of the demonstration.
        prompt_tokens: Tokens of a demonstration used; None: the memory length.
        num_prompts: Demonstrations taken in turn; the first ones with at least median return.
        memory_length: Tokens that a step can look back on; 0: a step sees only itself; None: what
            the model was trained with.
        greedy: Take the best action; else sample.
        temperature: Of sampling.
        seed: Of sampling, of the random policy and of random weights.
        random_weights: Fresh weights in place of the trained ones (the control experiment).
        text: Score the run's held-out text.
        text_memory_length: Tokens carried between windows of text; None: what the model was
            trained with.
        max_text_tokens: Held-out tokens of each corpus that are scored; None: all.
        reference: Name of the returns that scores are normalised by: `store`, `measured`, a
            published one, or `none`; None: the store's, else the measured ones.
    """

    episodes: int = 20
    first_episode: int = 0
    policy: str = "model"
    prompt: bool = True
    prompt_part: str = "start"
    prompt_tokens: int | None = None
    num_prompts: int = 16
    memory_length: int | None = None
    greedy: bool = True
    temperature: float = 1.0
    seed: int = 0
    random_weights: bool = False
    text: bool = True
    text_memory_length: int | None = None
    max_text_tokens: int | None = None
    reference: str | None = None

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise ConfigError(f"policy: got {self.policy!r}, expected one of {POLICIES}")
        if self.prompt_part not in PROMPT_PARTS:
            raise ConfigError(f"prompt_part: got {self.prompt_part!r}, one of {PROMPT_PARTS}")
        for name, least in (("episodes", 1), ("first_episode", 0), ("num_prompts", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name}: got {getattr(self, name)}, expected {least} or more")
        for name in ("prompt_tokens", "memory_length", "text_memory_length", "max_text_tokens"):
            if getattr(self, name) is not None and getattr(self, name) < 0:
                raise ConfigError(f"{name}: got {getattr(self, name)}, expected at least 0")
        if self.first_episode + self.episodes > len(EVALUATION):
            raise ConfigError(f"episodes: there are only {len(EVALUATION)} evaluation seeds")
        check_choice(self.reference)
        if self.random_weights and self.policy != "model":
            raise ConfigError(f"random_weights goes with policy model, got {self.policy!r}")

    @property
    def seeds(self) -> list[int]:
        """The evaluation seeds, one an episode."""
        return [seed_for("evaluation", self.first_episode + i) for i in range(self.episodes)]
