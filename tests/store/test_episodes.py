"""Episode stores: what goes in comes out, and every way of breaking one is told."""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging
import multiprocessing
import os
import pickle
import resource
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from db1.errors import DataError
from db1.store.episode_layout import RECORD, record_checksums
from db1.store.episodes import EpisodeStore, EpisodeWriter, StoreHeader
from db1.tokens.spec import Episode, FieldSpec, StepSpec

SPEC = StepSpec(
    observation={
        "mission": FieldSpec(kind="text"),
        "image": FieldSpec(kind="image", shape=(16, 16, 3)),
        "place/x": FieldSpec(kind="discrete", shape=(2,), num_values=7),
        "state": FieldSpec(kind="continuous", shape=(3,)),
    },
    action=FieldSpec(kind="continuous", shape=(2,)),
)
HEADER = StoreHeader(task="toy/line", spec=SPEC, environment={"id": "line-v0", "horizon": 9})
COLUMNS = ("observations.image", "observations.place%2Fx", "observations.state", "actions")


def make_episode(seed: int, length: int | None = None) -> Episode:
    rng = np.random.default_rng(seed)
    length = int(rng.integers(1, 12)) if length is None else length
    words = ["go to the red ball", "line\nbreak \u2028 and 😀", f"seed {seed}", ""]
    mission = np.array([words[i] for i in rng.integers(0, 4, length)], dtype=object)
    return Episode(
        observations={
            "mission": mission,
            "image": rng.integers(0, 256, (length, 16, 16, 3), dtype=np.uint8),
            "place/x": rng.integers(0, 7, (length, 2), dtype=np.int32),
            "state": rng.normal(size=(length, 3)).astype(np.float32),
        },
        actions=rng.uniform(-1, 1, (length, 2)).astype(np.float32),
        rewards=rng.normal(size=length).astype(np.float32),
        seed=seed,
        terminated=bool(seed % 2),
        success=(None, False, True)[seed % 3],
    )


def write(path: Path, seeds: range, header: StoreHeader = HEADER, **kwargs: object) -> Path:
    with EpisodeWriter(path, header, **kwargs) as writer:
        for seed in seeds:
            writer.append(make_episode(seed))
    return path


def assert_same(got: Episode, want: Episode) -> None:
    for key in SPEC.observation:
        assert got.observations[key].dtype == want.observations[key].dtype
        np.testing.assert_array_equal(got.observations[key], want.observations[key])
    np.testing.assert_array_equal(got.actions, want.actions)
    np.testing.assert_array_equal(got.rewards, want.rewards)
    assert (got.seed, got.terminated, got.success) == (want.seed, want.terminated, want.success)


def assert_holds(path: Path, seeds: range) -> None:
    store = EpisodeStore(path)
    assert store.num_episodes == len(seeds)
    for i, seed in enumerate(seeds):
        assert_same(store.read(i), make_episode(seed))
    assert store.verify().num_episodes == len(seeds)


def test_round_trip_and_summary_columns(tmp_path: Path) -> None:
    store = EpisodeStore(write(tmp_path / "s", range(10)))
    episodes = [make_episode(seed) for seed in range(10)]
    assert store.header == HEADER and store.spec == SPEC
    content = json.loads((tmp_path / "s" / "header.json").read_text())
    assert (content["format"], content["version"]) == ("db1-episodes", 1)
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
        (lambda e: _with(e, mission=np.array(["\ud83d"] * 4, dtype=object)), "no valid Unicode"),
        (lambda e: _with(e, state=[[1.0], [1.0, 2.0]]), "'state': no array of float32"),
        (lambda e: dataclasses.replace(e, seed=2**63), "does not fit 64 bits"),
        (lambda e: _with(e, other=np.zeros(4)), "observation keys"),
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


def test_every_cut_of_the_last_append_is_recovered(tmp_path: Path) -> None:
    """Replays the append's writes in order and cuts after each, mid-write included."""
    path = write(tmp_path / "s", range(3))
    before = {p.name: p.stat().st_size for p in path.iterdir()}
    with EpisodeWriter(path, HEADER) as writer:
        writer.append(make_episode(3))
    after = {p.name: p.read_bytes() for p in path.iterdir()}
    order = ["strings.jsonl", *(f"{name}.bin" for name in (*COLUMNS, "rewards"))]
    order += ["observations.mission.bin", "episodes.bin"]
    assert set(order) | {"header.json"} == set(after)
    for number, name in enumerate(order):
        grown = len(after[name]) - before[name]
        for part in {1, grown // 2, grown - 1, grown}:
            if name == "episodes.bin" and part == grown:
                continue
            for i, other in enumerate(order):
                end = len(after[other]) if i < number else before[other]
                (path / other).write_bytes(after[other][: end + (part if i == number else 0)])
            assert_holds(path, range(3))
            write(path, range(3, 5))
            assert_holds(path, range(5))


def _append_for_ever(path: Path) -> None:
    with EpisodeWriter(path, HEADER) as writer:
        while True:
            writer.append(make_episode(writer.num_episodes))


@pytest.mark.parametrize("delay", [0.02, 0.05])
def test_killed_writer(tmp_path: Path, delay: float) -> None:
    child = multiprocessing.get_context("fork").Process(
        target=_append_for_ever, args=(tmp_path / "s",)
    )
    child.start()
    while not (tmp_path / "s" / "episodes.bin").exists():
        time.sleep(0.01)
    time.sleep(delay)
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    count = EpisodeStore(tmp_path / "s").num_episodes
    assert_holds(tmp_path / "s", range(count))
    write(tmp_path / "s", range(count, count + 2))
    assert_holds(tmp_path / "s", range(count + 2))


def test_full_disk_keeps_what_is_complete(tmp_path: Path) -> None:
    """A file size limit stands for the full disk: the kernel writes a part, then refuses."""
    writer = EpisodeWriter(tmp_path / "s", HEADER)
    writer.append(make_episode(0, length=3))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6_000, hard))
    try:
        with pytest.raises(DataError, match="episode 1: .*the 1 episodes before it are complete"):
            writer.append(make_episode(1, length=9))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, previous)
    assert EpisodeStore(tmp_path / "s").verify().num_steps == 3
    writer.append(make_episode(1, length=9))
    writer.close()
    assert_same(EpisodeStore(tmp_path / "s").read(1), make_episode(1, length=9))
    assert EpisodeStore(tmp_path / "s").verify().num_steps == 12


def test_interrupt_in_the_middle_of_an_append(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with EpisodeWriter(tmp_path / "s", HEADER) as writer:
        writer.append(make_episode(0))
        with monkeypatch.context() as patch:
            patch.setattr(Episode, "total_reward", property(_interrupt))
            with pytest.raises(KeyboardInterrupt):
                writer.append(make_episode(2))
        writer.append(make_episode(1))
    assert_holds(tmp_path / "s", range(2))


def _interrupt(episode: Episode) -> float:
    raise KeyboardInterrupt


@pytest.mark.parametrize("name", [*COLUMNS, "observations.mission", "rewards"])
def test_truncated_column(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "s", range(8))
    file = path / f"{name}.bin"
    os.truncate(file, file.stat().st_size // 3)
    with pytest.raises(DataError, match="truncated or damaged: the first . of 8 episodes"):
        EpisodeStore(path)
    with pytest.raises(DataError, match="repair"):
        EpisodeWriter(path, HEADER)
    with EpisodeWriter(path, HEADER, repair=True) as writer:
        count = writer.num_episodes
    assert 0 < count < 8
    assert_holds(path, range(count))


def test_damaged_last_record_is_left_out_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "s", range(4))
    flip(path / "episodes.bin", -30)
    with caplog.at_level(logging.WARNING):
        assert EpisodeStore(path).num_episodes == 3
    assert "left out 1 incomplete episode" in caplog.text
    write(path, range(3, 5))
    assert_holds(path, range(5))


def flip(file: Path, position: int) -> None:
    content = bytearray(file.read_bytes())
    content[position] ^= 4
    file.write_bytes(content)


def test_damaged_middle_record_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "s", range(4))
    flip(path / "episodes.bin", RECORD.itemsize + 3)
    with pytest.raises(DataError, match="the first 1 of 4 episodes are complete"):
        EpisodeStore(path)


@pytest.mark.parametrize("name", [*(f"{c}.bin" for c in COLUMNS), "rewards.bin", "strings.jsonl"])
def test_verify_finds_a_flipped_bit(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "s", range(4))
    flip(path / name, 9)
    with pytest.raises(DataError, match="episode 0: checksum|line 2: got"):
        EpisodeStore(path).verify()


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
        ('{"format": "db1-episodes", "version": 2}', "version 2, this db1 reads 1..1"),
        ('{"format": "db1-episodes", "version": 1}', "broken header"),
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


def test_a_hundred_million_steps_open_in_a_second(tmp_path: Path) -> None:
    spec = StepSpec(
        observation={"state": FieldSpec(kind="continuous")},
        action=FieldSpec(kind="discrete", num_values=3),
    )
    path = tmp_path / "s"
    EpisodeWriter(path, StoreHeader(task="toy/large", spec=spec)).close()
    records = np.zeros(1_000_000, dtype=RECORD)
    records["length"] = 100
    records["start"] = np.arange(len(records)) * 100
    records["record_crc"] = record_checksums(records)
    records.tofile(path / "episodes.bin")
    for name in ("observations.state", "actions", "rewards"):
        os.truncate(path / f"{name}.bin", 400_000_000)  # sparse: takes no room
    start = time.perf_counter()
    store = EpisodeStore(path)
    seconds = time.perf_counter() - start
    assert store.num_steps == 100_000_000 and len(store.read(999_999)) == 100
    assert seconds < 1.0
