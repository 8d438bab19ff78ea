"""Reading at scale: huge stores, many texts, many stores, many processes."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from toy_episodes import assert_holds, assert_same, make_episode, write

from db1.errors import DataError
from db1.store import strings
from db1.store.episodes import EpisodeStore, EpisodeWriter, StoreHeader
from db1.store.records import RECORD, record_checksums
from db1.tokens.spec import Episode, FieldSpec, StepSpec

NUM_EPISODES, EPISODE_STEPS = 1_000_000, 100
STATE_SIZE = 39


@pytest.fixture(scope="module")
def huge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """100 million steps of zeros in sparse files, which take no room."""
    spec = StepSpec(
        observation={"state": FieldSpec(kind="continuous", shape=(STATE_SIZE,))},
        action=FieldSpec(kind="discrete", num_values=3),
    )
    path = tmp_path_factory.mktemp("huge") / "s"
    EpisodeWriter(path, StoreHeader(task="toy/huge", spec=spec)).close()
    records = np.zeros(NUM_EPISODES, dtype=RECORD)
    records["length"] = EPISODE_STEPS
    records["start"] = np.arange(NUM_EPISODES) * EPISODE_STEPS
    records["record_crc"] = record_checksums(records)
    records.tofile(path / "episodes.bin")
    for name, width in (("observations.state", STATE_SIZE), ("actions", 1), ("rewards", 1)):
        os.truncate(path / f"{name}.bin", NUM_EPISODES * EPISODE_STEPS * 4 * width)
    return path


def test_a_hundred_million_steps_open_in_a_second(huge: Path) -> None:
    start = time.perf_counter()
    store = EpisodeStore(huge)
    seconds = time.perf_counter() - start
    assert store.num_steps == 100_000_000 and len(store.read(999_999)) == 100
    assert store.returns.shape == store.seeds.shape == store.successes.shape == (NUM_EPISODES,)
    assert seconds < 1.0


READ_AT_RANDOM = """
import sys
import numpy as np
from db1.store.episodes import EpisodeStore

def megabytes():
    lines = open("/proc/self/status").read().splitlines()
    return {l.split(":")[0]: int(l.split()[1]) / 1024 for l in lines if l[:3] in ("VmR", "Rss")}

before = megabytes()
store, rng = EpisodeStore(sys.argv[1]), np.random.default_rng(0)
for _ in range(20_000):
    start = int(rng.integers(70))
    store.read_window(int(rng.integers(store.num_episodes)), start, start + 30)
after = megabytes()
print(*(after[name] - before[name] for name in ("VmRSS", "RssAnon")))
"""


def test_random_windows_of_a_huge_store_need_little_memory(huge: Path) -> None:
    """20,000 windows touch 80 MB of rows in 15.6 GB; resident memory keeps none of them."""
    result = subprocess.run(
        [sys.executable, "-c", READ_AT_RANDOM, huge], capture_output=True, text=True, check=True
    )
    resident, anonymous = map(float, result.stdout.split())
    assert resident < 60 and anonymous < 60


READ_EVERYTHING = """
import sys
from db1.store.episodes import EpisodeStore

def peak():
    return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) / 1024

store = EpisodeStore(sys.argv[1])
before = peak()
store.verify()
after = peak()
store.statistics()
print(store.num_bytes >> 20, after - before, peak() - before)
"""


def test_verifying_and_summing_up_need_little_memory(tmp_path: Path) -> None:
    """One episode of 196 MiB, in chunks."""
    spec = StepSpec(
        observation={"pixels": FieldSpec(kind="image", shape=(64, 64, 3))},
        action=FieldSpec(kind="discrete", num_values=2),
    )
    num_steps = (196 << 20) // (64 * 64 * 3)
    episode = Episode(
        observations={"pixels": np.zeros((num_steps, 64, 64, 3), np.uint8)},
        actions=np.zeros(num_steps, int),
        rewards=np.zeros(num_steps),
    )
    with EpisodeWriter(tmp_path / "s", StoreHeader(task="toy/large", spec=spec)) as writer:
        writer.append(episode)
    result = subprocess.run(
        [sys.executable, "-c", READ_EVERYTHING, tmp_path / "s"],
        capture_output=True,
        text=True,
        check=True,
    )
    size, verifying, summing_up = map(float, result.stdout.split())
    assert size == 196 and verifying < 30 and summing_up < 80


def test_small_stores_open_fast(tmp_path: Path) -> None:
    path = write(tmp_path / "s", range(50))
    pickled = pickle.dumps(EpisodeStore(path))
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        pickle.loads(pickled)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.005


def test_windows_are_read_fast(tmp_path: Path) -> None:
    """A loose limit for a shared machine; docs/benchmarks.md has the figures."""
    spec = StepSpec(
        observation={"state": FieldSpec(kind="continuous", shape=(STATE_SIZE,))},
        action=FieldSpec(kind="continuous", shape=(4,)),
    )
    rng = np.random.default_rng(0)
    episode = Episode(
        observations={"state": rng.normal(size=(500, STATE_SIZE)).astype(np.float32)},
        actions=np.zeros((500, 4)),
        rewards=np.zeros(500),
    )
    with EpisodeWriter(tmp_path / "s", StoreHeader(task="toy/fast", spec=spec)) as writer:
        for _ in range(20):
            writer.append(episode)
    store, rounds = EpisodeStore(tmp_path / "s"), []
    for _ in range(5):
        start = time.perf_counter()
        for i in range(400):
            store.read_window(i % 20, i, i + 30)
        rounds.append((time.perf_counter() - start) / 400)
    assert min(rounds) < 60e-6


TEXT = StepSpec(
    observation={"mission": FieldSpec(kind="text")},
    action=FieldSpec(kind="discrete", num_values=2),
)


def _text_episode(texts: list[str]) -> Episode:
    return Episode(
        observations={"mission": np.array(texts, dtype=object)},
        actions=np.zeros(len(texts), int),
        rewards=np.zeros(len(texts)),
    )


def test_a_million_texts_are_read_one_by_one(tmp_path: Path) -> None:
    """Only the lines that a window names are read and parsed."""
    path = tmp_path / "s"
    with EpisodeWriter(path, StoreHeader(task="toy/text", spec=TEXT)) as writer:
        for first in range(0, 1_000_000, 100_000):
            texts = [f"mission number {i}" for i in range(first, first + 100_000)]
            writer.append(_text_episode(texts))
        assert len(writer._numbers._numbers) == strings.MAX_REMEMBERED
    start = time.perf_counter()
    store = EpisodeStore(path)
    observations, _ = store.read_window(6, 123, 133)
    assert time.perf_counter() - start < 0.1
    assert observations["mission"].tolist() == [f"mission number {600_123 + i}" for i in range(10)]
    with EpisodeWriter(path, StoreHeader(task="toy/text", spec=TEXT)) as writer:
        writer.append(_text_episode(["mission number 999999", "mission number 0", "new"]))
    assert EpisodeStore(path).read(10).observations["mission"].tolist() == [
        "mission number 999999",
        "mission number 0",
        "new",
    ]


def test_forgotten_texts_are_stored_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strings, "MAX_REMEMBERED", 3)
    rng = np.random.default_rng(0)
    episodes = [[f"text {i}" for i in rng.integers(0, 8, 6)] for _ in range(20)]
    for half in (episodes[:10], episodes[10:]):
        with EpisodeWriter(tmp_path / "s", StoreHeader(task="toy/text", spec=TEXT)) as writer:
            for texts in half:
                writer.append(_text_episode(texts))
    store = EpisodeStore(tmp_path / "s")
    assert [store.read(i).observations["mission"].tolist() for i in range(20)] == episodes
    counts, statistics = store.verify(), store.statistics()
    assert 8 < counts.num_strings < 120
    assert statistics.fields["observations.mission"].num_texts == 8


def test_more_stores_than_open_files(tmp_path: Path) -> None:
    """A mixture of hundreds of tasks reads all of them within a small limit of open files."""
    paths = [write(tmp_path / str(i), range(i, i + 2)) for i in range(60)]
    script = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))\n"
        "from db1.store.episodes import EpisodeStore\n"
        "stores = [EpisodeStore(path) for path in sys.argv[1:]]\n"
        "print(sum(int(s.read(i).seed) for _ in range(2) for s in stores for i in range(2)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, *paths], capture_output=True, text=True, check=True
    )
    assert int(result.stdout) == 2 * sum(2 * i + 1 for i in range(60))


def test_a_store_made_anew_is_read_anew(tmp_path: Path) -> None:
    path = write(tmp_path / "s", range(3))
    store = EpisodeStore(path)
    assert_same(store.read(1), make_episode(1))
    for file in path.iterdir():
        file.unlink()
    assert_holds(write(path, range(5, 9)), range(5, 9))


def _read_all(store: EpisodeStore) -> bool:
    for i in range(store.num_episodes):
        assert_same(store.read(i), make_episode(i))
    return True


def _work(store: EpisodeStore, results: multiprocessing.SimpleQueue) -> None:
    results.put(_read_all(store))


def test_forked_workers_share_an_open_store(tmp_path: Path) -> None:
    store = EpisodeStore(write(tmp_path / "s", range(20)))
    assert _read_all(store)
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    workers = [context.Process(target=_work, args=(store, results)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(20)
        assert worker.exitcode == 0
    assert all(results.get() for _ in workers)


def test_spawned_workers_open_it_again(tmp_path: Path) -> None:
    store = EpisodeStore(write(tmp_path / "s", range(20)))
    write(tmp_path / "s", range(20, 25))
    script = (
        "import pickle, sys; store = pickle.load(sys.stdin.buffer)\n"
        "print(store.num_episodes, store.num_steps, store.read(19, 0, 1).seed)"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], input=pickle.dumps(store), capture_output=True, check=True
    )
    assert [int(word) for word in result.stdout.split()] == [20, store.num_steps, 19]


def test_threads_share_a_store_with_few_open_files(tmp_path: Path) -> None:
    stores = [EpisodeStore(write(tmp_path / str(i), range(12))) for i in range(4)]
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(_read_all, stores * 4))


def test_a_store_cut_while_in_use_cannot_be_unpickled(tmp_path: Path) -> None:
    pickled = pickle.dumps(EpisodeStore(write(tmp_path / "s", range(5))))
    os.truncate(tmp_path / "s" / "episodes.bin", 2 * RECORD.itemsize)
    with pytest.raises(DataError, match="2 episodes, expected 5"):
        pickle.loads(pickled)
