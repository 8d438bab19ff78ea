"""The engine on DeepSpeed: any number of processes, ZeRO stages 0 to 3.

Written against DeepSpeed 0.19. A checkpoint of another number of processes goes through
DeepSpeed's universal format (stages 1 to 3); at stage 0 nothing is sharded and it loads as it is.
"""

from __future__ import annotations

import logging
import math
import shutil
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from db1.errors import CheckpointError
from db1.sequence.sample import Batch
from db1.training.config import TrainingConfig
from db1.training.engine import (
    MicroBatchLoss,
    TrainingEngine,
    detached_losses,
    make_optimizer,
    set_learning_rate,
    to_device,
)
from db1.training.processes import Processes

logger = logging.getLogger(__name__)

STATE_FOLDER = "deepspeed"
UNIVERSAL_FOLDER = "universal.partial"


def deepspeed_config(
    config: TrainingConfig, world_size: int, *, load_universal: bool = False
) -> dict[str, Any]:
    """Our settings as DeepSpeed's configuration.

    Args:
        config: Training settings.
        world_size: Number of processes.
        load_universal: The checkpoint to be loaded is in the universal format.
    """
    return {
        "train_batch_size": config.global_batch_size,
        "train_micro_batch_size_per_gpu": config.micro_batch_size,
        "gradient_accumulation_steps": config.accumulation(world_size),
        "gradient_clipping": config.gradient_clipping,
        "zero_optimization": {"stage": config.zero_stage},
        "zero_allow_untested_optimizer": True,
        "bf16": {"enabled": config.precision == "bf16"},
        "fp16": {"enabled": config.precision == "fp16"},
        "checkpoint": {"load_universal": load_universal},
    }


class DeepSpeedEngine(TrainingEngine):
    """See the module's docstring.

    Args:
        model: As for `make_engine`; while the engine lives, calling it returns the tuple
            (loss_sum, sample_loss, sample_targets), for DeepSpeed sees tensors in tuples only.
        config: Training settings.
        processes: This process and the others.
        written_by: Number of processes that wrote the checkpoint to be loaded, None for none.
    """

    def __init__(
        self,
        model: nn.Module,
        config: TrainingConfig,
        processes: Processes,
        *,
        written_by: int | None = None,
    ) -> None:
        import deepspeed

        super().__init__(config, processes)
        other = written_by is not None and written_by != processes.world_size
        self._universal = other and config.zero_stage > 0
        self._hook = model.register_forward_hook(
            lambda module, arguments, out: (out.loss_sum, out.sample_loss, out.sample_targets)
        )
        trainable = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        self._engine, *_ = deepspeed.initialize(
            model=model,
            optimizer=make_optimizer(trainable, config),
            config=deepspeed_config(config, processes.world_size, load_universal=self._universal),
            dist_init_required=False,
        )
        self._engine.train()

    def loss_scale(self, total_targets: float) -> float:
        """DeepSpeed averages gradients over processes; over micro-batches we ask it not to."""
        return self.processes.world_size / total_targets

    def _forward_backward(self, batch: Batch, scale: float) -> MicroBatchLoss:
        if self._taken:
            self._engine.step()  # between micro-batches it only counts
        loss_sum, losses_B, targets_B = self._engine(batch)
        self._engine.backward(loss_sum * scale, scale_wrt_gas=False)
        return detached_losses(loss_sum, losses_B, targets_B)

    def _step(self, learning_rate: float) -> float:
        set_learning_rate(self._engine.optimizer, learning_rate)
        norm = self._plain_norm() if self.config.zero_stage == 0 else None
        self._engine.step()
        self._clear_gradients()
        if norm is None:
            norm = self._engine.get_global_grad_norm()
        norm = float("nan") if norm is None else float(norm)
        return norm if norm >= 0 else math.nan  # DeepSpeed says -1 for a norm that is not finite

    def _clear_gradients(self) -> None:
        """Zeroes the gradients at stage 3, where DeepSpeed only overwrites them.

        A weight without a gradient in the first micro-batch of a step (the vision encoder when it
        holds no image) would start from its gradient of the step before.
        """
        if self.config.zero_stage == 3:
            self._engine.optimizer.grad_partitions_flat_buffer.zero_()

    def _plain_norm(self) -> float | None:
        """Gradient norm at stage 0 in fp32, where DeepSpeed keeps none."""
        if self.config.precision != "fp32":
            return None
        gradients = [p.grad for p in self._engine.module.parameters() if p.grad is not None]
        return float(nn.utils.get_total_norm(gradients))

    @torch.no_grad()
    def evaluate(self, batch: Batch) -> MicroBatchLoss:
        self._engine.eval()
        try:
            out = self._engine.module(to_device(batch, self.processes.device))
        finally:
            self._engine.train()
        return detached_losses(*out)

    def save(self, folder: Path) -> None:
        self._engine.save_checkpoint(str(folder), tag=STATE_FOLDER, save_latest=False)
        weights = self._full_weights()
        if self.processes.rank == 0:
            self.files.write(folder, weights)
            for script in folder.glob("zero_to_*.py"):  # DeepSpeed leaves one there
                script.unlink()

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

    def load(self, folder: Path, world_size: int) -> None:
        if self._universal:
            logger.info("converting %s, written by %d process(es)", folder.name, world_size)
            with self._universal_copy(folder) as parent:
                decays = [group["weight_decay"] for group in self._engine.optimizer.param_groups]
                self._load(parent)
                self._mend_universal(decays)
        else:
            self._load(folder)

    def _mend_universal(self, decays: list[float]) -> None:
        """Undoes what DeepSpeed's universal loading at stage 3 mixes up.

        It gives every parameter group the first one's settings (weight decay to biases), and all
        of them one step counter, which then counts once a group.

        Args:
            decays: Weight decay of each parameter group.
        """
        optimizer = self._engine.optimizer.optimizer
        for group, decay in zip(optimizer.param_groups, decays, strict=True):
            group["weight_decay"] = decay
        for state in optimizer.state.values():
            state["step"] = torch.as_tensor(state["step"], dtype=torch.float32).clone()

    def _load(self, parent: Path) -> None:
        path, _ = self._engine.load_checkpoint(str(parent), tag=STATE_FOLDER)
        if path is None:
            raise CheckpointError(f"{parent / STATE_FOLDER}: DeepSpeed finds no state there")

    @contextmanager
    def _universal_copy(self, folder: Path) -> Iterator[Path]:
        """A folder beside the checkpoint with its state in the universal format, then removed."""
        logging.getLogger("DeepSpeed").setLevel(logging.ERROR)  # warns of no tensor parallelism
        copy = folder.parent / UNIVERSAL_FOLDER
        if self.processes.rank == 0:
            shutil.rmtree(copy, ignore_errors=True)
            convert_to_universal(folder / STATE_FOLDER, copy / STATE_FOLDER)
        self.processes.barrier()
        try:
            yield copy
        finally:
            logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
            self.processes.barrier()
            if self.processes.rank == 0:
                shutil.rmtree(copy, ignore_errors=True)

    def close(self) -> None:
        self._hook.remove()
        self._engine.destroy()


def convert_to_universal(source: Path, destination: Path) -> None:
    """Rewrites DeepSpeed's sharded state so that any number of processes can load it.

    Args:
        source: Folder of DeepSpeed's files.
        destination: New folder.
    """
    from deepspeed.checkpoint import ds_to_universal

    arguments = Namespace(
        input_folder=str(source),
        output_folder=str(destination),
        num_extract_workers=1,
        num_merge_workers=1,
        keep_temp_folder=False,
        strict=True,
        inject_missing_state=True,
    )
    with redirect_stdout(StringIO()) as output, redirect_stderr(StringIO()):
        ds_to_universal.main(arguments)
    logger.debug("%s", output.getvalue())
