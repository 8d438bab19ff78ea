"""One YAML file -> one run: builds data, model and trainer from an `ExperimentConfig`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from db1.checkpoint.bundle import CHOSEN_FILE, INSTRUCTIONS_FILE
from db1.config import build, load_yaml, save_yaml, to_dict
from db1.data.build import DataConfig, SourceFactory
from db1.data.number_ranges import number_ranges
from db1.data.sources import EpisodeSource
from db1.data.stored import stored_sources
from db1.errors import ConfigError
from db1.model.config import ModelConfig
from db1.model.numbers import NumberEncoder
from db1.model.room import TRAINING_BYTES, check_room
from db1.model.transformer_xl import TransformerXL
from db1.runtime import current_rank
from db1.sequence.episode import SequenceConfig
from db1.tokens.vocabulary import Vocabulary, VocabularyConfig
from db1.training.adaptive import AdaptiveConfig, check_heldout
from db1.training.config import TrainingConfig
from db1.training.metrics.context import FlopsPerToken, MetricsContext, SourceGroup
from db1.training.metrics.trackers import check_trackers
from db1.training.mixture import RunMixture
from db1.training.precision import resolve_precision
from db1.training.sizing.footprint import meta_model
from db1.training.sizing.work import parameters_by_part, work
from db1.training.state.finetune import FinetuneConfig, expand, model_files, start_model
from db1.training.state.run_data import RunData


@dataclass(frozen=True, kw_only=True)
class ExperimentConfig:
    """Everything that defines a run.

    Args:
        name: Name of the run; its folder is `<runs>/<name>`.
        runs: Folder of all runs.
        vocabulary: Id ranges and number binning.
        sequence: Length and prompting of the training sequences.
        data: Stores and mixture.
        model: Architecture.
        training: Optimizer, schedule, engine, checkpoints.
        finetune: Where the weights come from; None: they are drawn. See `state/finetune.py`.
        adaptive: How the mixture follows learning progress; None: its shares stay as configured.
        plugins: Files and modules that bring suites of one's own (`db1.suites.plugins`), for
            everything that acts in this run's tasks.
    """

    name: str
    data: DataConfig
    training: TrainingConfig
    runs: Path = Path("runs")
    vocabulary: VocabularyConfig = field(default_factory=VocabularyConfig)
    sequence: SequenceConfig = field(default_factory=SequenceConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    finetune: FinetuneConfig | None = None
    adaptive: AdaptiveConfig | None = None
    plugins: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.name in ("", ".", "..") or "/" in self.name:
            raise ConfigError(f"name: got {self.name!r}, expected a folder name without '/'")

    @property
    def run_folder(self) -> Path:
        """Folder of the run's files."""
        return self.runs / self.name


def load_experiment(
    path: Path | str | Mapping[str, Any], overrides: Sequence[str] = (), *, is_own: bool = True
) -> ExperimentConfig:
    """Reads and checks an experiment file, with what `init_from` brings where it has that key.

    Args:
        path: The YAML file, or its content.
        overrides: `key=value`, dotted.
        is_own: The user's own file; not that of a run, see `load_yaml`.

    Raises:
        ConfigError: Naming what is wrong.
        CheckpointError: `init_from` holds no valid checkpoint.
    """
    raw = load_yaml(path, overrides, (ExperimentConfig, FinetuneConfig), is_own=is_own)
    config = build(ExperimentConfig, expand(raw) if "init_from" in raw else raw)
    return replace(config, training=resolve_precision(config.training, config.run_folder))


def build_model(
    config: ExperimentConfig, vocabulary: Vocabulary, sources: Sequence[object] = ()
) -> nn.Module:
    """Builds the decoder with the weights that the run starts from.

    Args:
        config: The experiment.
        vocabulary: Its id ranges.
        sources: What it learns from; ranges of numbers that the weights do not know come from
            there.
    """
    model: nn.Module = TransformerXL(config.model, vocabulary.size, vocabulary.bin_range())
    if config.finetune is not None:
        model = start_model(model, config.finetune, config.run_folder)
    encoders = [module for module in model.modules() if isinstance(module, NumberEncoder)]
    if encoders:
        ranges = number_ranges(s for s in sources if isinstance(s, EpisodeSource))
        for encoder in encoders:
            encoder.set_ranges(ranges)
    return model


def run_experiment(path: Path | str | Mapping[str, Any], overrides: Sequence[str] = ()) -> Path:
    """Trains the experiment of a YAML file (or of its content); resumes where its folder left off.

    Returns:
        The run folder.
    """
    from db1.training.loop import Trainer  # imports DeepSpeed

    config = load_experiment(path, overrides)
    vocabulary = Vocabulary(config.vocabulary)
    _check_room(config, vocabulary)
    seed = config.training.seed
    check_trackers(config.training.watch)
    factory = SourceFactory(config.data, config.sequence, vocabulary, seed, config.model.patches)
    mixture = RunMixture(factory, config.training, config.run_folder, config.adaptive)
    heldout = factory.evaluation_sets()
    check_heldout(config.adaptive, (name for name, _ in factory.shares()), heldout)
    trainer = Trainer(
        make_model=lambda: build_model(config, vocabulary, mixture.planned.sources),
        dataset=mixture.planned,
        mixture=mixture,
        evaluation_sets=heldout,
        training=config.training,
        run_folder=config.run_folder,
        config=to_dict(config),
        run_files=_run_files(config, factory, mixture.planned.sources),
        files=model_files(config.finetune, config.run_folder),
        context=metrics_context_of(config),
        complete=_with_defaults,
        run_data=RunData(stored_sources(mixture.planned.sources, heldout), config.training),
    )
    trainer.run()
    return config.run_folder


def _check_room(config: ExperimentConfig, vocabulary: Vocabulary) -> None:
    """Refuses sizes that this machine has no memory for, before anything is read or allocated."""
    check_room(
        config.model,
        vocabulary.size,
        bytes_each=TRAINING_BYTES / current_rank().world_size if config.finetune is None else 4,
        num_tokens=config.training.micro_batch_size * config.sequence.length,
        length=config.sequence.length,
    )


def metrics_context_of(config: ExperimentConfig) -> MetricsContext:
    """Facts about an experiment's datasets and model that its records need."""
    text, pairs = frozenset(config.data.text), frozenset(config.data.pairs)

    def group_of(source: str) -> SourceGroup:
        for modality, names in (("text", text), ("pairs", pairs)):
            if source in names:
                return SourceGroup(suite=modality, modality=modality)
        return SourceGroup(suite=source.split("/", 1)[0], modality="control")

    size, length = Vocabulary(config.vocabulary).size, config.sequence.length
    parts = parameters_by_part(meta_model(config.model, size))
    done = work(config.model, parts, size, length, total_tokens=1)
    flops = FlopsPerToken(token=done.layers + done.attention, target=done.output)
    return MetricsContext(group_of=group_of, flops=flops)


def _with_defaults(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """A run's configuration with the settings that came later; as it is where it fits no more."""
    try:
        return to_dict(build(ExperimentConfig, config))
    except ConfigError:
        return config


def _run_files(
    config: ExperimentConfig, factory: SourceFactory, sources: Sequence[object]
) -> dict[str, str]:
    """Text files that make the run folder self-contained."""
    specs = {s.name: s.codec.spec.to_dict() for s in sources if isinstance(s, EpisodeSource)}
    files = {
        "config.yaml": save_yaml(to_dict(config)),
        "specs.json": json.dumps(specs, indent=1),
    }
    if config.sequence.instruction:
        words = {s.name: asdict(s.instruction) for s in sources if isinstance(s, EpisodeSource)}
        files[INSTRUCTIONS_FILE] = json.dumps(words, indent=1)
    chosen = factory.chosen()
    if chosen:
        files[CHOSEN_FILE] = json.dumps(chosen, indent=1)
    if factory.tokenizer is not None:
        files["tokenizer.json"] = factory.tokenizer.to_json()
    return files
