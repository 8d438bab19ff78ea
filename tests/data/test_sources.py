"""Sources open their stores when needed, name what is broken, and stay small in numbers."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from db1.benchmarks.corpora import CONTROL, TaskSize, write_documents, write_task
from db1.benchmarks.scale import write_many_stores
from db1.data.loader import load_batches
from db1.data.mixture import FixedSamples, generator_of
from db1.data.sources import EpisodeSource, TextSource
from db1.errors import DataError
from db1.sequence.episode import SequenceConfig, encode_episode
from db1.tokens.vocabulary import Vocabulary, VocabularyConfig

VOCABULARY = Vocabulary(VocabularyConfig())
CONFIG = SequenceConfig(length=256, history_noise=0.1)
PLAIN = SequenceConfig(length=256, prompt_probability=0.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sources")
    write_task(root, CONTROL, TaskSize(num_episodes=6, num_steps=40), {"task": "raw"})
    return root


@pytest.fixture
def task(folder: Path) -> EpisodeSource:
    return EpisodeSource(folder / "task", VOCABULARY, None, CONFIG)


@pytest.fixture(scope="module")
def book(folder: Path) -> TextSource:
    tokenizer, _ = write_documents(folder / "text", 20)
    return TextSource(folder / "text/book", "book", VOCABULARY, tokenizer, CONFIG, seed=0)


def test_a_window_is_cut_from_its_episode(task: EpisodeSource) -> None:
    """Without a prompt or noise a sample is a stretch of the whole episode's tokens."""
    source = EpisodeSource(task.store.path, VOCABULARY, None, PLAIN)
    for n in range(20):
        episode, start, stop = source.windows.draw(generator_of(0, n))
        whole = encode_episode(source.codec, source.store.read(episode), "")
        sample = source.sample(0, generator_of(0, n))
        first = start * 44
        assert stop - start == 6 and sample.labels is None
        for name in ("ids", "local_positions", "target_mask"):
            expected = getattr(whole, name)[first : first + 257]
            np.testing.assert_array_equal(getattr(sample, name), expected)


def test_sources_pickle_without_their_stores(task: EpisodeSource, book: TextSource) -> None:
    for source in (task, book):
        pickled = pickle.dumps(source)
        copy = pickle.loads(pickle.dumps(pickle.loads(pickled)))  # twice: never opened between
        for n in (3, 40):
            ours, theirs = (s.sample(n, generator_of(0, n)) for s in (source, copy))
            np.testing.assert_array_equal(ours.ids, theirs.ids)
            np.testing.assert_array_equal(ours.label_ids, theirs.label_ids)
    assert len(pickle.dumps([task, task.codec])) < 4_000


def test_a_source_whose_store_is_gone_says_so_when_it_is_used(folder: Path, tmp_path: Path) -> None:
    write_task(tmp_path / "gone", CONTROL, TaskSize(num_episodes=2, num_steps=9), {"0": "raw"})
    source = EpisodeSource(tmp_path / "gone/0", VOCABULARY, None, CONFIG)
    pickled = pickle.dumps(source)
    (tmp_path / "gone").rename(tmp_path / "moved")
    with pytest.raises(DataError, match="no episode store"):
        pickle.loads(pickled).sample(0, generator_of(0, 0))


def test_spawned_readers_draw_the_same(task: EpisodeSource) -> None:
    numbers = [[0, 1], [2, 3]]
    dataset = FixedSamples(task, 4, seed=5)
    here = list(load_batches(dataset, numbers))
    there = list(load_batches(dataset, numbers, num_workers=1, start_method="spawn"))
    assert all((a.ids == b.ids).all() for a, b in zip(here, there, strict=True))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_errors_name_sample_task_episode_and_steps(tmp_path: Path, num_workers: int) -> None:
    write_task(tmp_path, CONTROL, TaskSize(num_episodes=1, num_steps=6), {"broken": "raw"})
    source = EpisodeSource(tmp_path / "broken", VOCABULARY, None, PLAIN)
    column = np.memmap(tmp_path / "broken/observations.state.bin", np.float32, "r+")
    column[5] = np.nan
    column.flush()
    with pytest.raises(DataError) as caught:
        list(load_batches(FixedSamples(source, 1, 0), [[0]], num_workers=num_workers))
    expected = "sample 0: bench/broken episode 0, steps 0..5: state: 1 values not finite"
    assert str(caught.value) == expected


def test_errors_name_the_corpus(tmp_path: Path) -> None:
    tokenizer, _ = write_documents(tmp_path, 20)
    small = Vocabulary(VocabularyConfig(text_size=10, num_discrete=1))
    source = TextSource(tmp_path / "book", "book", small, tokenizer, CONFIG, seed=0)
    with pytest.raises(DataError, match=r"^book, stretch 3: text id \d+, expected 0\.\.9$"):
        source.stretch(3)


MANY = """
import json, resource, sys
from dataclasses import asdict
from pathlib import Path
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
from db1.benchmarks.resident import open_and_draw
folders = sorted(Path(sys.argv[1]).iterdir())
print(json.dumps(asdict(open_and_draw([f for f in folders if f.name.isdigit()], 256))))
"""


def test_many_stores_need_few_files_little_memory_and_little_time(tmp_path: Path) -> None:
    """A tenth of 1,000 stores in 10 s and 500 MB; 200 columns share fewer than 64 open files."""
    write_many_stores(tmp_path, 100)
    command = [sys.executable, "-c", MANY, str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    figures = json.loads(result.stdout)
    assert figures["num_steps"] == 100 * 20 * 50
    assert figures["open_seconds"] < 10 / 10
    if figures["megabytes"] is None:
        pytest.skip("this system does not tell the resident memory (Linux does)")
    assert figures["megabytes"] < 500 / 10


def test_stretches_are_the_documents_laid_end_to_end(book: TextSource) -> None:
    store = book.store
    tokens = np.concatenate([store.document(i) for i in range(store.num_documents)])
    assert len(book) == (len(tokens) - 1) // 256
    for i in (0, 7, len(book) - 1):
        np.testing.assert_array_equal(book.stretch(i).ids, tokens[i * 256 : i * 256 + 257])
    with pytest.raises(DataError, match=rf"expected within \[0, {len(tokens)}\)"):
        store.read_tokens(len(tokens) - 3, len(tokens) + 1)
