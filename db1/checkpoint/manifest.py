"""The manifest of a checkpoint: what belongs to it, and how each file must look.

    {"format": "db1-checkpoint", "version": 2, "step": 100, "written_by": "db1 0.1.0",
     "files": {"model.safetensors": {"size": 1234, "sha256": "..."}, ...},
     "checksum": SHA-256 of all that, as JSON with sorted keys and without spaces}

`version` and `checksum` keep their place and meaning in every version to come, so that a flipped
bit and a checkpoint of a newer db1 are told apart. Version 1 had no checksum.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from db1 import __version__
from db1.errors import CheckpointError
from db1.files import atomic_write_text, sync_folder
from db1.json_shape import check_shape, parse_json_file
from db1.untrusted import check_relative

MANIFEST_FILE = "manifest.json"
FORMAT = "db1-checkpoint"
VERSION = 2
_CHUNK = 1 << 22


class NewerCheckpoint(CheckpointError):
    """A checkpoint that a newer db1 wrote: whole, but not for this one to read."""


def write_manifest(folder: Path, step: int) -> None:
    """Flushes all files of a checkpoint to the disk and writes its manifest.

    Args:
        folder: The checkpoint.
        step: Optimizer steps done.
    """
    files = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        files[path.relative_to(folder).as_posix()] = {
            "size": path.stat().st_size,
            "sha256": file_digest(path, flush=True),
        }
    for path in sorted(p for p in folder.rglob("*") if p.is_dir()):
        sync_folder(path)
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "step": step,
        "written_by": f"db1 {__version__}",
        "files": files,
    }
    manifest["checksum"] = _checksum(manifest)
    atomic_write_text(folder / MANIFEST_FILE, json.dumps(manifest, indent=1))


def read_manifest(folder: Path) -> dict[str, Any]:
    """Reads and checks a checkpoint's manifest.

    Raises:
        NewerCheckpoint: When a newer db1 wrote it.
        CheckpointError: When it is missing or damaged.
    """
    path = folder / MANIFEST_FILE
    manifest = read_json(path)
    version = manifest.get("version")
    if manifest.get("format") != FORMAT or not isinstance(version, int):
        raise CheckpointError(
            f"{path}: format {manifest.get('format')!r} version {version!r}, expected {FORMAT!r} "
            f"version 1 to {VERSION}"
        )
    if version != 1 and manifest.pop("checksum", None) != _checksum(manifest):
        raise CheckpointError(f"{path}: differs from its checksum (bit rot?)")
    if version > VERSION:
        raise NewerCheckpoint(
            f"{folder}: a checkpoint of version {version}, written by "
            f"{manifest.get('written_by')}; this is db1 {__version__}, which reads versions 1 to "
            f"{VERSION}; install a newer db1"
        )
    files = manifest.get("files")
    if not isinstance(files, dict) or not isinstance(manifest.get("step"), int):
        raise CheckpointError(f"{path}: lacks its step or its files")
    check_shape(files, {str: {"size": int, "sha256": str}}, path, CheckpointError, "files")
    for name in files:
        check_relative(name, path, CheckpointError)
    return manifest


def file_digest(path: Path, flush: bool = False) -> str:
    """SHA-256 of a file.

    Args:
        path: The file.
        flush: Have it written to the disk, too.
    """
    digest = hashlib.sha256()
    with open(path, "r+b" if flush else "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
        if flush:
            os.fsync(file.fileno())
    return digest.hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        CheckpointError: When the file is missing or holds anything else.
    """
    try:
        content = parse_json_file(path)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file, the checkpoint is not complete") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not readable as JSON: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: expected a JSON object")
    return content


def _checksum(manifest: dict[str, Any]) -> str:
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
