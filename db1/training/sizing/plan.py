"""Requirements of a training, before it takes anything: `db1 train CONFIG --dry-run`.

Sizes only: the model is built on PyTorch's meta device, data and tokenizer need not exist.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from db1.data.build import DataConfig, SourceFactory
from db1.data.weights import resolve_weights
from db1.errors import DataError
from db1.tokens.vocabulary import Vocabulary
from db1.training.experiment import ExperimentConfig
from db1.training.sizing.footprint import (
    ActingMemory,
    Activations,
    StateMemory,
    acting_memory,
    activations,
    meta_model,
    state_memory,
    torch_state_memory,
)
from db1.training.sizing.work import Work, parameters_by_part, work

ACTING_BATCHES = (1, 16)
"""Episodes at once: one, and what `db1 eval` runs."""


@dataclass(frozen=True, kw_only=True)
class SourcePlan:
    """A source's part of the training.

    Args:
        name: Task or corpus.
        share: Of the sequences.
        sequences: Drawn from it, about.
        stored: Episodes of the task or sequences of the corpus on disk; None: no data there.
        passes: Times that each stored token is drawn, about; None: no data there.
    """

    name: str
    share: float
    sequences: float
    stored: int | None = None
    passes: float | None = None


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """See `plan`.

    Args:
        name: Of the experiment.
        parameters: By part.
        precision: Of the weights in training.
        world_size: Processes.
        accumulation: Micro-batches of a process and optimizer step.
        checkpointing: Whether activations are checkpointed.
        state: By way of training: `ZeRO 0` to `ZeRO 3`, and `torch` for one process.
        configured: The way that the configuration names.
        activations: Of one micro-batch.
        acting: By number of episodes at once.
        tokens_per_step: Of an optimizer step.
        num_steps: Optimizer steps.
        work: Floating point operations.
        sources: Datasets of the mixture.
        sources_unknown: Why `sources` is empty where the mixture hangs on data that is not there.
    """

    name: str
    parameters: Mapping[str, int]
    precision: str
    world_size: int
    accumulation: int
    checkpointing: bool
    state: Mapping[str, StateMemory]
    configured: str
    activations: Activations
    acting: Mapping[int, ActingMemory]
    tokens_per_step: int
    num_steps: int
    work: Work
    sources: tuple[SourcePlan, ...]
    sources_unknown: str | None = None

    @property
    def num_parameters(self) -> int:
        """All of them."""
        return sum(self.parameters.values())

    def needed(self, way: str, checkpointing: bool) -> int:
        """Bytes of one process in all, for one way of `state`."""
        return self.state[way].total + self.activations.total(checkpointing)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for `--json`."""
        memory = {
            way: asdict(state)
            | {
                "needed": self.needed(way, False),
                "needed_with_activation_checkpointing": self.needed(way, True),
            }
            for way, state in self.state.items()
        }
        work = asdict(self.work) | {
            name: getattr(self.work, name) for name in ("per_token", "model", "hardware")
        }
        return {
            "name": self.name,
            "parameters": {**self.parameters, "total": self.num_parameters},
            "training_memory": {
                "precision": self.precision,
                "world_size": self.world_size,
                "accumulation": self.accumulation,
                "activation_checkpointing": self.checkpointing,
                "configured": self.configured,
                "activations": asdict(self.activations),
                "by_way": memory,
            },
            "acting_memory": {
                str(count): asdict(memory) | {"total": memory.total}
                for count, memory in self.acting.items()
            },
            "tokens": {
                "per_step": self.tokens_per_step,
                "num_steps": self.num_steps,
                "total": self.work.tokens,
            },
            "floating_point_operations": work,
            "sources": [asdict(source) for source in self.sources],
            "sources_unknown": self.sources_unknown,
        }


def plan(config: ExperimentConfig, world_size: int = 1) -> TrainingPlan:
    """Works out what an experiment takes, without data and without allocating the model.

    Args:
        config: The experiment.
        world_size: Processes that would train it.

    Raises:
        ConfigError: When the batch sizes do not fit the number of processes.
        DataError: For stores that are there and cannot be read.
    """
    training, length = config.training, config.sequence.length
    training.check_processes(world_size, "cuda")  # a plan is not for this machine
    vocabulary = Vocabulary(config.vocabulary)
    model = meta_model(config.model, vocabulary.size)
    sources, unknown = _sources(config, vocabulary)
    parts = parameters_by_part(model)
    count = sum(parts.values())
    batch, precision = training.micro_batch_size, training.precision
    ways = {
        f"ZeRO {stage}": state_memory(count, precision, stage, world_size) for stage in range(4)
    }
    if world_size == 1:
        ways["torch"] = torch_state_memory(count, precision)
    tokens_per_step = training.global_batch_size * length
    total_tokens = tokens_per_step * training.num_steps
    return TrainingPlan(
        name=config.name,
        parameters=parts,
        precision=precision,
        world_size=world_size,
        accumulation=training.accumulation(world_size),
        checkpointing=config.model.activation_checkpointing,
        state=ways,
        configured="torch" if training.engine == "torch" else f"ZeRO {training.zero_stage}",
        activations=activations(config.model, vocabulary.size, batch, length, precision),
        acting={episodes: acting_memory(model, episodes) for episodes in ACTING_BATCHES},
        tokens_per_step=tokens_per_step,
        num_steps=training.num_steps,
        work=work(config.model, parts, vocabulary.size, length, total_tokens),
        sources=sources,
        sources_unknown=unknown,
    )


def _sources(
    config: ExperimentConfig, vocabulary: Vocabulary
) -> tuple[tuple[SourcePlan, ...], str | None]:
    """The mixture, or why it cannot be told without data."""
    try:
        shares = resolve_weights(config.data)
    except DataError as error:  # shares of `suites`, or by size, are those of what is stored
        return (), str(error)
    drawn = config.training.num_steps * config.training.global_batch_size
    stored = _Stored(config, vocabulary)
    sources = (
        SourcePlan(
            name=name,
            share=float(share),
            sequences=float(drawn * share),
            **stored.figures(name, float(drawn * share)),
        )
        for name, share in shares
    )
    return tuple(sources), None


class _Stored:
    """Size on disk of each source; a source without data has no figures."""

    def __init__(self, config: ExperimentConfig, vocabulary: Vocabulary) -> None:
        self._data: DataConfig = config.data
        self._length = config.sequence.length
        tokenizer = config.data.tokenizer_path()
        self._factory = None
        is_there = not config.sequence.instruction if tokenizer is None else tokenizer.exists()
        if is_there:
            seed = config.training.seed
            self._factory = SourceFactory(
                config.data, config.sequence, vocabulary, seed, config.model.patches
            )

    def figures(self, name: str, sequences: float) -> dict[str, Any]:
        """`stored` and `passes` of a source from which so many sequences are drawn."""
        if self._factory is None:
            return {}
        if name in self._data.text:
            if not (self._data.text_folder(name) / "train.idx").exists():
                return {}
            count = len(self._factory.corpus(name))
            return {"stored": count, "passes": sequences / count}
        if not (self._data.root / name).exists():
            return {}
        source = self._factory.task(name)
        tokens = int(sum(source.store.lengths)) * source.codec.min_step_tokens
        return {
            "stored": source.store.num_episodes,
            "passes": sequences * self._length / tokens,
        }
