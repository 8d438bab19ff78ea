"""Episodes of numbers in the formats of control: D4RL, Minari, JAT, the released DB1's cache, and
plain trajectories. Each is written by the library that reads it elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from db1.benchmarks.foreign.episodes import Raw


def write_d4rl(folder: Path, episodes: Sequence[Raw]) -> str:
    """Writes one HDF5 file of all steps."""
    import h5py

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "line-test-v0.hdf5"
    last = [np.arange(len(e)) == len(e) - 1 for e in episodes]
    ends = list(zip(last, episodes, strict=True))
    with h5py.File(path, "w") as file:
        file["observations"] = np.concatenate([e.observations[: len(e)] for e in episodes])
        file["next_observations"] = np.concatenate([e.observations[1:] for e in episodes])
        file["actions"] = np.concatenate([e.actions for e in episodes])
        file["rewards"] = np.concatenate([e.rewards for e in episodes])
        file["terminals"] = np.concatenate([is_last & e.terminated for is_last, e in ends])
        file["timeouts"] = np.concatenate([is_last & (not e.terminated) for is_last, e in ends])
        file["infos/qpos"] = np.zeros(3)
    return str(path)


def write_minari(
    folder: Path,
    episodes: Sequence[Raw],
    *,
    data_format: str = "hdf5",
    observation_space: Any = None,
    action_space: Any = None,
    **options: Any,
) -> str:
    """Writes a data set by Minari itself (without its extra `create`); spaces default to Boxes."""
    from gymnasium import spaces
    from minari.data_collector import EpisodeBuffer
    from minari.dataset.minari_storage import MinariStorage

    if observation_space is None:
        shape = episodes[0].observations.shape[1:]
        observation_space = spaces.Box(-np.inf, np.inf, shape, np.float32)
    if action_space is None:
        action_space = spaces.Box(-1.0, 1.0, episodes[0].actions.shape[1:], np.float32)
    (folder / "data").mkdir(parents=True)
    storage = MinariStorage.new(
        folder / "data",
        observation_space=observation_space,
        action_space=action_space,
        data_format=data_format,
        **options,
    )
    storage.update_metadata({"dataset_id": "line/test-v0", "minari_version": "0.5.4"})
    storage.update_episodes(
        EpisodeBuffer(
            seed=e.seed,
            observations=e.observations,
            actions=e.actions,
            rewards=e.rewards,
            terminations=(np.arange(len(e)) == len(e) - 1) & e.terminated,
            truncations=(np.arange(len(e)) == len(e) - 1) & (not e.terminated),
            infos=dict(e.infos),
        )
        for e in episodes
    )
    return str(folder)


def write_minari_arrow(folder: Path, episodes: Sequence[Raw]) -> str:
    """Writes Minari's Arrow format."""
    return write_minari(folder, episodes, data_format="arrow")


def write_jat(folder: Path, episodes: Sequence[Raw], *, group: int | None = 3) -> str:
    """Writes a Parquet file of one row an episode, `group` rows a row group (None: as they come).

    JAT's own files were written by the same call of the package `datasets`.
    """
    import datasets

    folder.mkdir(parents=True, exist_ok=True)
    columns = {
        "continuous_observations": [e.observations[: len(e)] for e in episodes],
        "continuous_actions": [e.actions for e in episodes],
        "rewards": [e.rewards for e in episodes],
    }
    float_lists = datasets.List(datasets.List(datasets.Value("float32")))
    features = {"continuous_observations": float_lists, "continuous_actions": float_lists}
    features["rewards"] = datasets.List(datasets.Value("float32"))
    table = datasets.Dataset.from_dict(columns, features=datasets.Features(features))
    table.to_parquet(folder / "train-00000-of-00001.parquet", batch_size=group)
    return str(folder)


def write_db1_cache(folder: Path, episodes: Sequence[Raw]) -> str:
    """Writes three NumPy files an episode, and the lengths and returns of all."""
    for part in ("observations", "actions", "rewards"):
        (folder / part).mkdir(parents=True)
    for i, e in enumerate(episodes):
        np.save(folder / f"observations/{i}.npy", e.observations[: len(e)])
        np.save(folder / f"actions/{i}.npy", e.actions)
        np.save(folder / f"rewards/{i}.npy", e.rewards)
    np.save(folder / "path_lengths.npy", np.array([len(e) for e in episodes]))
    np.save(folder / "traj_returns.npy", np.array([np.sum(e.rewards) for e in episodes]))
    return str(folder)


def write_trajectories(folder: Path, episodes: Sequence[Raw], *, suffix: str) -> str:
    """Writes arrays `obs`, `act` and `rew`: one HDF5 file of a group an episode, or a file each.

    Args:
        folder: Folder of the files.
        episodes: What is written.
        suffix: `.hdf5`, `.npz` or `.parquet`.
    """
    folder.mkdir(parents=True)
    arrays = (
        {"obs": e.observations[: len(e)], "act": e.actions, "rew": e.rewards} for e in episodes
    )
    if suffix == ".hdf5":
        import h5py

        path = folder / "demos.hdf5"
        with h5py.File(path, "w") as file:
            for number, found in enumerate(arrays):
                for key, values in found.items():
                    file[f"demo_{number}/{key}"] = values
        return str(path)
    for number, found in enumerate(arrays):
        path = folder / f"part_{number}{suffix}"
        if suffix == ".npz":
            np.savez_compressed(path, **found)
        else:
            import pyarrow.parquet as parquet

            parquet.write_table(_table(found), path)
    return str(folder)


def _table(arrays: dict[str, np.ndarray]) -> Any:
    """A table of one row a step; rows of several numbers are lists of a fixed length."""
    import pyarrow

    columns = {}
    for name, values in arrays.items():
        column = pyarrow.array(values.reshape(-1))
        if values.ndim > 1:
            column = pyarrow.FixedSizeListArray.from_arrays(column, values.shape[1])
        columns[name] = column
    return pyarrow.table(columns)
