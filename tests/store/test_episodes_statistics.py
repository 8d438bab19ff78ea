"""Statistics of a store against NumPy over all its values."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from toy_episodes import HEADER, make_episode, write

from db1.errors import DataError
from db1.store import columns
from db1.store.episodes import EpisodeStore, EpisodeWriter
from db1.tokens.vocabulary import VocabularyConfig


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many chunks, none of which ends where an episode does."""
    monkeypatch.setattr(columns, "_CHUNK_BYTES", 7 * 768)


@pytest.mark.parametrize("image_format", ["raw", "zlib"])
@pytest.mark.usefixtures("small_chunks")
def test_statistics_equal_those_of_all_values(tmp_path: Path, image_format: str) -> None:
    header = dataclasses.replace(HEADER, image_format=image_format)
    store = EpisodeStore(write(tmp_path / "s", range(30), header))
    episodes, seen = [make_episode(seed) for seed in range(30)], []
    statistics = store.statistics(progress=lambda done, total: seen.append((done, total)))
    assert (statistics.num_episodes, statistics.num_steps) == (30, store.num_steps)
    assert statistics.lengths.tolist() == [len(episode) for episode in episodes]
    assert statistics.returns.tolist() == [episode.total_reward for episode in episodes]
    values = {
        "observations.image": [e.observations["image"] for e in episodes],
        "observations.place/x": [e.observations["place/x"] for e in episodes],
        "observations.state": [e.observations["state"] for e in episodes],
        "actions": [e.actions for e in episodes],
        "rewards": [e.rewards for e in episodes],
    }
    for name, parts in values.items():
        got, want = statistics.fields[name], np.concatenate(parts).astype(np.float64)
        assert (got.num_values, got.minimum, got.maximum) == (want.size, want.min(), want.max())
        np.testing.assert_allclose([got.mean, got.std], [want.mean(), want.std()], rtol=1e-9)
    counts = statistics.fields["observations.place/x"].value_counts
    assert list(counts) == np.bincount(np.concatenate(values["observations.place/x"]).flat).tolist()
    missions = {text for e in episodes for text in e.observations["mission"]}
    mission = statistics.fields["observations.mission"]
    assert (mission.num_texts, mission.num_values) == (len(missions), store.num_steps)
    assert seen == sorted(seen) and seen[-1] == (6 * store.num_steps, 6 * store.num_steps)
    plain = json.loads(json.dumps(statistics.to_dict()))
    assert plain["fields"]["actions"]["mean"] == statistics.fields["actions"].mean


@pytest.mark.usefixtures("small_chunks")
def test_clipped_and_constant_shares(tmp_path: Path) -> None:
    episode = make_episode(0, length=10)
    state = np.zeros((10, 3), np.float32)
    state[0], state[1] = [256.0, -256.0, 256.001], [-1e9, 0, 255]
    actions = np.zeros((10, 2), np.float32)
    actions[:3] = [[1, -1], [1.001, 0], [-3, 0]]
    image = episode.observations["image"].copy()
    image[2:6] = 9
    image[3, 0, 0, 0] = 8
    observations = {**episode.observations, "state": state, "image": image}
    with EpisodeWriter(tmp_path / "s", HEADER) as writer:
        writer.append(dataclasses.replace(episode, observations=observations, actions=actions))
    store = EpisodeStore(tmp_path / "s")
    fields = store.statistics().fields
    assert fields["observations.state"].clipped_share == 2 / 30
    assert fields["actions"].clipped_share == 2 / 20
    assert fields["rewards"].clipped_share is None
    assert fields["observations.image"].constant_frames_share == 3 / 10
    narrow = store.statistics(vocabulary=VocabularyConfig(max_magnitude=200.0)).fields
    assert narrow["observations.state"].clipped_share == 5 / 30


@pytest.mark.usefixtures("small_chunks")
def test_values_that_are_not_finite_name_their_episode(tmp_path: Path) -> None:
    """The writer refuses them; a damaged file may hold some."""
    store = EpisodeStore(write(tmp_path / "s", range(8)))
    file = tmp_path / "s" / "observations.state.bin"
    rows = np.fromfile(file, dtype="<f4").reshape(-1, 3)
    rows[int(store.offsets[5]), 1] = np.nan
    rows[int(store.offsets[6]) : int(store.offsets[6]) + 2, 0] = [np.inf, -np.inf]
    rows.tofile(file)
    found = store.statistics().fields["observations.state"]
    assert (found.num_nan, found.num_infinite, found.first_not_finite) == (1, 2, 5)
    kept = rows[np.isfinite(rows)].astype(np.float64)
    np.testing.assert_allclose([found.mean, found.std], [kept.mean(), kept.std()])
    assert store.statistics().fields["actions"].first_not_finite is None


def test_discrete_values_and_texts_out_of_range(tmp_path: Path) -> None:
    path = write(tmp_path / "s", range(4))
    numbers = np.fromfile(path / "observations.place%2Fx.bin", dtype="<i4")
    numbers[3] = 7
    numbers.tofile(path / "observations.place%2Fx.bin")
    with pytest.raises(DataError, match="x.bin: value 7, expected 0..6"):
        EpisodeStore(path).statistics()
    path = write(tmp_path / "t", range(4))
    lines = np.fromfile(path / "observations.mission.bin", dtype="<u4")
    lines[0] = 99
    lines.tofile(path / "observations.mission.bin")
    with pytest.raises(DataError, match="names string 99"):
        EpisodeStore(path).statistics()


def test_an_empty_store(tmp_path: Path) -> None:
    statistics = EpisodeStore(write(tmp_path / "s", range(0))).statistics()
    assert (statistics.num_episodes, statistics.num_steps) == (0, 0)
    assert all(field.mean is None for field in statistics.fields.values())
    assert EpisodeStore(tmp_path / "s").verify().num_bytes == 0
