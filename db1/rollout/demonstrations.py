"""The demonstrations that an evaluation may use, for prompts and for retrieval."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from db1.errors import DataError
from db1.store.episodes import EpisodeStore


def learned_episodes(store: EpisodeStore, chosen: Sequence[int] | None) -> np.ndarray:
    """Numbers of the stored episodes that a run learned from, int64 (N,).

    Args:
        store: The task's demonstrations.
        chosen: Those of a few-shot run; None: all.

    Raises:
        DataError: When the store does not have them.
    """
    known = np.arange(store.num_episodes) if chosen is None else np.asarray(chosen)
    if known.max(initial=-1) >= store.num_episodes:
        raise DataError(
            f"{store.path}: {store.num_episodes} episodes, and the run learned from number "
            f"{known.max()}; give --data with the demonstrations that it was trained on"
        )
    return known


def check_demonstrations(task_id: str, folder: Path, *, retrieval: bool = False) -> None:
    """Raises DataError, with what to do, when a task has no demonstration.

    Args:
        task_id: `suite/task`.
        folder: Of its store.
        retrieval: They are to be played, not to be a prompt: nothing goes on without them.
    """
    if (folder / "header.json").is_file() and EpisodeStore(folder).num_episodes:
        return
    root = folder.parents[len(Path(task_id).parts) - 1]
    use, without = (
        "its prompt is one",
        ("evaluate it without (--allow-missing-prompt), or all tasks without (--no-prompt)"),
    )
    if retrieval:
        use, without = "retrieval plays their actions", "or leave retrieval out"
    released = "; to read the released model's demonstrations, run `db1 import db1-cache`"
    raise DataError(
        f"{folder}: no demonstrations of {task_id}, and {use}; run "
        f"`db1 collect {task_id} --out {root}`, {without}"
        f"{released if _is_released_cache(root) else ''}"
    )


def _is_released_cache(root: Path) -> bool:
    """Tells whether a folder holds demonstrations in the released model's format."""
    return next(root.glob("*/path_lengths.npy"), None) is not None
