"""Engines: gradients and optimizer steps behind one small interface.

One optimizer step of the loop is

    scale = engine.loss_scale(targets of the whole global batch)
    for batch in micro_batches:  engine.train_micro_batch(batch, scale)
    norm = engine.step(learning_rate)

and its gradient is that of (sum of the losses of all targets) / (number of all targets) over the
whole global batch, whatever the number of processes and micro-batches.

`TorchEngine` here runs one process with nothing but torch; `DeepSpeedEngine` runs any number.
"""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from db1.checkpoint.adapter import ModelFiles
from db1.checkpoint.run import Checkpoint
from db1.checkpoint.states import load_state
from db1.model.batch import Batch
from db1.training.config import TrainingConfig
from db1.training.engines.compiling import compile_layers
from db1.training.processes import Processes
from db1.training.state.resharding import TORCH_STATE_FILE, is_same_layout, stored_optimizer
from db1.training.state.stored_optimizer import place_in_adam

logger = logging.getLogger(__name__)

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, kw_only=True)
class MicroBatchLoss:
    """Losses of one micro-batch of B sequences, detached, still on the device that computed them.

    Args:
        sample_losses: Floating (B,): sum of each sequence's losses.
        sample_targets: int64 (B,): number of each sequence's targets.
    """

    sample_losses: Tensor
    sample_targets: Tensor


@dataclass(frozen=True, kw_only=True)
class LossValues:
    """The same as numbers.

    Args:
        losses: Sum of each sequence's losses, length B.
        targets: Number of each sequence's targets, length B.
    """

    losses: tuple[float, ...]
    targets: tuple[int, ...]


def read_losses(micro_batches: Sequence[MicroBatchLoss]) -> list[LossValues]:
    """Copies the losses of several micro-batches to the host in one transfer.

    The host waits for the device here, and nowhere between the micro-batches of a step.
    """
    if not micro_batches:
        return []
    losses_N = torch.cat([each.sample_losses.double() for each in micro_batches])
    targets_N = torch.cat([each.sample_targets.double() for each in micro_batches])
    losses, targets = torch.stack((losses_N, targets_N)).tolist()
    values, first = [], 0
    for each in micro_batches:
        rows = slice(first, first + len(each.sample_losses))
        counts = tuple(int(count) for count in targets[rows])
        values.append(LossValues(losses=tuple(losses[rows]), targets=counts))
        first = rows.stop
    return values


class TrainingEngine(ABC):
    """A model, its optimizer and the processes that share them.

    Args:
        config: Training settings, checked against the machine.
        processes: This process and the others.
        files: What a checkpoint holds of the model.
    """

    def __init__(self, config: TrainingConfig, processes: Processes, files: ModelFiles) -> None:
        self.config = config
        self.processes = processes
        self.files = files
        self.accumulation = config.accumulation(processes.world_size)
        self._taken = 0

    @property
    def is_boundary(self) -> bool:
        """True when all micro-batches of a step are taken and `step` is due."""
        return self._taken == self.accumulation

    @abstractmethod
    def loss_scale(self, total_targets: float) -> float:
        """Factor of each micro-batch's summed loss, see the module's docstring.

        Args:
            total_targets: Weight of all targets in the global batch, over all processes.
        """

    def train_micro_batch(self, batch: Batch, scale: float) -> MicroBatchLoss:
        """Runs the model forward and backward, adding to the gradients.

        Args:
            batch: One micro-batch, on the CPU or the device.
            scale: From `loss_scale`.
        """
        if self.is_boundary:
            raise RuntimeError("all micro-batches are taken, call step()")
        losses = self._forward_backward(to_device(batch, self.processes.device), scale)
        self._taken += 1
        return losses

    def step(self, learning_rate: float, accept: Callable[[float], bool] = math.isfinite) -> float:
        """Takes the optimizer step after the last micro-batch, or drops the gradients.

        Args:
            learning_rate: Of this step.
            accept: Told the global gradient norm, the same in all processes; False: weights and
                optimizer stay as they are. (In fp16 a norm that is not finite never moves them.)

        Returns:
            The global gradient norm before clipping; not finite when the gradients were not.
        """
        if not self.is_boundary:
            raise RuntimeError(f"{self._taken} of {self.accumulation} micro-batches taken")
        self._taken = 0
        return self._step(learning_rate, accept)

    @abstractmethod
    def evaluate(self, batch: Batch) -> MicroBatchLoss:
        """Runs the model forward in evaluation mode, without gradients."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Writes weights (`model.safetensors`) and optimizer state; all processes call it."""

    @abstractmethod
    def load(self, found: Checkpoint) -> None:
        """Takes up what `save` wrote, here or with another engine, stage or number of processes.

        All processes call it.

        Args:
            found: The checkpoint; the one that `make_engine` was told of.

        Raises:
            CheckpointError: When it cannot be taken up here.
        """

    @abstractmethod
    def close(self) -> None:
        """Lets go of the model."""

    @abstractmethod
    def _forward_backward(self, batch: Batch, scale: float) -> MicroBatchLoss: ...

    @abstractmethod
    def _step(self, learning_rate: float, accept: Callable[[float], bool]) -> float: ...


class TorchEngine(TrainingEngine):
    """One process, plain torch.

    In bf16 and fp16 the model computes in that precision throughout, as under DeepSpeed, while
    the optimizer works on float32 master weights with float32 gradients.
    """

    def __init__(
        self,
        model: nn.Module,
        config: TrainingConfig,
        processes: Processes,
        files: ModelFiles | None = None,
    ) -> None:
        super().__init__(config, processes, files or ModelFiles())
        self._device = processes.device
        self._model = model.to(self._device).train()
        named = {n: p for n, p in self._model.named_parameters() if p.requires_grad}
        self._weights = list(named.values())
        if config.precision != "fp32":
            named = {name: nn.Parameter(p.detach().float().clone()) for name, p in named.items()}
            for parameter in self._model.parameters():
                parameter.data = parameter.data.to(_DTYPES[config.precision])
        self._named_masters = named
        self._masters = list(named.values())
        self._optimizer = make_optimizer(named.items(), config)
        self._optimizer_names = optimizer_names(named.items())
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=config.precision == "fp16")
        if config.compile:
            compile_layers(self._model, self._device.type)

    def loss_scale(self, total_targets: float) -> float:
        return 1.0 / total_targets

    def _forward_backward(self, batch: Batch, scale: float) -> MicroBatchLoss:
        out = self._model(batch)
        self._scaler.scale(out.loss_sum * scale).backward()
        self._add_to_masters()
        return detached_losses(out.sample_loss, out.sample_targets)

    @torch.no_grad()
    def _add_to_masters(self) -> None:
        """Adds a micro-batch's gradients, bf16 or fp16, to those of the float32 masters."""
        for weight, master in zip(self._weights, self._masters, strict=True):
            if master is weight or weight.grad is None:
                continue
            if master.grad is None:
                master.grad = weight.grad.float()
            else:
                master.grad.add_(weight.grad)
            weight.grad = None

    @torch.no_grad()
    def _step(self, learning_rate: float, accept: Callable[[float], bool]) -> float:
        set_learning_rate(self._optimizer, learning_rate)
        for master in self._masters:
            if master.grad is None:  # as DeepSpeed does: no gradient is a gradient of zero
                master.grad = torch.zeros_like(master)
        self._scaler.unscale_(self._optimizer)
        limit = self.config.gradient_clipping or float("inf")
        norm = float(nn.utils.clip_grad_norm_(self._masters, limit))
        if accept(norm):
            self._scaler.step(self._optimizer)
            self._publish_masters()
        if self._scaler.is_enabled():
            self._scaler.update()
        self._optimizer.zero_grad(set_to_none=True)
        return norm

    @torch.no_grad()
    def _publish_masters(self) -> None:
        for weight, master in zip(self._weights, self._masters, strict=True):
            if master is not weight:
                weight.copy_(master)

    @torch.no_grad()
    def evaluate(self, batch: Batch) -> MicroBatchLoss:
        self._model.eval()
        try:
            out = self._model(to_device(batch, self._device))
        finally:
            self._model.train()
        return detached_losses(out.sample_loss, out.sample_targets)

    def save(self, folder: Path) -> None:
        self.files.write(folder, self._model.state_dict())
        state = {"optimizer": self._optimizer.state_dict(), "scaler": self._scaler.state_dict()}
        if self.config.precision != "fp32":
            state["masters"] = {n: master.detach() for n, master in self._named_masters.items()}
        torch.save(state, folder / TORCH_STATE_FILE)

    def load(self, found: Checkpoint) -> None:
        folder = found.folder
        self.files.read(folder, self._model)
        if not is_same_layout(found, self.config, self.processes.world_size):
            with stored_optimizer(found, self._optimizer_names, self.processes) as stored:
                place_in_adam(self._optimizer, self._named_masters, stored)
            return
        state = load_state(folder / TORCH_STATE_FILE)
        for group in state["optimizer"]["param_groups"]:
            group["fused"] = True  # an older db1 took its steps otherwise
        self._optimizer.load_state_dict(state["optimizer"])
        self._scaler.load_state_dict(state["scaler"])
        if self.config.precision != "fp32":
            for name, master in self._named_masters.items():
                master.data.copy_(state["masters"][name])

    def close(self) -> None:
        self._optimizer.zero_grad(set_to_none=True)


def make_optimizer(
    named: Iterable[tuple[str, nn.Parameter]], config: TrainingConfig
) -> torch.optim.AdamW:
    """AdamW, fused, with weight decay on matrices only: no biases, no norms.

    Args:
        named: Trainable parameters with their names.
        config: Gives weight decay, betas, epsilon.
    """
    return torch.optim.AdamW(
        [
            {
                "params": [parameter for _, parameter in group],
                "weight_decay": config.weight_decay if decays else 0.0,
            }
            for decays, group in _decay_groups(named).items()
            if group
        ],
        lr=config.learning_rate,
        betas=(config.betas[0], config.betas[1]),
        eps=config.epsilon,
        fused=True,
    )


def optimizer_names(named: Iterable[tuple[str, nn.Parameter]]) -> list[str]:
    """Names of the parameters in the order in which `make_optimizer` numbers them."""
    return [name for group in _decay_groups(named).values() for name, _ in group]


def _decay_groups(
    named: Iterable[tuple[str, nn.Parameter]],
) -> dict[bool, list[tuple[str, nn.Parameter]]]:
    """Parameters that decay, and those that do not.

    A bias is known by its name, for the relative biases of the attention are matrices in shape.
    """
    groups: dict[bool, list[tuple[str, nn.Parameter]]] = {True: [], False: []}
    for name, parameter in named:
        is_matrix = parameter.ndim >= 2 and "bias" not in name.rsplit(".", 1)[-1]
        groups[is_matrix].append((name, parameter))
    return groups


def set_learning_rate(optimizer: Any, learning_rate: float) -> None:
    """Sets the learning rate of every parameter group."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate


def detached_losses(losses_B: Tensor, targets_B: Tensor) -> MicroBatchLoss:
    """Detaches the losses (B,) and counts of targets (B,) of a micro-batch from their graph."""
    return MicroBatchLoss(sample_losses=losses_B.detach(), sample_targets=targets_B.detach())


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Returns the batch with all its tensors on a device."""
    if device.type == "cpu":
        return batch
    return _moved(batch, device)


def _moved(value: Any, device: torch.device) -> Any:
    """Moves the tensors in nested dataclasses and tuples; all else stays as it is."""
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if is_dataclass(value):
        parts = {f.name: _moved(getattr(value, f.name), device) for f in fields(value)}
        return replace(value, **parts)
    if isinstance(value, tuple):
        return tuple(_moved(part, device) for part in value)
    return value
