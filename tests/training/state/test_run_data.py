"""A run knows its data: other ones are refused or noted, damaged ones are found."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path

import numpy as np
import pytest
import tiny_training

from db1.data.stored import StoredSource
from db1.errors import DataError
from db1.inspection.store_lints import lost_records
from db1.store.document_writer import DocumentWriter
from db1.store.documents import DocumentStore
from db1.store.episodes import EpisodeStore, EpisodeWriter, StoreHeader
from db1.tokens.spec import Episode, FieldSpec, StepSpec
from db1.training.callbacks.standard import WholeData
from db1.training.state.run_data import DATA_FILE, RunData

SPEC = StepSpec(
    observation={"state": FieldSpec(kind="continuous", shape=(2,))},
    action=FieldSpec(kind="continuous", shape=(1,)),
)


def fill(path: Path, count: int, seed: int = 0) -> None:
    """Appends episodes of 3 steps to a store until it has `count`."""
    with EpisodeWriter(path, StoreHeader(task="toy/line", spec=SPEC)) as writer:
        for number in range(writer.num_episodes, count):
            rng = np.random.default_rng([seed, number])
            writer.append(
                Episode(
                    observations={"state": rng.normal(size=(3, 2)).astype(np.float32)},
                    actions=rng.uniform(-1, 1, (3, 1)).astype(np.float32),
                    rewards=np.ones(3, np.float32),
                    seed=number,
                )
            )


def write_text(prefix: Path) -> DocumentStore:
    with DocumentWriter(prefix, np.uint16, tokenizer="t", text_size=300) as writer:
        for number in range(20):
            writer.append(np.full(50, number))
    return DocumentStore(prefix)


def run_data(path: Path, **changes: bool) -> RunData:
    source = StoredSource([EpisodeStore(path)], num_heldout=1)
    return RunData({"toy/line": source}, tiny_training.settings(**changes))


def settle(root: Path, **changes: bool) -> dict:
    run_data(root / "store", **changes).settle(root / "run")
    return json.loads((root / "run" / DATA_FILE).read_text())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A store of 20 episodes, and a run that has learned 4 steps of it."""
    fill(tmp_path / "store", 20)
    (tmp_path / "run").mkdir()
    settle(tmp_path)
    (tmp_path / "run/checkpoints/step-00000004").mkdir(parents=True)
    return tmp_path


def test_the_same_data_go_on(root: Path) -> None:
    found = settle(root)
    assert found["changes"] == []
    assert found["sources"]["toy/line"]["counts"] == {"episodes": 20, "steps": 60, "held out": 1}


def test_more_data_are_refused_or_noted(root: Path) -> None:
    fill(root / "store", 40)
    with pytest.raises(DataError, match=r"toy/line: episodes 20 -> 40, steps 60 -> 120\)"):
        settle(root)
    found = settle(root, allow_changed_data=True)
    assert found["changes"] == [
        {"step": 4, "what": ["toy/line: episodes 20 -> 40, steps 60 -> 120"]}
    ]
    assert settle(root)["changes"] == found["changes"]


def test_other_data_of_equal_size_are_refused(root: Path) -> None:
    for file in (root / "store").iterdir():
        file.unlink()
    fill(root / "store", 20, seed=1)
    with pytest.raises(DataError, match="as many, and other ones.*training.allow_changed_data"):
        settle(root)


def test_before_the_first_checkpoint_nothing_was_learned(root: Path) -> None:
    (root / "run/checkpoints/step-00000004").rmdir()
    fill(root / "store", 30)
    assert settle(root)["sources"]["toy/line"]["counts"]["episodes"] == 30


def test_a_run_of_an_older_db1(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    (root / "run" / DATA_FILE).unlink()
    with caplog.at_level(logging.INFO):
        settle(root)
    assert "started without fingerprints of its data" in caplog.text
    (root / "run" / DATA_FILE).write_text("{")
    with pytest.raises(DataError, match="data.json: unreadable"):
        settle(root)


def test_damage_is_found_beside_the_training_and_ends_it(root: Path, tmp_path: Path) -> None:
    file = root / "store/actions.bin"
    content = bytearray(file.read_bytes())
    content[100] ^= 1
    file.write_bytes(content)
    data = run_data(root / "store")
    data.watch()
    end = time.monotonic() + 60
    while not data.is_damaged and time.monotonic() < end:
        time.sleep(0.01)
    with pytest.raises(DataError, match=r"episode 8: checksum .* the store is damaged"):
        data.raise_found()
    trainer = tiny_training.make_trainer(tmp_path / "train")
    trainer._callbacks.insert(1, WholeData(data))
    with pytest.raises(DataError, match="the store is damaged|its checksum"):
        trainer.run()
    assert not list((tmp_path / "train/checkpoints").glob("step-*"))
    with pytest.raises(DataError, match="the store is damaged"):
        for _ in range(50):
            settle(root)
    settle(root, verify_data=False)


def test_documents_have_checksums(tmp_path: Path) -> None:
    store = write_text(tmp_path / "d")
    assert store.num_blocks == 1
    store.verify()
    before = store.digest()
    file = tmp_path / "d.bin"
    content = bytearray(file.read_bytes())
    content[500] ^= 1
    file.write_bytes(content)
    store = DocumentStore(tmp_path / "d")
    with pytest.raises(DataError, match=r"d.bin: bytes 0 to 2000 differ from their checksum"):
        store.verify()
    with pytest.raises(DataError, match="differ from their checksum"):
        StoredSource([store]).check_one(np.random.default_rng(0))
    sidecar = json.loads((tmp_path / "d.json").read_text())
    del sidecar["checksums"], sidecar["checksum"]
    (tmp_path / "d.json").write_text(json.dumps(sidecar))
    store = DocumentStore(tmp_path / "d")
    store.verify()
    assert store.num_blocks == 0 and store.digest() != before


def test_records_that_lost_their_end_are_told(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = root / "store/episodes.bin"
    file.write_bytes(file.read_bytes()[: 10 * 56])
    store = EpisodeStore(root / "store")
    assert (store.num_episodes, store.num_steps_behind) == (10, 30)
    assert [finding.code for finding in lost_records(store)] == ["lost-records"]
    with pytest.raises(DataError, match="episodes 20 -> 10"):
        settle(root)
    settle(root, allow_changed_data=True)
    assert "30 steps lie behind the last of 10 episodes" in caplog.text
