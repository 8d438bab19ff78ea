"""The checkpoints of a run folder: written whole or not at all, checked before they are used.

    checkpoints/
        latest                     the newest tag, for people and scripts; replaced last
        step-00000100/             a tag: state after 100 optimizer steps
            manifest.json          size and SHA-256 of every other file and of itself; written last
            trainer.json           step, processes, engine, configuration hash, the guard's state
            model.safetensors      all weights, in the precision of training
            random-rank0.pt        random states of each process
            deepspeed/ or torch.pt optimizer state of the engine
        step-00000200.partial/     being written, or left by a crash: never read

Nothing in it is executed: it is JSON, safetensors, and torch files whose pickles may name only what
holds values (`db1.checkpoint.states`). DeepSpeed reads its files below `deepspeed/` with
unrestricted pickle, and sees them after that check.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from db1.checkpoint.manifest import (
    MANIFEST_FILE,
    NewerCheckpoint,
    file_digest,
    read_json,
    read_manifest,
    write_manifest,
)
from db1.checkpoint.weights import read_weights
from db1.errors import CheckpointError
from db1.files import atomic_write_text, sync_folder

logger = logging.getLogger(__name__)

FOLDER = "checkpoints"
WEIGHTS_FILE = "model.safetensors"
TRAINER_FILE = "trainer.json"
LATEST_FILE = "latest"
PARTIAL = ".partial"
BROKEN = ".broken"
_TAG = re.compile(r"step-(\d{8,})")


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A checkpoint that was found whole.

    Args:
        folder: `<run>/checkpoints/<tag>`.
        step: Optimizer steps done.
        trainer: Content of trainer.json.
    """

    folder: Path
    step: int
    trainer: dict[str, Any]


def tag_of(step: int) -> str:
    """Name of the checkpoint after `step` optimizer steps: `step-00000100`."""
    return f"step-{step:08d}"


def save_checkpoint(
    run_folder: Path,
    step: int,
    write: Callable[[Path], None],
    *,
    trainer: Mapping[str, Any],
    keep: int,
) -> Path:
    """Writes a checkpoint; a crash at any moment leaves the earlier ones as they were.

    Args:
        run_folder: The run.
        step: Optimizer steps done.
        write: Writes the files into the folder it is given.
        trainer: Goes to trainer.json, with the step.
        keep: Number of newest checkpoints that stay.

    Returns:
        The checkpoint's folder.
    """
    partial = start_checkpoint(run_folder, step)
    write(partial)
    return publish_checkpoint(partial, step, trainer=trainer, keep=keep)


def start_checkpoint(run_folder: Path, step: int) -> Path:
    """Makes the empty folder into which all processes write; for the first of them."""
    partial = partial_folder(run_folder, step)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    return partial


def partial_folder(run_folder: Path, step: int) -> Path:
    """Folder of a checkpoint that is still being written."""
    return run_folder / FOLDER / (tag_of(step) + PARTIAL)


def publish_checkpoint(
    partial: Path, step: int, *, trainer: Mapping[str, Any], keep: int, keep_every: int = 0
) -> Path:
    """Makes a checkpoint of a folder in which all files are written; for the first process.

    Hashes the files, flushes them, writes the manifest, renames, and points `latest` there.

    Args:
        partial: From `start_checkpoint`.
        step: Optimizer steps done.
        trainer: Goes to trainer.json, with the step.
        keep: Number of newest checkpoints that stay.
        keep_every: Those of every that many steps stay as well; 0: none.

    Returns:
        The checkpoint's folder.
    """
    final = partial.with_name(tag_of(step))
    atomic_write_text(partial / TRAINER_FILE, json.dumps({"step": step, **trainer}, indent=1))
    write_manifest(partial, step)
    _rename(partial, final)
    _remove_old(final.parent, keep, keep_every)
    return final


def load_weights(folder: Path | str) -> dict[str, torch.Tensor]:
    """Returns the model's state dict of a run folder's newest valid checkpoint, or of one.

    Args:
        folder: A run folder, or a checkpoint folder (`<run>/checkpoints/<tag>`).

    Raises:
        CheckpointError: When there is no valid checkpoint.
    """
    return read_weights(resolve_checkpoint(folder, only=(WEIGHTS_FILE,)).folder / WEIGHTS_FILE)


def resolve_checkpoint(folder: Path | str, only: tuple[str, ...] | None = None) -> Checkpoint:
    """The checkpoint in `folder`, or the newest valid one of the run in `folder`.

    Args:
        folder: A run folder or a checkpoint folder.
        only: Check the hashes of these files only.

    Raises:
        CheckpointError: When there is none, or the named one is broken.
    """
    folder = Path(folder)
    if (folder / MANIFEST_FILE).exists() or _TAG.fullmatch(folder.name):
        return verify_checkpoint(folder, only)
    found = find_checkpoint(folder, only)
    if found is None:
        raise CheckpointError(
            f"{folder}: no checkpoint, expected a run folder with {FOLDER}/{tag_of(100)}/ "
            f"or such a folder; `db1 train` makes one"
        )
    return found


def find_checkpoint(run_folder: Path, only: tuple[str, ...] | None = None) -> Checkpoint | None:
    """The newest valid checkpoint of a run, None where there is none at all.

    Broken ones are passed over with a warning.

    Raises:
        NewerCheckpoint: When a newer db1 wrote the newest one.
        CheckpointError: When there are checkpoints and all are broken.
    """
    broken = []
    for folder in reversed(_tags(run_folder / FOLDER)):
        try:
            return verify_checkpoint(folder, only)
        except NewerCheckpoint:
            raise
        except CheckpointError as error:
            logger.warning("%s; falling back to the checkpoint before it", error)
            broken.append(str(error))
    if broken:
        raise CheckpointError(
            f"{run_folder}: all {len(broken)} checkpoints are broken, the newest: {broken[0]}; "
            f"remove {run_folder / FOLDER} to start over"
        )
    return None


def verify_checkpoint(folder: Path, only: tuple[str, ...] | None = None) -> Checkpoint:
    """Checks a checkpoint against its manifest.

    Args:
        folder: The checkpoint's folder.
        only: Hash these files only; sizes are checked for all.

    Raises:
        NewerCheckpoint: When a newer db1 wrote it.
        CheckpointError: Naming the first file that is missing or differs.
    """
    manifest = read_manifest(folder)
    if _TAG.fullmatch(folder.name) and folder.name != tag_of(manifest["step"]):
        raise CheckpointError(f"{folder}: its manifest is of step {manifest['step']}")
    for name, expected in manifest["files"].items():
        path = folder / name
        try:
            size = path.stat().st_size if path.is_file() else None
            if size != expected["size"]:
                got = "no such file" if size is None else f"{size} bytes"
                raise CheckpointError(f"{path}: {got}, expected {expected['size']} bytes")
            if (only is None or name in only) and file_digest(path) != expected["sha256"]:
                raise CheckpointError(f"{path}: its SHA-256 differs from the manifest's (bit rot?)")
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be read: {error}") from error
    trainer = read_json(folder / TRAINER_FILE)
    return Checkpoint(folder=folder, step=manifest["step"], trainer=trainer)


def file_sha256(folder: Path, name: str) -> str:
    """SHA-256 of a file: the manifest's where the folder has one, else computed."""
    if (folder / MANIFEST_FILE).is_file():
        return read_manifest(folder)["files"][name]["sha256"]
    return file_digest(folder / name)


def tidy_checkpoints(run_folder: Path, step: int) -> None:
    """Clears the way for a run that goes on from `step`; for the first process.

    Removes what crashes left half-written. Checkpoints behind `step` were found broken, else
    the run would go on from there: they get the ending `.broken`, out of the way of newer ones.
    """
    for folder in (run_folder / FOLDER).glob(f"*{PARTIAL}"):
        shutil.rmtree(folder, ignore_errors=True)
    for folder in _tags(run_folder / FOLDER):
        if int(folder.name.removeprefix("step-")) > step:
            aside = folder.with_name(folder.name + BROKEN)
            shutil.rmtree(aside, ignore_errors=True)
            os.rename(folder, aside)
            logger.warning("%s: broken, renamed to %s", folder, aside.name)


def _tags(checkpoints: Path) -> list[Path]:
    """Folders of finished checkpoints, oldest first."""
    if not checkpoints.is_dir():
        return []
    found = [(match, p) for p in checkpoints.iterdir() if (match := _TAG.fullmatch(p.name))]
    return [path for match, path in sorted(found, key=lambda pair: int(pair[0][1]))]


def _rename(partial: Path, final: Path) -> None:
    if final.exists():  # a broken checkpoint of the same step, or one trained again
        shutil.rmtree(final)
    os.rename(partial, final)
    sync_folder(final.parent)
    atomic_write_text(final.parent / LATEST_FILE, final.name + "\n")


def _remove_old(checkpoints: Path, keep: int, keep_every: int) -> None:
    for folder in _tags(checkpoints)[:-keep]:
        if keep_every and int(folder.name.removeprefix("step-")) % keep_every == 0:
            continue
        doomed = folder.with_name(folder.name + PARTIAL)
        os.rename(folder, doomed)  # so that a crash leaves no half checkpoint under its name
        shutil.rmtree(doomed, ignore_errors=True)
