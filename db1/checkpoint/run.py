"""The checkpoints of a run folder: written whole or not at all, checked before they are used.

    checkpoints/
        latest                     the newest tag, for people and scripts; replaced last
        step-00000100/             a tag: state after 100 optimizer steps
            manifest.json          size and SHA-256 of every other file; written last
            trainer.json           step, processes, engine, configuration hash
            model.safetensors      all weights, in the precision of training
            random-rank0.pt        random states of each process
            deepspeed/ or torch.pt optimizer state of the engine
        step-00000200.partial/     being written, or left by a crash: never read

Everything db1 itself reads is JSON, safetensors, or `torch.load(weights_only=True)`. The files
below `deepspeed/` are DeepSpeed's own and are read by DeepSpeed with unrestricted pickle, when
training is resumed and only then: resume only runs that you trust.
"""

from __future__ import annotations

import hashlib
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

from db1.checkpoint.weights import read_weights
from db1.errors import CheckpointError
from db1.runtime import atomic_write_text, sync_folder

logger = logging.getLogger(__name__)

FOLDER = "checkpoints"
WEIGHTS_FILE = "model.safetensors"
TRAINER_FILE = "trainer.json"
MANIFEST_FILE = "manifest.json"
LATEST_FILE = "latest"
PARTIAL = ".partial"
BROKEN = ".broken"
VERSION = 1
_TAG = re.compile(r"step-(\d{8,})")
_CHUNK = 1 << 22


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
    rank: int = 0,
    barrier: Callable[[], None] = lambda: None,
) -> Path:
    """Writes a checkpoint; a crash at any moment leaves the earlier ones as they were.

    Every process calls it. All write into `<tag>.partial`; after the barrier the first process
    hashes the files, writes the manifest, flushes, renames, and points `latest` there.

    Args:
        run_folder: The run.
        step: Optimizer steps done.
        write: Writes this process's files into the folder it is given.
        trainer: Goes to trainer.json, with the step.
        keep: Number of newest checkpoints that stay.
        rank: Number of this process.
        barrier: Waits for all processes.

    Returns:
        The checkpoint's folder.
    """
    final = run_folder / FOLDER / tag_of(step)
    partial = final.with_name(final.name + PARTIAL)
    if rank == 0:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    barrier()
    write(partial)
    barrier()
    if rank == 0:
        atomic_write_text(partial / TRAINER_FILE, json.dumps({"step": step, **trainer}, indent=1))
        _seal(partial, step)
        _publish(partial, final)
        _remove_old(final.parent, keep)
    barrier()
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
        CheckpointError: When there are checkpoints and all are broken.
    """
    broken = []
    for folder in reversed(_tags(run_folder / FOLDER)):
        try:
            return verify_checkpoint(folder, only)
        except CheckpointError as error:
            logger.warning("%s; falling back to the checkpoint before it", error)
            broken.append(str(error))
    if broken:
        raise CheckpointError(
            f"{run_folder}: all {len(broken)} checkpoints are broken, the newest: {broken[0]}; "
            f"remove {run_folder / FOLDER} to start anew"
        )
    return None


def verify_checkpoint(folder: Path, only: tuple[str, ...] | None = None) -> Checkpoint:
    """Checks a checkpoint against its manifest.

    Args:
        folder: The checkpoint's folder.
        only: Hash these files only; sizes are checked for all.

    Raises:
        CheckpointError: Naming the first file that is missing or differs.
    """
    manifest = _read_json(folder / MANIFEST_FILE)
    if manifest.get("format") != "db1-checkpoint" or manifest.get("version") != VERSION:
        raise CheckpointError(
            f"{folder}: manifest of format {manifest.get('format')!r} version "
            f"{manifest.get('version')!r}, expected 'db1-checkpoint' version {VERSION}"
        )
    for name, expected in manifest["files"].items():
        path = folder / name
        size = path.stat().st_size if path.is_file() else None
        if size != expected["size"]:
            got = "no such file" if size is None else f"{size} bytes"
            raise CheckpointError(f"{path}: {got}, expected {expected['size']} bytes")
        if (only is None or name in only) and _sha256(path) != expected["sha256"]:
            raise CheckpointError(f"{path}: its SHA-256 differs from the manifest's (bit rot?)")
    trainer = _read_json(folder / TRAINER_FILE)
    return Checkpoint(folder=folder, step=manifest["step"], trainer=trainer)


def file_sha256(folder: Path, name: str) -> str:
    """SHA-256 of a file: the manifest's where the folder has one, else computed."""
    if (folder / MANIFEST_FILE).is_file():
        return _read_json(folder / MANIFEST_FILE)["files"][name]["sha256"]
    return _sha256(folder / name)


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


def _seal(folder: Path, step: int) -> None:
    """Flushes all files to the disk and writes the manifest."""
    files = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        files[path.relative_to(folder).as_posix()] = {
            "size": path.stat().st_size,
            "sha256": _sha256(path, flush=True),
        }
    for path in sorted(p for p in folder.rglob("*") if p.is_dir()):
        sync_folder(path)
    manifest = {"format": "db1-checkpoint", "version": VERSION, "step": step, "files": files}
    atomic_write_text(folder / MANIFEST_FILE, json.dumps(manifest, indent=1))


def _publish(partial: Path, final: Path) -> None:
    if final.exists():  # a broken checkpoint of the same step, or one trained again
        shutil.rmtree(final)
    os.rename(partial, final)
    sync_folder(final.parent)
    atomic_write_text(final.parent / LATEST_FILE, final.name + "\n")


def _remove_old(checkpoints: Path, keep: int) -> None:
    for folder in _tags(checkpoints)[:-keep]:
        doomed = folder.with_name(folder.name + PARTIAL)
        os.rename(folder, doomed)  # so that a crash leaves no half checkpoint under its name
        shutil.rmtree(doomed, ignore_errors=True)


def _sha256(path: Path, flush: bool = False) -> str:
    digest = hashlib.sha256()
    with open(path, "r+b" if flush else "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
        if flush:
            os.fsync(file.fileno())
    return digest.hexdigest()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file, the checkpoint is not complete") from error
    except ValueError as error:
        raise CheckpointError(f"{path}: not readable as JSON: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: expected a JSON object")
    return content
