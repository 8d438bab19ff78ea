"""The same few episodes written in every foreign format."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Write = Callable[[Path, list["Raw"]], str]


@dataclass(kw_only=True)
class Raw:
    """One episode as an environment would record it, T + 1 observations."""

    observations: Any
    actions: Any
    rewards: Any
    terminated: bool = True
    seed: int | None = None
    infos: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.actions)


def numbers(length: int, seed: int, low: float = -1.0, high: float = 1.0) -> Raw:
    """An episode of 4 observed numbers and 2 continuous actions, all exact in float32."""
    rng = np.random.default_rng(seed)
    return Raw(
        observations=rng.normal(size=(length + 1, 4)).astype(np.float32),
        actions=rng.uniform(low, high, (length, 2)).astype(np.float32),
        rewards=rng.integers(0, 8, length).astype(np.float32),
        terminated=bool(seed % 2),
    )


def write_d4rl(folder: Path, episodes: list[Raw]) -> str:
    h5py = pytest.importorskip("h5py", reason='pip install "db1[import]" runs it')
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "line-test-v0.hdf5"
    last = [np.arange(len(e)) == len(e) - 1 for e in episodes]
    with h5py.File(path, "w") as file:
        file["observations"] = np.concatenate([e.observations[: len(e)] for e in episodes])
        file["next_observations"] = np.concatenate([e.observations[1:] for e in episodes])
        file["actions"] = np.concatenate([e.actions for e in episodes])
        file["rewards"] = np.concatenate([e.rewards for e in episodes])
        file["terminals"] = np.concatenate(
            [is_last & e.terminated for is_last, e in zip(last, episodes, strict=True)]
        )
        file["timeouts"] = np.concatenate(
            [is_last & (not e.terminated) for is_last, e in zip(last, episodes, strict=True)]
        )
        file["infos/qpos"] = np.zeros(3)
    return str(path)


def write_minari(
    folder: Path,
    episodes: list[Raw],
    *,
    data_format: str = "hdf5",
    observation_space: Any = None,
    action_space: Any = None,
    **options: Any,
) -> str:
    """A data set in `folder`, written by Minari itself (without its extra `create`)."""
    pytest.importorskip("minari", reason='pip install "db1[import]" runs it')
    from gymnasium import spaces
    from minari.data_collector import EpisodeBuffer
    from minari.dataset.minari_storage import MinariStorage

    (folder / "data").mkdir(parents=True)
    storage = MinariStorage.new(
        folder / "data",
        observation_space=observation_space or spaces.Box(-np.inf, np.inf, (4,), np.float32),
        action_space=action_space or spaces.Box(-1.0, 1.0, (2,), np.float32),
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


def write_minari_arrow(folder: Path, episodes: list[Raw]) -> str:
    return write_minari(folder, episodes, data_format="arrow")


def write_jat(folder: Path, episodes: list[Raw]) -> str:
    datasets = pytest.importorskip("datasets", reason='pip install "db1[import]" runs it')
    folder.mkdir(parents=True, exist_ok=True)
    columns = {
        "continuous_observations": [e.observations[: len(e)].tolist() for e in episodes],
        "continuous_actions": [e.actions.tolist() for e in episodes],
        "rewards": [e.rewards.tolist() for e in episodes],
    }
    float_lists = datasets.List(datasets.List(datasets.Value("float32")))
    features = {"continuous_observations": float_lists, "continuous_actions": float_lists}
    features["rewards"] = datasets.List(datasets.Value("float32"))
    table = datasets.Dataset.from_dict(columns, features=datasets.Features(features))
    table.to_parquet(folder / "train-00000-of-00001.parquet", batch_size=3)
    return str(folder)


def write_db1_cache(folder: Path, episodes: list[Raw]) -> str:
    for part in ("observations", "actions", "rewards"):
        (folder / part).mkdir(parents=True)
    for i, e in enumerate(episodes):
        np.save(folder / f"observations/{i}.npy", e.observations[: len(e)])
        np.save(folder / f"actions/{i}.npy", e.actions)
        np.save(folder / f"rewards/{i}.npy", e.rewards)
    np.save(folder / "path_lengths.npy", np.array([len(e) for e in episodes]))
    np.save(folder / "traj_returns.npy", np.array([np.sum(e.rewards) for e in episodes]))
    return str(folder)


FORMATS: dict[str, tuple[str, Write]] = {
    "d4rl": ("d4rl", write_d4rl),
    "minari-hdf5": ("minari", write_minari),
    "minari-arrow": ("minari", write_minari_arrow),
    "jat": ("jat", write_jat),
    "db1-cache": ("db1-cache", write_db1_cache),
}
"""By name: the kind that reads it and what writes it."""


def rewrite_json(file: Path, **changes: Any) -> None:
    """Changes keys of a JSON file; None removes one."""
    content = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))
