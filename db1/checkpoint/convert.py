"""From one layout of a model to another; what is written is whole or not there.

See `db1.checkpoint.bundle` for the layouts. Weights keep their precision unless another is asked
for: float16 to float32 is exact, and so is every way there and back.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import torch

from db1 import __version__
from db1.checkpoint import hub
from db1.checkpoint.bundle import (
    CONFIG_FILE,
    FORMAT,
    INSTRUCTIONS_FILE,
    JSON_CONFIG_FILE,
    SPECS_FILE,
    TOKENIZER_FILE,
    VERSION,
    Bundle,
    read_bundle,
)
from db1.checkpoint.released_folder import write_released
from db1.checkpoint.run import PARTIAL, WEIGHTS_FILE, save_checkpoint
from db1.checkpoint.weights import BytesWritten, write_weights
from db1.config import save_yaml
from db1.errors import CheckpointError, ConfigError, check_one_of

LAYOUTS = ("run", "safetensors", "released")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def convert(
    source: str,
    destination: str,
    *,
    to: str | None = None,
    dtype: str | None = None,
    tag: str | None = None,
    config: Path | None = None,
    tokenizer: Path | None = None,
    progress: BytesWritten | None = None,
    scores: hub.CardScores | None = None,
) -> Bundle:
    """Reads a model in any layout and writes it in another.

    Args:
        source: A folder (see `read_bundle`) or `hf://user/name[@revision]`.
        destination: A folder that does not exist yet, or `hf://user/name`.
        to: `run`, `safetensors` or `released`; None: a run becomes a safetensors folder, anything
            else a run. The hub always gets a safetensors folder.
        dtype: `float32`, `bfloat16` or `float16`; None: as stored.
        tag: Checkpoint of a run folder.
        config: See `read_bundle`.
        tokenizer: See `read_bundle`.
        progress: Told how far the writing of a run or a safetensors folder is.
        scores: What the model reached, for its page on the hub.

    Returns:
        What was written.

    Raises:
        ConfigError: Unknown layout or precision, a destination that exists, or scores of another
            checkpoint.
        CheckpointError: Weights that cannot be read, do not fit, or cannot be written.
    """
    _check_arguments(destination, to, dtype)
    with hub.pulled(source) as folder:
        bundle = read_bundle(folder, tag=tag, config=config, tokenizer=tokenizer)
        kind = None if dtype is None else DTYPES[dtype]
        if hub.is_address(destination):
            if scores is not None and scores.tag != bundle.tag:
                raise ConfigError(
                    f"{source}: the results are those of {scores.tag}, the model is {bundle.tag}; "
                    "evaluate it, or name its results with --results"
                )
            with hub.pushing(destination) as staging:
                _write_safetensors(bundle, staging, kind, progress)
                hub.write_card(staging, bundle.config, destination, scores)
            return bundle
        layout = to or ("safetensors" if bundle.kind == "run" else "run")
        write_whole(
            Path(destination), lambda partial: WRITERS[layout](bundle, partial, kind, progress)
        )
    return bundle


def _check_arguments(destination: str, to: str | None, dtype: str | None) -> None:
    if to is not None:
        check_one_of("--to", to, LAYOUTS)
    if dtype is not None:
        check_one_of("--dtype", dtype, DTYPES)
    if to == "released" and dtype not in (None, "float16"):
        raise ConfigError(f"convert: the released layout is float16, got --dtype {dtype}")
    if hub.is_address(destination):
        if to not in (None, "safetensors"):
            raise ConfigError(f"convert: the hub gets a safetensors folder, got --to {to}")
    elif Path(destination).exists():
        raise ConfigError(f"{destination}: exists already; name another folder or remove it")


def write_whole(destination: Path, write: Callable[[Path], None]) -> None:
    """Writes into a folder beside the destination and moves it there when all is done."""
    partial = destination.with_name(destination.name + PARTIAL)
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        write(partial)
        os.rename(partial, destination)
    except (OSError, RuntimeError) as error:  # torch.save wraps a full disk in RuntimeError
        raise CheckpointError(
            f"{destination}: cannot be written ({error}); nothing was left there"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_run(
    bundle: Bundle, folder: Path, dtype: torch.dtype | None, progress: BytesWritten | None
) -> None:
    assert bundle.weights is not None
    weights = bundle.weights
    write_companions(bundle, folder)
    config = {**bundle.config, "name": folder.name.removesuffix(PARTIAL)}
    (folder / CONFIG_FILE).write_text(save_yaml(config), encoding="utf-8")
    save_checkpoint(
        folder,
        bundle.step,
        lambda part: write_weights(part / WEIGHTS_FILE, weights, dtype=dtype, progress=progress),
        trainer={"converted_from": f"{bundle.kind} {bundle.folder.name}, tag {bundle.tag}"},
        keep=1,
    )


def _write_safetensors(
    bundle: Bundle, folder: Path, dtype: torch.dtype | None, progress: BytesWritten | None
) -> None:
    assert bundle.weights is not None
    write_companions(bundle, folder)
    content = {
        "format": FORMAT,
        "version": VERSION,
        "db1_version": __version__,
        "step": bundle.step,
        **json.loads(json.dumps(bundle.config, default=str)),
    }
    (folder / JSON_CONFIG_FILE).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    write_weights(folder / WEIGHTS_FILE, bundle.weights, dtype=dtype, progress=progress)


def _write_released(
    bundle: Bundle, folder: Path, dtype: torch.dtype | None, progress: BytesWritten | None
) -> None:
    assert bundle.weights is not None
    write_released(folder, bundle.tag or "db1", bundle.weights, bundle.model_config, bundle.step)
    if bundle.tokenizer is not None:
        (folder / "tokenizer").mkdir()
        bundle.tokenizer.save(folder / "tokenizer" / TOKENIZER_FILE)


def write_companions(bundle: Bundle, folder: Path) -> None:
    """Writes tokenizer, specs and instructions, those that there are."""
    if bundle.tokenizer is not None:
        bundle.tokenizer.save(folder / TOKENIZER_FILE)
    (folder / SPECS_FILE).write_text(json.dumps(bundle.specs, indent=1), encoding="utf-8")
    if bundle.instructions:
        words = json.dumps(bundle.instructions, indent=1)
        (folder / INSTRUCTIONS_FILE).write_text(words, encoding="utf-8")


WRITERS = {"run": _write_run, "safetensors": _write_safetensors, "released": _write_released}
