"""Gradients and optimizer steps: one interface (`engine.py`), one file for each engine."""

from __future__ import annotations

from torch import nn

from db1.checkpoint.adapter import ModelFiles
from db1.checkpoint.run import Checkpoint
from db1.training.config import TrainingConfig
from db1.training.engines.engine import TorchEngine, TrainingEngine
from db1.training.processes import Processes


def make_engine(
    model: nn.Module,
    config: TrainingConfig,
    processes: Processes,
    *,
    resumes: Checkpoint | None = None,
    files: ModelFiles | None = None,
) -> TrainingEngine:
    """Builds the engine that the configuration names.

    Args:
        model: Called with a Batch, returns `loss_sum`, `sample_loss` (B,), `sample_targets` (B,).
        config: Training settings, checked against the machine.
        processes: This process and the others.
        resumes: The checkpoint that `load` will be called with, None for none.
        files: What a checkpoint holds of the model; None: all its weights.
    """
    if config.engine == "torch":
        return TorchEngine(model, config, processes, files)
    from db1.training.engines.deepspeed_engine import DeepSpeedEngine  # needs DeepSpeed

    return DeepSpeedEngine(model, config, processes, files or ModelFiles(), resumes=resumes)
