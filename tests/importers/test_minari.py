"""Minari data sets: spaces, both formats, the way back, and data sets that cannot be used."""

from __future__ import annotations

import json
import resource
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foreign_episodes import Raw, numbers, rewrite_json, write_minari

from db1.errors import DataError
from db1.exporters.minari import export_minari
from db1.importers import ImportContext, ImportSummary
from db1.importers.minari import MinariOptions, find_dataset, import_minari
from db1.store.episodes import EpisodeStore, EpisodeWriter, StoreHeader
from db1.tokens.spec import Episode, FieldSpec, StepSpec

minari = pytest.importorskip("minari", reason='pip install "db1[import]" runs it')
h5py = pytest.importorskip("h5py", reason='pip install "db1[import]" runs it')
spaces = pytest.importorskip("gymnasium").spaces

LENGTHS = (5, 1, 8)


def imported(source: str | Path, out: Path, **options: Any) -> ImportSummary:
    return import_minari(str(source), out, MinariOptions(**options), ImportContext())


def sampled(observation_space: Any, action_space: Any) -> list[Raw]:
    """Episodes of values drawn from two spaces, stacked as Minari wants them."""
    observation_space.seed(0)
    action_space.seed(1)
    return [
        Raw(
            observations=stack(observation_space, length + 1),
            actions=stack(action_space, length),
            rewards=np.arange(length, dtype=np.float64) / 4,
            terminated=length != 5,
            seed=length,
            infos={"speed": [0.5] * (length + 1)},
        )
        for length in LENGTHS
    ]


def stack(space: Any, length: int) -> Any:
    if isinstance(space, spaces.Dict):
        return {key: stack(part, length) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(stack(part, length) for part in space.spaces)
    values = [space.sample() for _ in range(length)]
    return values if isinstance(space, spaces.Text) else np.stack(values)


SPACES = {
    "box": (spaces.Box(-np.inf, np.inf, (3,), np.float32), spaces.Box(-1, 1, (2,), np.float32)),
    "bounds": (spaces.Box(-1, 1, (2, 2), np.float32), spaces.Box(-2, 6, (2,), np.float32)),
    "discrete": (spaces.Discrete(5, start=2), spaces.Discrete(3, start=-1)),
    "multi": (spaces.MultiDiscrete([3, 5]), spaces.MultiDiscrete([2, 4])),
    "binary": (spaces.MultiBinary(4), spaces.MultiBinary(2)),
    "text": (spaces.Text(8, min_length=1), spaces.Discrete(2)),
    "grid": (spaces.Box(0, 255, (7, 7, 3), np.uint8), spaces.Discrete(7)),
    "image": (spaces.Box(0, 255, (40, 33, 3), np.uint8), spaces.Discrete(4)),
    "grey": (spaces.Box(0, 255, (84, 84, 1), np.uint8), spaces.Discrete(4)),
    "dict": (
        spaces.Dict(
            goal=spaces.Dict(at=spaces.Box(-1, 1, (2,), np.float32), kind=spaces.Discrete(3)),
            mission=spaces.Text(5, min_length=1),
            pair=spaces.Tuple((spaces.Discrete(4), spaces.Box(0, 1, (1,), np.float32))),
            screen=spaces.Box(0, 255, (32, 32, 3), np.uint8),
        ),
        spaces.Box(-1, 1, (2,), np.float32),
    ),
    "tuple": (
        spaces.Tuple((spaces.Box(-1, 1, (2,), np.float32), spaces.Discrete(6))),
        spaces.Discrete(2),
    ),
}


def assert_equal(found: Any, expected: Any, where: str = "") -> None:
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected:
            assert_equal(found[key], expected[key], f"{where}/{key}")
    elif isinstance(expected, tuple):
        for i, (left, right) in enumerate(zip(found, expected, strict=True)):
            assert_equal(left, right, f"{where}/{i}")
    elif isinstance(expected, list):
        assert list(found) == expected
    else:
        np.testing.assert_array_equal(found, expected, err_msg=where)
        assert np.asarray(found).dtype == np.asarray(expected).dtype, where


@pytest.mark.parametrize("data_format", ["hdf5", "arrow"])
@pytest.mark.parametrize("name", sorted(SPACES))
def test_there_and_back(tmp_path: Path, name: str, data_format: str) -> None:
    """Minari -> store -> Minari gives the same spaces and arrays; Minari itself reads them."""
    observation_space, action_space = SPACES[name]
    raw = sampled(observation_space, action_space)
    source = write_minari(
        tmp_path / "source",
        raw,
        data_format=data_format,
        observation_space=observation_space,
        action_space=action_space,
        jpeg_encoding=False,
    )
    summary = imported(source, tmp_path / "store")
    assert summary.num_stored == 3
    store = EpisodeStore(tmp_path / "store")
    assert store.header.task == "minari/line/test-v0"
    assert store.lengths.tolist() == list(LENGTHS) and store.seeds.tolist() == list(LENGTHS)
    exported = export_minari(tmp_path / "store", tmp_path / "back", data_format=data_format)
    before, after = (minari.MinariDataset(tmp_path / p / "data") for p in ("source", "back"))
    assert after.observation_space == before.observation_space
    assert after.action_space == before.action_space
    has_pictures = name in ("image", "grey", "dict")
    assert exported.num_repeated == (3 if has_pictures else 0)
    for left, right in zip(before.iterate_episodes(), after.iterate_episodes(), strict=True):
        if has_pictures:  # final pictures are not kept
            cut = [_without_last(o) for o in (left.observations, right.observations)]
            assert_equal(cut[1], cut[0])
        else:
            assert_equal(right.observations, left.observations)
        np.testing.assert_allclose(right.actions, left.actions, atol=1e-6)
        if name != "bounds":
            assert_equal(right.actions, left.actions)
        np.testing.assert_array_equal(right.rewards, left.rewards)
        np.testing.assert_array_equal(right.terminations, left.terminations)
        np.testing.assert_array_equal(right.truncations, left.truncations)


def _without_last(values: Any) -> Any:
    if isinstance(values, dict):
        return {key: _without_last(value) for key, value in values.items()}
    if isinstance(values, tuple):
        return tuple(_without_last(value) for value in values)
    return values[:-1]


def test_nested_keys_and_kinds(tmp_path: Path) -> None:
    observation_space, action_space = SPACES["dict"]
    source = write_minari(
        tmp_path / "s",
        sampled(observation_space, action_space),
        observation_space=observation_space,
        action_space=action_space,
    )
    imported(source, tmp_path / "store")
    spec = EpisodeStore(tmp_path / "store").spec
    assert {key: field.kind for key, field in spec.observation.items()} == {
        "goal/at": "continuous",
        "goal/kind": "discrete",
        "mission": "text",
        "pair/0": "discrete",
        "pair/1": "continuous",
        "screen": "image",
    }


def test_actions_are_rescaled_from_the_space(tmp_path: Path) -> None:
    observation_space, action_space = SPACES["bounds"]
    raw = sampled(observation_space, action_space)
    source = write_minari(
        tmp_path / "s", raw, observation_space=observation_space, action_space=action_space
    )
    imported(source, tmp_path / "store")
    stored = EpisodeStore(tmp_path / "store").read(2).actions
    np.testing.assert_allclose(stored, (raw[2].actions + 2) / 4 - 1, atol=1e-6)


def test_jpeg_pictures_and_a_corrupt_one(tmp_path: Path) -> None:
    observation_space, action_space = SPACES["image"]
    raw = sampled(observation_space, action_space)
    source = write_minari(
        tmp_path / "s", raw, observation_space=observation_space, action_space=action_space
    )
    imported(source, tmp_path / "store")
    expected = next(minari.MinariDataset(tmp_path / "s/data").iterate_episodes([2])).observations
    stored = EpisodeStore(tmp_path / "store").read(2).observations["pixels"]
    np.testing.assert_array_equal(stored[:, :40, :33], expected[:-1])
    with h5py.File(tmp_path / "s/data/main_data.hdf5", "a") as file:
        file["episode_1/observations"][0] = np.zeros_like(file["episode_1/observations"][0])
    with pytest.raises(DataError, match="test-v0 episode 1: cannot be decoded .*--skip-bad"):
        imported(source, tmp_path / "bad", task="toy/line")
    assert imported(source, tmp_path / "bad", task="toy/line", skip_bad=True).num_stored == 2


def test_without_a_final_observation(tmp_path: Path) -> None:
    raw = [numbers(4, 0)]
    raw[0].observations = raw[0].observations[:4]
    source = write_minari(tmp_path / "s", raw)
    imported(source, tmp_path / "store")
    store = EpisodeStore(tmp_path / "store")
    np.testing.assert_array_equal(store.read(0).observations["state"], raw[0].observations)
    assert "final_observation" not in store.metadata(0)
    assert export_minari(tmp_path / "store", tmp_path / "back").num_repeated == 1
    back = next(minari.MinariDataset(tmp_path / "back/data").iterate_episodes())
    np.testing.assert_array_equal(back.observations[4], raw[0].observations[3])
    raw[0].observations = raw[0].observations[:3]
    with pytest.raises(DataError, match="4 actions and observations of lengths {'state': 3}"):
        imported(write_minari(tmp_path / "short", raw), tmp_path / "o")


def test_export_of_a_store_that_was_not_imported(tmp_path: Path) -> None:
    spec = StepSpec(
        observation={"grid": FieldSpec(kind="discrete", shape=(2, 2), num_values=5)},
        action=FieldSpec(kind="continuous", shape=(2,)),
    )
    episode = Episode(
        observations={"grid": np.arange(12).reshape(3, 2, 2) % 5},
        actions=np.linspace(-1, 1, 6, dtype=np.float32).reshape(3, 2),
        rewards=np.ones(3, np.float32),
        seed=7,
    )
    with EpisodeWriter(tmp_path / "store", StoreHeader(task="toy/grid", spec=spec)) as writer:
        writer.append(episode)
    export_minari(tmp_path / "store", tmp_path / "out", dataset_id="toy/grid-v0")
    dataset = minari.MinariDataset(tmp_path / "out/data")
    assert dataset.spec.dataset_id == "toy/grid-v0"
    (found,) = dataset.iterate_episodes()
    np.testing.assert_array_equal(found.observations["grid"][:3], episode.observations["grid"])
    np.testing.assert_array_equal(found.actions, episode.actions)
    with pytest.raises(DataError, match="exists; export to another folder"):
        export_minari(tmp_path / "store", tmp_path / "out")
    with pytest.raises(DataError, match="expected one of"):
        export_minari(tmp_path / "store", tmp_path / "o", data_format="csv")
    with pytest.raises(DataError, match="Malformed dataset ID"):
        export_minari(tmp_path / "store", tmp_path / "o", dataset_id="no id")
    assert not (tmp_path / "o").exists() and not list(tmp_path.glob(".*partial"))


@pytest.mark.parametrize("room", [4_000, 30_000])
def test_a_full_disk_leaves_nothing_and_ends_in_one_line(tmp_path: Path, room: int) -> None:
    """The HDF5 library ends its process with signal 11 there; it has one of its own."""
    spec = StepSpec(
        observation={"x": FieldSpec(kind="continuous", shape=(500,))},
        action=FieldSpec(kind="continuous", shape=(1,)),
    )
    with EpisodeWriter(tmp_path / "store", StoreHeader(task="toy/wide", spec=spec)) as writer:
        for seed in range(4):
            writer.append(
                Episode(
                    observations={"x": np.random.default_rng(seed).random((9, 500), np.float32)},
                    actions=np.zeros((9, 1), np.float32),
                    rewards=np.ones(9, np.float32),
                    seed=seed,
                )
            )
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        with pytest.raises(DataError, match="out: cannot write the data set"):
            export_minari(tmp_path / "store", tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_length_zero_is_dropped(tmp_path: Path) -> None:
    source = write_minari(tmp_path / "s", [numbers(4, 0), numbers(3, 1), numbers(2, 2)])
    with h5py.File(tmp_path / "s/data/main_data.hdf5", "a") as file:
        for key in ("observations", "actions", "rewards", "terminations", "truncations"):
            file[f"episode_1/{key}"].resize(1 if key == "observations" else 0, axis=0)
    summary = imported(source, tmp_path / "store")
    assert summary.counts["dropped, length 0"] == 1
    assert EpisodeStore(tmp_path / "store").lengths.tolist() == [4, 2]


def test_references_of_the_data_set(tmp_path: Path) -> None:
    source = write_minari(tmp_path / "s", [numbers(4, 0), numbers(3, 1)])
    rewrite_json(tmp_path / "s/data/metadata.json", ref_max_score=1.0, ref_min_score=-1.0)
    imported(source, tmp_path / "store", min_return_share=0.5)
    origin = EpisodeStore(tmp_path / "store").header.origin
    assert origin["references"] == {"random": -1.0, "expert": 1.0}
    assert origin["return_filter"]["expert_origin"] == "published"


def test_an_environment_that_a_file_names_is_never_built(tmp_path: Path) -> None:
    source = write_minari(tmp_path / "s", [numbers(4, 0)])
    environment = {"id": "Evil-v0", "entry_point": "antigravity:Env", "kwargs": {}}
    rewrite_json(
        tmp_path / "s/data/metadata.json",
        observation_space=None,
        env_spec=json.dumps(environment),
    )
    with pytest.raises(DataError, match="no observation_space, and db1 does not build"):
        imported(source, tmp_path / "store")
    assert "antigravity" not in __import__("sys").modules


@pytest.mark.parametrize(
    ("space", "named"),
    [
        ('{"type": "Graph"}', "observation_space '': a Graph space"),
        ('{"type": "Box", "dtype": "complex64", "shape": [2], "low": [0], "high": [1]}', "broken"),
        ('{"type": "Discrete", "n": 5000, "start": 0}', "5000 discrete values, expected at most"),
        ('{"type": "Discrete"}', "the Discrete space has no 'n'"),
        ("{", "not a description of a space"),
        (
            '{"type": "Dict", "subspaces": {"a": 3}}',
            "observation_space 'a': not a description of a space: '3'",
        ),
        ('{"type": "Tuple", "subspaces": {}}', "a Tuple space without subspaces"),
    ],
)
def test_spaces_that_db1_has_no_field_for(tmp_path: Path, space: str, named: str) -> None:
    source = write_minari(tmp_path / "s", [numbers(4, 0)])
    rewrite_json(tmp_path / "s/data/metadata.json", observation_space=space)
    with pytest.raises(DataError, match=named):
        imported(source, tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_nested_actions_are_refused(tmp_path: Path) -> None:
    source = write_minari(tmp_path / "s", [numbers(4, 0)])
    rewrite_json(
        tmp_path / "s/data/metadata.json", action_space='{"type": "Dict", "subspaces": {}}'
    )
    with pytest.raises(DataError, match="action_space: a Dict space, expected Box, Discrete"):
        imported(source, tmp_path / "store")


@pytest.mark.parametrize("key", ["observations", "actions", "rewards", "terminations"])
def test_a_missing_array(tmp_path: Path, key: str) -> None:
    source = write_minari(tmp_path / "s", [numbers(4, 0), numbers(4, 1)])
    with h5py.File(tmp_path / "s/data/main_data.hdf5", "a") as file:
        del file[f"episode_0/{key}"]
    with pytest.raises(DataError, match="test-v0 episode 0: missing, or it lacks an array"):
        imported(source, tmp_path / "store", skip_bad=True)
    assert not (tmp_path / "store").exists()


def test_a_missing_observation_key(tmp_path: Path) -> None:
    observation_space = spaces.Dict(a=spaces.Discrete(3), b=spaces.Discrete(3))
    raw = sampled(observation_space, spaces.Box(-1, 1, (2,), np.float32))
    source = write_minari(tmp_path / "s", raw, observation_space=observation_space)
    with h5py.File(tmp_path / "s/data/main_data.hdf5", "a") as file:
        del file["episode_0/observations/b"]
    with pytest.raises(DataError, match=r"episode 0: no observation 'b', expected \['a', 'b'\]"):
        imported(source, tmp_path / "store")


def test_broken_files(tmp_path: Path) -> None:
    source = write_minari(tmp_path / "s", [numbers(40, 0)])
    file = tmp_path / "s/data/main_data.hdf5"
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="not a readable HDF5 file, or a truncated one"):
        imported(source, tmp_path / "store")
    arrow = write_minari(tmp_path / "a", [numbers(40, 0)], data_format="arrow")
    (part,) = (tmp_path / "a/data/0").glob("*.arrow")
    part.write_bytes(part.read_bytes()[:300])
    with pytest.raises(DataError, match="episode 0: cannot be decoded"):
        imported(arrow, tmp_path / "store")
    rewrite_json(tmp_path / "a/data/metadata.json", data_format="csv")
    with pytest.raises(DataError, match="minari cannot open this data set"):
        imported(arrow, tmp_path / "store")
    (tmp_path / "a/data/metadata.json").write_text("{")
    with pytest.raises(DataError, match="unreadable"):
        imported(arrow, tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_finding_a_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    write_minari(tmp_path / "line/test-v0", [numbers(4, 0)])
    assert find_dataset("line/test-v0") == tmp_path / "line/test-v0/data"
    assert find_dataset(str(tmp_path / "line/test-v0")) == tmp_path / "line/test-v0/data"
    assert find_dataset(str(tmp_path / "line/test-v0/data")) == tmp_path / "line/test-v0/data"
    with pytest.raises(DataError, match="not a Minari data set"):
        find_dataset(str(tmp_path / "line"))
    with pytest.raises(DataError, match="no such folder, and no id"):
        find_dataset("not an id")

    def no_network(dataset_id: str) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr("minari.storage.hosting.download_dataset", no_network)
    with pytest.raises(DataError, match="download failed .no route.*minari download other/set-v0"):
        find_dataset("other/set-v0")
