"""The engine on DeepSpeed: any number of processes, ZeRO stages 0 to 3.

Written against DeepSpeed 0.19. A checkpoint of another number of processes, stage or engine is
taken up parameter by parameter (`db1.training.state.resharding`).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from db1.checkpoint.adapter import ModelFiles
from db1.checkpoint.run import Checkpoint
from db1.checkpoint.states import check_states
from db1.errors import CheckpointError
from db1.model.batch import Batch
from db1.training.config import TrainingConfig
from db1.training.engines.compiling import compile_layers
from db1.training.engines.engine import (
    MicroBatchLoss,
    TrainingEngine,
    detached_losses,
    make_optimizer,
    optimizer_names,
    set_learning_rate,
    to_device,
)
from db1.training.processes import Processes
from db1.training.state.resharding import DEEPSPEED_FOLDER, is_same_layout, stored_optimizer
from db1.training.state.stored_optimizer import MOMENTS, StoredOptimizer, fresh_state, place_in_adam

logger = logging.getLogger(__name__)


def deepspeed_config(
    config: TrainingConfig, world_size: int, device_type: str = "cpu"
) -> dict[str, Any]:
    """Our settings as DeepSpeed's configuration.

    In bf16 and fp16 the gradients of a step's micro-batches are added up in float32. At stage 1
    DeepSpeed can do that in an optimizer of another kind only, so that stage 2 stands for it where
    there is more than one micro-batch; what is sharded of the optimizer is the same.

    Args:
        config: Training settings.
        world_size: Number of processes.
        device_type: `cpu` or `cuda`, where gradients are summed while the next are computed.
    """
    accumulation, stage = config.accumulation(world_size), config.zero_stage
    if stage == 1 and config.precision != "fp32" and accumulation > 1:
        stage = 2
    overlaps = device_type == "cuda" and stage in (1, 2) and not config.deterministic
    zero: dict[str, Any] = {"stage": stage} | ({"overlap_comm": True} if overlaps else {})
    exact = stage >= 2 and config.precision != "fp32"
    return {
        "train_batch_size": config.global_batch_size,
        "train_micro_batch_size_per_gpu": config.micro_batch_size,
        "gradient_accumulation_steps": accumulation,
        "gradient_clipping": config.gradient_clipping,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "bf16": {"enabled": config.precision == "bf16"},
        "fp16": {"enabled": config.precision == "fp16"},
        "data_types": {"grad_accum_dtype": "fp32"} if exact else {},
    }


class DeepSpeedEngine(TrainingEngine):
    """See the module's docstring.

    Args:
        model: As for `make_engine`; while the engine lives, calling it returns the tuple
            (loss_sum, sample_loss, sample_targets), for DeepSpeed sees tensors in tuples only.
        config: Training settings.
        processes: This process and the others.
        files: What a checkpoint holds of the model.
        resumes: The checkpoint that `load` will be called with, None for none.
    """

    def __init__(
        self,
        model: nn.Module,
        config: TrainingConfig,
        processes: Processes,
        files: ModelFiles,
        *,
        resumes: Checkpoint | None = None,
    ) -> None:
        import deepspeed

        super().__init__(config, processes, files)
        self._reshards = resumes is not None and not is_same_layout(
            resumes, config, processes.world_size
        )
        if resumes is not None and self._reshards:  # DeepSpeed makes its masters from them
            files.read(resumes.folder, model)
        self._hook = model.register_forward_hook(
            lambda module, arguments, out: (out.loss_sum, out.sample_loss, out.sample_targets)
        )
        self._trainable = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        self._optimizer_names = optimizer_names(self._trainable)  # before shapes are cut up
        self._optimizer = GatedAdamW(make_optimizer(self._trainable, config))
        self._engine, *_ = deepspeed.initialize(
            model=model,
            optimizer=self._optimizer,
            config=deepspeed_config(config, processes.world_size, processes.device.type),
            dist_init_required=False,
        )
        self._engine._copy_recovery_script = lambda folder: None  # would leave a script there
        if config.compile:
            compile_layers(self._engine.module, processes.device.type)
        self._engine.train()

    def loss_scale(self, total_targets: float) -> float:
        """DeepSpeed averages gradients over processes; over micro-batches we ask it not to."""
        return self.processes.world_size / total_targets

    def _forward_backward(self, batch: Batch, scale: float) -> MicroBatchLoss:
        if self._taken:
            self._engine.step()  # between micro-batches it only counts
        loss_sum, losses_B, targets_B = self._engine(batch)
        self._engine.backward(loss_sum * scale, scale_wrt_gas=False)
        return detached_losses(losses_B, targets_B)

    def _step(self, learning_rate: float, accept: Callable[[float], bool]) -> float:
        set_learning_rate(self._engine.optimizer, learning_rate)
        if self.config.zero_stage == 0 and self.config.precision == "fp32":
            norm = self.processes.broadcast(self._plain_norm())
            self._optimizer.open_for(lambda: accept(norm))
            self._engine.step()
        else:
            self._optimizer.open_for(lambda: accept(self._sharded_norm()))
            self._engine.step()
            norm = self._sharded_norm()
        self._optimizer.settle()  # DeepSpeed by itself leaves out a step with an infinite norm
        self._clear_gradients()
        return norm

    def _sharded_norm(self) -> float:
        """DeepSpeed's norm of the step, known before it calls the optimizer."""
        norm = getattr(self._engine.optimizer, "_global_grad_norm", None)
        norm = self._engine.get_global_grad_norm() if norm is None else norm
        norm = float("nan") if norm is None else float(norm)
        return norm if norm >= 0 else math.nan  # DeepSpeed says -1 for a norm that is not finite

    def _clear_gradients(self) -> None:
        """Zeroes the gradients at stage 3, where DeepSpeed only overwrites them.

        A weight without a gradient in the first micro-batch of a step (the vision encoder when it
        holds no image) would start from its gradient of the step before.
        """
        if self.config.zero_stage == 3:
            self._engine.optimizer.grad_partitions_flat_buffer.zero_()

    def _plain_norm(self) -> float:
        """Gradient norm at stage 0 in fp32, where DeepSpeed keeps none."""
        gradients = [p.grad for p in self._engine.module.parameters() if p.grad is not None]
        return float(nn.utils.get_total_norm(gradients))

    @torch.no_grad()
    def evaluate(self, batch: Batch) -> MicroBatchLoss:
        self._engine.eval()
        try:
            out = self._engine.module(to_device(batch, self.processes.device))
        finally:
            self._engine.train()
        return detached_losses(*out[1:])

    def save(self, folder: Path) -> None:
        """As `TrainingEngine.save`; what fails is raised when no process waits for another."""
        failures = CollectedFailures(self._engine.checkpoint_engine)
        self._engine.checkpoint_engine = failures
        try:
            self._engine.save_checkpoint(str(folder), tag=DEEPSPEED_FOLDER, save_latest=False)
        finally:
            self._engine.checkpoint_engine = failures.writer
        weights = self._full_weights()
        failures.raise_first()
        if self.processes.rank == 0:
            self.files.write(folder, weights)

    def _full_weights(self) -> dict[str, Tensor]:
        """All weights by name on the first process, gathered one by one at stage 3."""
        module = self._engine.module
        if self.config.zero_stage < 3:
            return module.state_dict()
        import deepspeed

        weights: dict[str, Tensor] = dict(module.named_buffers())
        stored: dict[int, Tensor] = {}
        for name, parameter in module.named_parameters(remove_duplicate=False):
            with deepspeed.zero.GatheredParameters([parameter]):
                if self.processes.rank == 0 and id(parameter) not in stored:
                    stored[id(parameter)] = parameter.detach().cpu().clone()
            if self.processes.rank == 0:
                weights[name] = stored[id(parameter)]
        persistent = module.state_dict(keep_vars=True).keys()
        return {name: tensor for name, tensor in weights.items() if name in persistent}

    def load(self, found: Checkpoint) -> None:
        if self._reshards:
            with stored_optimizer(found, self._optimizer_names, self.processes) as stored:
                place_optimizer(self._engine, self._trainable, stored)
            return
        check_states(found.folder / DEEPSPEED_FOLDER)
        path, _ = self._engine.load_checkpoint(str(found.folder), tag=DEEPSPEED_FOLDER)
        if path is None:
            raise CheckpointError(
                f"{found.folder / DEEPSPEED_FOLDER}: DeepSpeed finds no state there"
            )

    def close(self) -> None:
        self._hook.remove()
        self._engine.destroy()


class CollectedFailures:
    """DeepSpeed's writer of files, whose errors wait until all processes are through.

    Raised at once, they would leave the other processes waiting for this one.

    Args:
        writer: A DeepSpeed `CheckpointEngine`.
    """

    def __init__(self, writer: Any) -> None:
        self.writer = writer
        self._failures: list[Exception] = []

    def save(self, state_dict: Any, path: str) -> None:
        """Writes a file."""
        self._collect(lambda: self.writer.save(state_dict, path))

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Makes a folder."""
        self._collect(lambda: self.writer.makedirs(path, exist_ok=exist_ok))

    def raise_first(self) -> None:
        """Raises the first error, if any."""
        if self._failures:
            raise self._failures[0]

    def _collect(self, work: Callable[[], Any]) -> None:
        try:
            work()
        except (OSError, RuntimeError) as error:
            self._failures.append(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.writer, name)


class GatedAdamW(torch.optim.AdamW):
    """AdamW that takes a step only where it is wanted.

    DeepSpeed knows the gradient norm inside its own step, and calls the optimizer once for each
    part of the weights after that; so the question is asked at the first of these calls.

    Args:
        plain: Gives groups of parameters and settings.
    """

    def __init__(self, plain: torch.optim.AdamW) -> None:
        super().__init__(plain.param_groups)
        self._wanted: Callable[[], bool] = lambda: True
        self._is_wanted: bool | None = None

    def open_for(self, wanted: Callable[[], bool]) -> None:
        """Sets the question that the next step, in all its parts, asks once."""
        self._wanted, self._is_wanted = wanted, None

    def settle(self) -> None:
        """Asks the question where no part of the step did."""
        if self._is_wanted is None:
            self._is_wanted = self._wanted()

    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Takes the step, or does nothing."""
        self.settle()
        return super().step(closure) if self._is_wanted else None


def place_optimizer(
    engine: Any, named: Sequence[tuple[str, nn.Parameter]], stored: StoredOptimizer
) -> None:
    """Gives a fresh DeepSpeed engine the optimizer's state of a checkpoint, stage by stage.

    Args:
        engine: DeepSpeed's, at any stage.
        named: Trainable parameters by name.
        stored: What a checkpoint holds.

    Raises:
        CheckpointError: When the checkpoint lacks a parameter.
    """
    optimizer, stage = engine.optimizer, engine.zero_optimization_stage()
    if stage == 0:
        place_in_adam(optimizer, dict(named), stored)
        return
    flat = (
        optimizer.single_partition_of_fp32_groups
        if stage < 3
        else optimizer.fp32_partitioned_groups_flat
    )
    for partition in flat:
        optimizer.optimizer.state[partition] = fresh_state(partition, stored.steps)
    if stage < 3:
        optimizer._lazy_init_hp_params_optimizer_state()
    place = _place_whole if stage < 3 else _place_part
    for name, parameter in named:
        shape = parameter.ds_shape if stage == 3 else parameter.shape
        state = stored.read(name, shape)
        if state.master is not None:
            place(parameter, state.master, None)
        for key in MOMENTS:
            place(parameter, getattr(state, key), key)


def _place_whole(parameter: nn.Parameter, value: Tensor, key: str | None) -> None:
    """Stages 1 and 2: DeepSpeed takes this process's part of a whole tensor."""
    from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state

    value = value.to(parameter.device)
    if key is None:
        safe_set_full_fp32_param(parameter, value)
    else:
        safe_set_full_optimizer_state(parameter, value, key)


def _place_part(parameter: nn.Parameter, value: Tensor, key: str | None) -> None:
    """Stage 3: a parameter is cut in equal parts, the last one padded, one a process."""
    from deepspeed.utils import safe_set_local_fp32_param, safe_set_local_optimizer_state

    size = parameter.ds_tensor.numel()
    start = size * torch.distributed.get_rank(parameter.ds_process_group)
    part = torch.zeros(size, device=parameter.ds_tensor.device)
    own = value.flatten()[start : start + size]
    part[: len(own)].copy_(own)
    if key is None:
        safe_set_local_fp32_param(parameter, part)
    else:
        safe_set_local_optimizer_state(parameter, part, key)
