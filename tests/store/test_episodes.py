"""Episode stores: what goes in comes out, and what does not fit is refused."""

from __future__ import annotations

import dataclasses
import itertools
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from toy_episodes import HEADER, SPEC, assert_holds, assert_same, make_episode, write

from db1.errors import DataError
from db1.store.episodes import EpisodeStore, EpisodeWriter
from db1.store.records import RECORD, record_checksums
from db1.tokens.spec import Episode, FieldSpec


def test_round_trip_and_summary_columns(tmp_path: Path) -> None:
    store = EpisodeStore(write(tmp_path / "s", range(10)))
    episodes = [make_episode(seed) for seed in range(10)]
    assert store.header == HEADER and store.spec == SPEC
    content = json.loads((tmp_path / "s" / "header.json").read_text())
    assert (content["format"], content["version"]) == ("db1-episodes", 2)
    assert store.num_steps == sum(map(len, episodes)) == store.offsets[-1]
    assert store.lengths.tolist() == [len(e) for e in episodes]
    assert store.returns.tolist() == [e.total_reward for e in episodes]
    assert store.seeds.tolist() == list(range(10))
    np.testing.assert_array_equal(store.successes, [np.nan, 0, 1] * 3 + [np.nan])
    assert store.terminations.tolist() == [False, True] * 5
    assert_holds(tmp_path / "s", range(10))


def test_stretch_equals_slice(tmp_path: Path) -> None:
    store = EpisodeStore(write(tmp_path / "s", range(5)))
    for i in range(5):
        whole = store.read(i)
        for start, stop in itertools.combinations_with_replacement(range(len(whole) + 1), 2):
            part = store.read(i, start, stop)
            np.testing.assert_array_equal(part.actions, whole.actions[start:stop])
            for key, values in part.observations.items():
                np.testing.assert_array_equal(values, whole.observations[key][start:stop])
            assert part.terminated == (whole.terminated and stop == len(whole))
    part.actions[:] = 5  # a copy: the store stays as it is
    assert store.read(4).actions.max() <= 1


@pytest.mark.parametrize("place", [(-1, 0, None), (5, 0, None), (0, 2, 1), (0, 0, 99), (0, -1, 2)])
def test_reading_outside(tmp_path: Path, place: tuple) -> None:
    store = EpisodeStore(write(tmp_path / "s", range(5)))
    with pytest.raises(DataError, match="expected"):
        store.read(*place)


def test_writer_goes_on_and_pickle_keeps_its_size(tmp_path: Path) -> None:
    path = write(tmp_path / "s", range(3))
    early = EpisodeStore(path)
    pickled = pickle.dumps(early)
    assert len(pickled) < 500
    newer = dataclasses.replace(HEADER, created_by="db1 9.9")
    with EpisodeWriter(path, newer) as writer:
        assert writer.num_episodes == 3
        writer.append(make_episode(3))
        assert writer.num_episodes == 4
    assert_holds(path, range(4))
    assert early.num_episodes == pickle.loads(pickled).num_episodes == 3
    assert_same(pickle.loads(pickled).read(2), make_episode(2))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"origin": {"dataset": "a"}}, "origin.dataset: only in the new header"),
        ({"image_format": "png"}, "image_format: there 'raw', new 'png'"),
        ({"task": "toy/other"}, "task: there 'toy/line', new 'toy/other'"),
        ({"environment": {"id": "line-v0", "horizon": 10}}, "environment.horizon: there 9, new 10"),
        ({"action_noise": 0.5}, "action_noise"),
        ({"expert": "oracle"}, "expert"),
        (
            {"spec": dataclasses.replace(SPEC, action=FieldSpec(kind="continuous", shape=(3,)))},
            r"spec.action.shape: there \[2\], new \[3\]",
        ),
    ],
)
def test_other_header_is_refused(tmp_path: Path, change: dict, named: str) -> None:
    path = write(tmp_path / "s", range(2))
    with pytest.raises(DataError, match=named):
        EpisodeWriter(path, dataclasses.replace(HEADER, **change))
    assert_holds(path, range(2))


def test_forbidden_seeds(tmp_path: Path) -> None:
    with EpisodeWriter(tmp_path / "s", HEADER, forbidden_seeds=range(5, 8)) as writer:
        writer.append(make_episode(4))
        for seed in (5, 7):
            with pytest.raises(DataError, match=f"seed {seed} lies in the forbidden range"):
                writer.append(make_episode(seed))
        writer.append(make_episode(8))
    assert EpisodeStore(tmp_path / "s").seeds.tolist() == [4, 8]


def _with(episode: Episode, **observations: np.ndarray) -> Episode:
    merged = {**episode.observations, **observations}
    return dataclasses.replace(episode, observations=merged)


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda e: _with(e, state=np.full((4, 3), np.nan)), "'state': 12 values not finite"),
        (lambda e: _with(e, state=np.full((4, 3), 1e300)), "'state': 12 values not finite"),
        (lambda e: _with(e, **{"place/x": np.full((4, 2), 7)}), "value 7, expected 0..6"),
        (lambda e: _with(e, **{"place/x": np.full((4, 2), 2**32)}), "value 4294967296"),
        (lambda e: _with(e, **{"place/x": np.full((4, 2), 0.5)}), "got dtype float64"),
        (lambda e: _with(e, image=np.zeros((4, 16, 16, 3))), "got dtype float64, expected uint8"),
        (lambda e: _with(e, mission=np.array([b"x"] * 4, dtype=object)), "expected a str"),
        (lambda e: _with(e, mission=np.array(["\ud83d"] * 4, dtype=object)), "not valid Unicode"),
        (lambda e: _with(e, state=[[1.0], [1.0, 2.0]]), "'state': no array of float32"),
        (lambda e: dataclasses.replace(e, seed=2**63), "does not fit 64 bits"),
        (lambda e: _with(e, other=np.zeros(4)), "observation keys"),
        (
            lambda e: dataclasses.replace(e, metadata={"x": np.int64(1)}),
            "that is not JSON",
        ),
        (
            lambda e: dataclasses.replace(e, metadata={"x": float("nan")}),
            "that is not JSON",
        ),
        (lambda e: dataclasses.replace(e, metadata={"x": (1, 2)}), "that JSON changes"),
        (lambda e: dataclasses.replace(e, metadata={1: 2}), "that JSON changes"),
        (lambda e: dataclasses.replace(e, actions=np.zeros((3, 2))), "shape"),
        (lambda e: dataclasses.replace(e, rewards=np.zeros(3)), "rewards must be 4"),
    ],
)
def test_episode_outside_the_spec_is_refused(tmp_path: Path, spoil: object, named: str) -> None:
    with EpisodeWriter(tmp_path / "s", HEADER) as writer:
        writer.append(make_episode(0))
        with pytest.raises(DataError, match=named):
            writer.append(spoil(make_episode(1, length=4)))
        writer.append(make_episode(1))
    assert_holds(tmp_path / "s", range(2))


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    with EpisodeWriter(tmp_path / "s", HEADER) as writer:
        with pytest.raises(DataError, match="another writer"):
            EpisodeWriter(tmp_path / "s", HEADER)
        writer.append(make_episode(0))
        assert EpisodeStore(tmp_path / "s").num_episodes == 1
    with pytest.raises(DataError, match="closed"):
        writer.append(make_episode(1))


def test_record_checksums_tell_every_bit_and_place() -> None:
    records = np.zeros(64, dtype=RECORD)
    records["length"] = 7
    sums = record_checksums(records)
    assert len(set(sums.tolist())) == 64
    np.testing.assert_array_equal(sums[5:], record_checksums(records[5:], first=5))
    for bit in range((RECORD.itemsize - 4) * 8):
        changed = records[:1].copy()
        changed.view(np.uint8)[bit // 8] ^= 1 << bit % 8
        assert record_checksums(changed)[0] != sums[0]


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ('{"format": "other"}', "format 'other', expected 'db1-episodes'"),
        ('{"format": "db1-episodes", "version": 3}', "version 3, this db1 reads 1..2"),
        ('{"format": "db1-episodes", "version": 1}', "task is missing"),
        ("{", "unreadable header"),
        ("[]", "format 'list'"),
    ],
)
def test_foreign_header(tmp_path: Path, content: str, named: str) -> None:
    (tmp_path / "header.json").write_text(content)
    for opened in (EpisodeStore, lambda path: EpisodeWriter(path, HEADER)):
        with pytest.raises(DataError, match=named):
            opened(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["header.json"]


def test_foreign_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no episode store"):
        EpisodeStore(tmp_path / "nothing")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="expected a folder"):
        EpisodeWriter(tmp_path / "file", HEADER)
    (tmp_path / "actions.bin").write_bytes(b"1234")
    with pytest.raises(DataError, match=r"exists without a header.json"):
        EpisodeWriter(tmp_path, HEADER)
    assert (tmp_path / "actions.bin").read_bytes() == b"1234"
    write(tmp_path / "s", range(3))
    (tmp_path / "s" / "episodes.bin").unlink()
    with pytest.raises(DataError, match="episodes.bin is missing"):
        EpisodeStore(tmp_path / "s")


def test_metadata_and_origin_come_back(tmp_path: Path) -> None:
    origin = {"file": "a.hdf5", "licence": "CC BY 4.0", "rows": [0, 12]}
    header = dataclasses.replace(HEADER, origin=origin)
    store = EpisodeStore(write(tmp_path / "s", range(4), header))
    assert store.header.origin == origin
    assert [store.metadata(i) for i in range(4)] == [make_episode(i).metadata for i in range(4)]
    assert store.metadata(0) == {} and store.metadata(3)["source"] == "é 3"
    assert store.read(3, 0, 1).metadata == store.metadata(3)
    assert b"\xc3" not in (tmp_path / "s" / "metadata.jsonl").read_bytes()
    for episode in (-1, 4):
        with pytest.raises(DataError, match="expected 0..3"):
            store.metadata(episode)


def test_metadata_takes_no_file_where_none_is_given(tmp_path: Path) -> None:
    with EpisodeWriter(tmp_path / "s", HEADER) as writer:
        for seed in (0, 2):
            writer.append(make_episode(seed))
    assert not (tmp_path / "s" / "metadata.jsonl").exists()
    assert EpisodeStore(tmp_path / "s").metadata(1) == {}
    write(tmp_path / "s", range(3, 4))  # an odd seed: the first one with metadata
    assert EpisodeStore(tmp_path / "s").metadata(1) == {}
    assert EpisodeStore(tmp_path / "s").metadata(2) == make_episode(3).metadata


def test_headers_that_cannot_be_stored(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="image_format: got 'jpeg', expected one of"):
        dataclasses.replace(HEADER, image_format="jpeg")
    with pytest.raises(DataError, match="not JSON-able"):
        EpisodeWriter(tmp_path / "s", dataclasses.replace(HEADER, origin={"x": {1}}))
    assert not (tmp_path / "s").exists()
