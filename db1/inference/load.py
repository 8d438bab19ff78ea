"""A model folder -> the parts that act and write: model, id ranges, tokenizer, step specs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch

from db1.checkpoint.bundle import SPECS_FILE, Bundle, kind_of, meta_model, read_bundle
from db1.checkpoint.released_folder import find_states
from db1.config import build
from db1.errors import ConfigError, DataError
from db1.model.config import ModelConfig
from db1.model.transformer_xl import TransformerXL
from db1.sequence.episode import SequenceConfig
from db1.sequence.step import StepCodec
from db1.tokens.instruction import Instruction, parse_instruction
from db1.tokens.spec import StepSpec
from db1.tokens.text import TextTokenizer
from db1.tokens.vocabulary import Vocabulary


@dataclass(frozen=True, kw_only=True)
class RunParts:
    """Content of a run folder beside its weights.

    Args:
        folder: The run folder.
        config: The resolved configuration.
        vocabulary: Id ranges.
        tokenizer: Text <-> ids; None where the run has no text.
        specs: Step spec of each task that the run learned.
        chosen: Stored episodes that each few-shot task was learned from.
        instructions: What each task that the run learned is to do, in words; empty where it
            learned without instructions.
    """

    folder: Path
    config: Mapping[str, Any]
    vocabulary: Vocabulary
    tokenizer: TextTokenizer | None
    specs: Mapping[str, StepSpec]
    chosen: Mapping[str, Sequence[int]]
    instructions: Mapping[str, Instruction] = field(default_factory=dict)

    @property
    def model_config(self) -> ModelConfig:
        """Architecture of the run's model."""
        return build(ModelConfig, self.config.get("model"), "model")

    @property
    def sequence_config(self) -> SequenceConfig:
        """Shape of the training sequences."""
        return build(SequenceConfig, self.config.get("sequence"), "sequence")

    @property
    def sequence_length(self) -> int:
        """Tokens of a training sequence."""
        return self.sequence_config.length

    @property
    def context_length(self) -> int:
        """Tokens that the model can look back on: its memory, or without one a sequence."""
        return self.model_config.memory_length or self.sequence_length

    def codec(self, spec: StepSpec, instruction_field: str | None = None) -> StepCodec:
        """Step <-> ids for a task of this spec.

        Args:
            spec: Fields of a step.
            instruction_field: See `StepCodec`.
        """
        patches = self.model_config.patches
        return StepCodec(spec, self.vocabulary, self.tokenizer, patches, instruction_field)


@dataclass(frozen=True, kw_only=True)
class LoadedRun(RunParts):
    """A run with its model, ready to act.

    Args:
        model: In evaluation mode, on its device.
        tag: Name of the checkpoint; None with random weights.
        sha256: Of the checkpoint's weights; None with random weights.
    """

    model: TransformerXL
    tag: str | None
    sha256: str | None


def locate_model(folder: Path | str, tag: str | None) -> tuple[Path, str | None]:
    """The model that a folder and a tag name: a tag of the published checkpoint is a folder.

    Args:
        folder: A run folder, a safetensors folder, or the published checkpoint.
        tag: Checkpoint of a run, tag of a published checkpoint; None: the newest.

    Returns:
        What `load_agent_parts` takes: the folder and the tag in it.

    Raises:
        ConfigError: When there is no model, or none of this tag.
    """
    folder = Path(folder)
    if tag is None or not folder.is_dir() or _layout(folder) != "released":
        return folder, tag
    if find_states(folder / tag) is None:
        tags = sorted(file.parent.name for file in folder.glob("*/*_model_states.pt"))
        raise ConfigError(f"{folder}: no checkpoint of tag {tag!r}, there are {tags or 'none'}")
    return folder / tag, None


def read_run(run: Path | str) -> RunParts:
    """Reads what a model folder of any layout holds beside its weights.

    Raises:
        ConfigError: When the folder holds no model, or its configuration cannot be used.
        DataError: For broken specs or a broken tokenizer.
    """
    return _parts(read_bundle(run, with_weights=False))


def load_agent_parts(
    run: Path | str,
    checkpoint: str | None = None,
    *,
    random_weights: bool = False,
    seed: int = 0,
    device: str | None = None,
) -> LoadedRun:
    """Loads a model folder of any layout (see `db1.checkpoint.bundle`) with its model.

    Args:
        run: A run folder, a safetensors folder, or the published checkpoint.
        checkpoint: Tag such as `step-00000100`; None: the newest valid one.
        random_weights: Fresh weights in place of the trained ones (the control experiment).
        seed: Of the random weights.
        device: torch device; None: CUDA where there is one.

    Raises:
        ConfigError: When the folder is no run, or its configuration cannot be used.
        CheckpointError: Without a valid checkpoint, or when it does not fit the model.
    """
    if random_weights and checkpoint is not None:
        raise ConfigError(f"checkpoint {checkpoint!r} and random weights exclude each other")
    bundle = read_bundle(run, with_weights=not random_weights, tag=checkpoint)
    parts = _parts(bundle)
    if bundle.weights is None:
        model = _random_model(parts, seed)
    else:
        model = _build_model(parts, bundle.weights)
    return LoadedRun(
        **{entry.name: getattr(parts, entry.name) for entry in fields(parts)},
        model=model.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval(),
        tag=None if random_weights else bundle.tag,
        sha256=bundle.sha256,
    )


def _layout(folder: Path) -> str:
    """Like `kind_of`; a folder of several published tags is one of them, too."""
    if next(folder.glob("*/mp_rank_*_model_states.pt"), None) is not None:
        return "released"
    return kind_of(folder)


def _parts(bundle: Bundle) -> RunParts:
    return RunParts(
        folder=bundle.folder,
        config=bundle.config,
        vocabulary=bundle.vocabulary,
        tokenizer=bundle.tokenizer,
        specs=_step_specs(bundle),
        chosen=bundle.chosen,
        instructions={
            task: parse_instruction(content, f"{bundle.folder}: instruction of {task}")
            for task, content in bundle.instructions.items()
        },
    )


def _build_model(parts: RunParts, weights: Mapping[str, torch.Tensor]) -> TransformerXL:
    """The decoder around weights that fit it, float32; nothing is drawn or copied in vain."""
    model = meta_model(parts.model_config, parts.vocabulary)
    whole = {name: tensor.to(torch.float32) for name, tensor in weights.items()}
    model.load_state_dict(whole, assign=True)
    return model


def _random_model(parts: RunParts, seed: int) -> TransformerXL:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vocabulary = parts.vocabulary
        return TransformerXL(parts.model_config, vocabulary.size, vocabulary.bin_range())


def _step_specs(bundle: Bundle) -> dict[str, StepSpec]:
    try:
        return {task: StepSpec.from_dict(spec) for task, spec in bundle.specs.items()}
    except DataError as error:
        raise DataError(f"{bundle.folder / SPECS_FILE}: {error}; train again") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{bundle.folder}: {SPECS_FILE} has no step specs by task ({error!r}); train again"
        ) from error
