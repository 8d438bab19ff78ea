"""Resume compatibility of a run folder: the same configuration, but for neutral keys."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from db1.config import load_yaml
from db1.errors import ConfigError
from db1.failures import make_folder
from db1.files import atomic_write_text
from db1.training.config import NEUTRAL_KEYS
from db1.untrusted import refuse_links_out

CONFIG_FILE = "config.yaml"

NEUTRAL = frozenset(
    {f"training.{key}" for key in NEUTRAL_KEYS}
    | {"name", "runs", "data.root", "data.evaluation_samples", "data.tokenizer"}
    | {"model.activation_checkpointing", "model.attention"}
)
"""Dotted keys of an experiment that may change between a run and its resumption.

The tokenizer may lie elsewhere then; that it is the same one, tokenizer.json tells.
"""

NEUTRAL_SECTIONS = ("training.watch.", "training.rollouts.")
"""Beginnings of dotted keys that may change, all of them."""

MIXTURE_KEYS = re.compile(
    r"data\.((tasks|text|pairs)\..*\.weight|(suites|modalities)\..*|temperature|weights_by)"
)
"""Dotted keys of mixture weights: they may change too, and `MixtureSchedule` keeps account."""


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings -> one with dotted keys; values as JSON has them (paths are text)."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{name}."))
        else:
            flat[name] = json.loads(json.dumps(value, default=str))
    return flat


def config_differences(
    old: Mapping[str, Any], new: Mapping[str, Any], neutral: frozenset[str] = NEUTRAL
) -> list[str]:
    """Differences between two configurations as `key: old -> new`, neutral keys left out."""
    old, new = flatten(old), flatten(new)
    return [
        f"{key}: {old.get(key)!r} -> {new.get(key)!r}"
        for key in sorted(old.keys() | new.keys())
        if not _may_change(key, neutral) and old.get(key) != new.get(key)
    ]


def check_same_config(
    run_folder: Path,
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    neutral: frozenset[str] = NEUTRAL,
) -> None:
    """Refuses to go on with a run under another configuration.

    Args:
        run_folder: The run, for the message.
        old: Its resolved configuration.
        new: The resolved configuration given now.
        neutral: Dotted keys that may differ.

    Raises:
        ConfigError: Naming the keys that differ.
    """
    differences = config_differences(old, new, neutral)
    if differences:
        shown = "; ".join(differences[:8]) + (" ..." if len(differences) > 8 else "")
        raise ConfigError(
            f"{run_folder} holds a run of another configuration ({shown}); "
            f"give this run another name, or remove that folder"
        )


def config_hash(config: Mapping[str, Any], neutral: frozenset[str] = NEUTRAL) -> str:
    """SHA-256 of a configuration without its neutral keys."""
    flat = flatten(config)
    kept = {key: value for key, value in flat.items() if not _may_change(key, neutral)}
    return hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode()).hexdigest()


def _may_change(key: str, neutral: frozenset[str]) -> bool:
    if key in neutral or key.startswith(NEUTRAL_SECTIONS):
        return True
    return MIXTURE_KEYS.fullmatch(key) is not None


def prepare_folder(
    run_folder: Path,
    config: Mapping[str, Any],
    run_files: Mapping[str, str],
    complete: Callable[[Mapping[str, Any]], Mapping[str, Any]] = dict,
) -> None:
    """Makes the run folder, or checks that it holds this very run; writes its text files.

    Args:
        run_folder: The run.
        config: The resolved configuration.
        run_files: Text by file name; `config.yaml` holds `config`.
        complete: Gives the configuration of a run that an older db1 began the settings that it did
            not know yet, with their defaults.

    Raises:
        ConfigError: When the folder holds a run of another configuration, one of the other files
            differs from what the run was started with, or a link leads out of the folder.
    """
    make_folder(run_folder)
    refuse_links_out(run_folder, but=("checkpoints",), error=ConfigError)
    old = run_folder / CONFIG_FILE
    if old.is_file():
        check_same_config(run_folder, complete(load_yaml(old, is_own=False)), config)
    for name, text in run_files.items():
        path = run_folder / name
        if name != CONFIG_FILE and path.is_file() and path.read_text(encoding="utf-8") != text:
            raise ConfigError(
                f"{path} differs from what the data gives now: the stores were rebuilt since the "
                f"run was started; give this run another name, or remove {run_folder}"
            )
    for name, text in run_files.items():
        atomic_write_text(run_folder / name, text)
