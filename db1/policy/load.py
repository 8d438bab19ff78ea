"""A run folder -> the parts that act and write: model, id ranges, tokenizer, step specs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from db1.checkpoint.run import FOLDER, MANIFEST_FILE, WEIGHTS_FILE, resolve_checkpoint
from db1.checkpoint.weights import read_weights
from db1.config import build, load_yaml
from db1.errors import CheckpointError, ConfigError, DataError
from db1.model.config import ModelConfig
from db1.model.transformer_xl import TransformerXL
from db1.sequence.episode import SequenceConfig
from db1.sequence.step import StepCodec
from db1.tokens.spec import StepSpec
from db1.tokens.text import TextTokenizer
from db1.tokens.vocabulary import Vocabulary, VocabularyConfig

CONFIG_FILE = "config.yaml"
SPECS_FILE = "specs.json"
TOKENIZER_FILE = "tokenizer.json"


@dataclass(frozen=True, kw_only=True)
class RunParts:
    """What a run folder holds beside its weights.

    Args:
        folder: The run folder.
        config: The resolved configuration.
        vocabulary: Id ranges.
        tokenizer: Text <-> ids; None where the run has no text.
        specs: Step spec of each task that the run learned.
    """

    folder: Path
    config: Mapping[str, Any]
    vocabulary: Vocabulary
    tokenizer: TextTokenizer | None
    specs: Mapping[str, StepSpec]

    @property
    def model_config(self) -> ModelConfig:
        """Architecture of the run's model."""
        return build(ModelConfig, self.config.get("model"), "model")

    @property
    def sequence_length(self) -> int:
        """Tokens of a training sequence."""
        return build(SequenceConfig, self.config.get("sequence"), "sequence").length

    @property
    def context_length(self) -> int:
        """Tokens that the model can look back on: its memory, or without one a sequence."""
        return self.model_config.memory_length or self.sequence_length

    def codec(self, spec: StepSpec) -> StepCodec:
        """Step <-> ids for a task of this spec."""
        return StepCodec(spec, self.vocabulary, self.tokenizer, self.model_config.patch_size)


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


def read_run(run: Path | str) -> RunParts:
    """Reads config.yaml, specs.json and tokenizer.json of a run folder.

    Raises:
        ConfigError: When the folder is no run, or its configuration cannot be used.
        DataError: For broken specs or a broken tokenizer.
    """
    run = Path(run)
    if not (run / CONFIG_FILE).is_file():
        raise ConfigError(f"{run}: no run folder, it has no {CONFIG_FILE}; `db1 train` makes one")
    config = load_yaml(run / CONFIG_FILE)
    has_text = (run / TOKENIZER_FILE).is_file()
    return RunParts(
        folder=run,
        config=config,
        vocabulary=Vocabulary(build(VocabularyConfig, config.get("vocabulary"), "vocabulary")),
        tokenizer=TextTokenizer.load(run / TOKENIZER_FILE) if has_text else None,
        specs=_read_specs(run / SPECS_FILE),
    )


def load_agent_parts(
    run: Path | str,
    checkpoint: str | None = None,
    *,
    random_weights: bool = False,
    seed: int = 0,
    device: str | None = None,
) -> LoadedRun:
    """Loads a run folder with its model.

    Args:
        run: The run folder: config.yaml, specs.json, tokenizer.json and checkpoints.
        checkpoint: Tag such as `step-00000100`; None: the newest valid one.
        random_weights: Fresh weights in place of the trained ones (the control experiment).
        seed: Of the random weights.
        device: torch device; None: CUDA where there is one.

    Raises:
        ConfigError: When the folder is no run, or its configuration cannot be used.
        CheckpointError: Without a valid checkpoint, or when it does not fit the model.
    """
    parts = read_run(run)
    if random_weights and checkpoint is not None:
        raise ConfigError(f"checkpoint {checkpoint!r} and random weights exclude each other")
    tag, sha256, weights = None, None, None
    if not random_weights:
        tag, sha256, weights = _read_checkpoint(parts.folder, checkpoint)
    model = _build_model(parts, weights, seed)
    return LoadedRun(
        **{field.name: getattr(parts, field.name) for field in fields(parts)},
        model=model.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval(),
        tag=tag,
        sha256=sha256,
    )


def _read_checkpoint(run: Path, checkpoint: str | None) -> tuple[str, str, dict[str, torch.Tensor]]:
    """Tag, SHA-256 and tensors of the weights."""
    wanted = run if checkpoint is None else run / FOLDER / checkpoint
    found = resolve_checkpoint(wanted, only=(WEIGHTS_FILE,))
    manifest = json.loads((found.folder / MANIFEST_FILE).read_text(encoding="utf-8"))
    weights = read_weights(found.folder / WEIGHTS_FILE)
    return found.folder.name, manifest["files"][WEIGHTS_FILE]["sha256"], weights


def _build_model(
    parts: RunParts, weights: Mapping[str, torch.Tensor] | None, seed: int
) -> TransformerXL:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vocabulary = parts.vocabulary
        model = TransformerXL(parts.model_config, vocabulary.size, vocabulary.bin_range())
    if weights is not None:
        try:
            model.load_state_dict(weights)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:400]
            raise CheckpointError(
                f"{parts.folder}: the weights do not fit {CONFIG_FILE}: {reason}"
            ) from error
    return model


def _read_specs(path: Path) -> dict[str, StepSpec]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {task: StepSpec.from_dict(spec) for task, spec in content.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: no step specs by task ({error!r}); train again") from error
