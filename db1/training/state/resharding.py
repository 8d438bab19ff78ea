"""Takes up an optimizer's state that another layout of processes, stage or engine wrote."""

from __future__ import annotations

import logging
import shutil
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from db1.checkpoint.run import PARTIAL, Checkpoint
from db1.checkpoint.states import check_states, load_state
from db1.errors import CheckpointError
from db1.training.config import TrainingConfig
from db1.training.processes import Processes
from db1.training.state.stored_optimizer import (
    OrderedOptimizer,
    StoredOptimizer,
    UniversalOptimizer,
)

logger = logging.getLogger(__name__)

TORCH_STATE_FILE = "torch.pt"
DEEPSPEED_FOLDER = "deepspeed"
_MODEL_STATES = "mp_rank_00_model_states.pt"


def is_same_layout(found: Checkpoint, config: TrainingConfig, world_size: int) -> bool:
    """True when the engine that wrote a checkpoint had this one's processes and stage.

    Raises:
        CheckpointError: When it was written in another precision.
    """
    trainer = found.trainer
    if trainer["precision"] != config.precision:
        raise CheckpointError(
            f"{found.folder}: written in {trainer['precision']}, this run trains in "
            f"{config.precision}; set training.precision={trainer['precision']}"
        )
    theirs = (trainer["engine"], trainer["world_size"], trainer["zero_stage"])
    ours = (config.engine, world_size, config.zero_stage)
    return theirs[:2] == ours[:2] and (config.engine == "torch" or theirs == ours)


@contextmanager
def stored_optimizer(
    found: Checkpoint, names: Sequence[str], processes: Processes
) -> Iterator[StoredOptimizer]:
    """Opens the optimizer's state of a checkpoint; all processes call it.

    State that DeepSpeed sharded is rewritten in its universal format, in a folder beside the
    checkpoint that is removed after the block.

    Args:
        found: The checkpoint.
        names: Names of the trainable parameters in the optimizer's order.
        processes: This process and the others.

    Raises:
        CheckpointError: When it holds no state that can be read this way.
    """
    trainer = found.trainer
    logger.info(
        "%s: written by engine %s, %d process(es), ZeRO stage %d; taken up by parameter",
        found.folder.name,
        trainer["engine"],
        trainer["world_size"],
        trainer["zero_stage"],
    )
    if trainer["engine"] == "torch":
        yield _torch_state(found.folder / TORCH_STATE_FILE, names)
    elif trainer["zero_stage"] == 0:
        yield _stage_0_state(found.folder / DEEPSPEED_FOLDER / _MODEL_STATES, names)
    else:
        with _universal_copy(found.folder, processes) as folder:
            steps = _sharded_steps(found.folder / DEEPSPEED_FOLDER)
            yield UniversalOptimizer(folder / "state" / "zero", steps)


def _torch_state(path: Path, names: Sequence[str]) -> StoredOptimizer:
    content = load_state(path)
    return OrderedOptimizer(content["optimizer"], names, content.get("masters"), path)


def _stage_0_state(path: Path, names: Sequence[str]) -> StoredOptimizer:
    content = load_state(path)["optimizer"]
    if "state" not in content:
        raise CheckpointError(
            f"{path}: the optimizer's state of fp16 at ZeRO stage 0 cannot be loaded with another "
            "stage, engine or number of processes; resume as it was started"
        )
    return OrderedOptimizer(content, names, None, path)


def _sharded_steps(folder: Path) -> float:
    """Optimizer steps that DeepSpeed's first shard counts."""
    path = next(iter(sorted(folder.glob("*zero_pp_rank_0_mp_rank_00_optim_states.pt"))))
    content: dict[str, Any] = load_state(path)
    content = content["optimizer_state_dict"]
    inner = content.get("optimizer_state_dict") or content["base_optimizer_state"]
    states = inner["state"].values()
    return max((float(state["step"]) for state in states if "step" in state), default=0.0)


@contextmanager
def _universal_copy(folder: Path, processes: Processes) -> Iterator[Path]:
    """A folder beside the checkpoint with its state in the universal format, then removed."""
    copy = folder.parent / f"universal{PARTIAL}"

    def convert() -> None:
        if processes.rank == 0:
            if copy.is_symlink():
                copy.unlink()
            shutil.rmtree(copy, ignore_errors=True)
            check_states(folder / DEEPSPEED_FOLDER)
            convert_to_universal(folder / DEEPSPEED_FOLDER, copy / "state")

    processes.run_and_gather(convert, lambda nothing: None)
    try:
        yield copy
    finally:
        processes.barrier()
        if processes.rank == 0:
            shutil.rmtree(copy, ignore_errors=True)


def convert_to_universal(source: Path, destination: Path) -> None:
    """Rewrites DeepSpeed's sharded state so that any number of processes can load it.

    Args:
        source: Folder of DeepSpeed's files.
        destination: New folder; DeepSpeed writes a file beside it, too.

    Raises:
        CheckpointError: When there is no room for it.
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
    log = logging.getLogger("DeepSpeed")
    level = log.level
    log.setLevel(logging.ERROR)  # it warns of no tensor parallelism
    try:
        with redirect_stdout(StringIO()) as output, redirect_stderr(StringIO()):
            ds_to_universal.main(arguments)
    except OSError as error:
        raise CheckpointError(
            f"{source}: cannot be rewritten for another number of processes: {error}; it needs "
            f"as much free space as the checkpoint takes"
        ) from error
    finally:
        log.setLevel(level)
    logger.debug("%s", output.getvalue())
