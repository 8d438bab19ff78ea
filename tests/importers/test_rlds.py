"""RLDS data sets without TensorFlow: `rlds_sets.zip`, and TFRecord files of the package tfrecord.

The sets were serialised by tensorflow_datasets 4.9.10 and framed by tfrecord 1.14.6: three episodes
of 5, 3 and 4 rows as of Open X-Embodiment, rlu_atari and rlu_control_suite.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from db1.errors import ConfigError, DataError, Db1Error
from db1.formats.fields import BadEpisode
from db1.formats.tfrecord import parse_example, read_record, record_offsets
from db1.importers import ImportContext, ImportSummary
from db1.importers.rlds import RldsOptions, import_rlds
from db1.store.episodes import EpisodeStore
from db1.tokens.spec import FieldSpec

pytest.importorskip("google_crc32c", reason='pip install "db1[import]" runs it')

LENGTHS = (5, 3, 4)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with zipfile.ZipFile(Path(__file__).with_name("rlds_sets.zip")) as file:
        file.extractall(tmp_path / "sets")
    return tmp_path / "sets"


def imported(source: Path, out: Path, **options: Any) -> ImportSummary:
    return import_rlds(str(source), out, RldsOptions(**options), ImportContext())


def test_open_x(folder: Path, tmp_path: Path) -> None:
    summary = imported(folder / "open_x", tmp_path / "out")
    assert any("ignored the features" in n and "observation/depth" in n for n in summary.notes)
    assert any("a step like the others" in n for n in summary.notes)
    store = EpisodeStore(tmp_path / "out")
    assert store.header.task == "rlds/toy_robot"
    assert set(store.header.spec.observation) == {"image", "wrist", "state"}
    assert store.header.spec.action == FieldSpec(kind="continuous", shape=(5,))
    for number, length in enumerate(LENGTHS):
        episode = store.read(number)
        assert len(episode) == length and episode.terminated
        expected = [[number, t, number + t / 8] for t in range(length)]
        assert np.array_equal(episode.observations["state"], np.array(expected, np.float32))
        # gripper, terminate, world_vector
        actions = [[0.5, t == length - 1, t / 8, -t / 8, number / 4] for t in range(length)]
        assert np.array_equal(episode.actions, np.array(actions, np.float32))
        assert episode.rewards.tolist() == [0.0] * (length - 1) + [1.0]
        text = ("open the drawer", "push the block")[number % 2]
        assert episode.metadata["instruction"] == text and episode.metadata["index"] == number
        assert episode.metadata["file_path"] == f"/data/{number}.h5"
        for key, slack in (("image", 0), ("wrist", 12)):
            pictures = episode.observations[key].astype(int)
            assert np.abs(pictures[:, 8, 8, 0] - (40 * number + 60)).max() <= slack
            assert np.abs(pictures[:, 8, 40, 1] - 40 * np.arange(length) - 40).max() <= slack


def test_atari(folder: Path, tmp_path: Path) -> None:
    imported(folder / "rlu_atari" / "1.3.0", tmp_path / "out")
    store = EpisodeStore(tmp_path / "out")
    assert store.header.spec.action == FieldSpec(kind="discrete", num_values=5)
    assert store.header.spec.observation["pixels"].shape == (96, 96, 3)
    episode = store.read(1)
    assert episode.actions.tolist() == [1, 2] and episode.rewards.tolist() == [1.0, 1.0]
    assert episode.observations["pixels"][:, 50, 20].tolist() == [[100] * 3] * 2
    assert episode.metadata["episode_id"] == 101 and episode.metadata["episode_return"] == 2.0
    assert episode.terminated


def test_control_suite(folder: Path, tmp_path: Path) -> None:
    imported(folder / "rlu_control_suite", tmp_path / "out", action_bounds="data")
    store = EpisodeStore(tmp_path / "out")
    spec = store.header.spec.observation
    assert {key: field.shape for key, field in spec.items()} == {
        "position": (2,),
        "velocity": (1,),
        "height": (),
    }
    episode = store.read(2)
    assert episode.observations["position"].tolist() == [[2, 0], [2, 1], [2, 2]]
    assert episode.observations["velocity"].tolist() == [[0], [0.125], [0.25]]
    assert store.header.origin["action_high"] == [0.375, 0]
    assert episode.actions[:, 0].tolist() == pytest.approx([-1, -1 / 3, 1 / 3])
    assert not episode.terminated and episode.metadata["truncated"]
    assert episode.metadata["timestamp"] == -5


def test_what_the_last_step_is(folder: Path, tmp_path: Path) -> None:
    imported(folder / "rlu_atari", tmp_path / "a", last_step="step")
    assert [len(EpisodeStore(tmp_path / "a").read(i)) for i in range(3)] == list(LENGTHS)
    imported(folder / "open_x", tmp_path / "b", last_step="observation")
    assert [len(EpisodeStore(tmp_path / "b").read(i)) for i in range(3)] == [4, 2, 3]
    features = folder / "open_x/0.1.0/features.json"
    content = json.loads(features.read_text())
    del content["featuresDict"]["features"]["steps"]["sequence"]["feature"]["featuresDict"][
        "features"
    ]["language_instruction"]
    features.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"last step has a reward \(1\).*--last-step step"):
        imported(folder / "open_x", tmp_path / "c")


def test_chosen_fields_and_instructions(folder: Path, tmp_path: Path) -> None:
    imported(folder / "open_x", tmp_path / "out", fields="state", instruction_field=True)
    store = EpisodeStore(tmp_path / "out")
    assert set(store.header.spec.observation) == {"state", "instruction"}
    assert store.read(1).observations["instruction"].tolist() == ["push the block"] * 3
    with pytest.raises(ConfigError, match="no observation 'stat', the set has image, state"):
        imported(folder / "open_x", tmp_path / "x", fields="stat")


def test_goes_on_where_it_was_killed(folder: Path, tmp_path: Path) -> None:
    imported(folder / "open_x", tmp_path / "out", max_episodes=1)
    assert imported(folder / "open_x", tmp_path / "out").num_before == 1
    imported(folder / "open_x", tmp_path / "whole")
    for name in sorted(path.name for path in (tmp_path / "whole").glob("*.bin")):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


SHARD = "open_x/0.1.0/toy_robot-train.tfrecord-00000-of-00002"


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda f: flip(f / SHARD, 1000), "wrong checksum of the record at byte 0; it is corrupt"),
        (lambda f: flip(f / SHARD, 3), "wrong checksum of a record's length at byte 0"),
        (lambda f: (f / SHARD).write_bytes((f / SHARD).read_bytes()[:-9]), "ends inside record 1"),
        (lambda f: (f / SHARD).unlink(), "1 files of the split 'train', expected 2"),
        (lambda f: (f / "open_x/0.1.0/features.json").write_text("{"), "not readable as JSON"),
        (lambda f: (f / "open_x/0.1.0/features.json").write_text("{}"), "no features of RLDS"),
        (lambda f: (f / "open_x/0.1.0/features.json").unlink(), "no features.json in it or below"),
    ],
)
def test_broken_sets(folder: Path, tmp_path: Path, damage: Any, said: str) -> None:
    damage(folder)
    with pytest.raises(Db1Error, match=said):
        imported(folder / "open_x", tmp_path / "out")


def test_a_corrupt_record_costs_its_episode_only(folder: Path, tmp_path: Path) -> None:
    flip(folder / SHARD, 1000)
    summary = imported(folder / "open_x", tmp_path / "out", skip_bad=True)
    assert summary.num_stored == 2 and summary.counts["left out by --skip-bad"] == 1


def test_several_sets_and_an_unknown_split(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="3 data sets below it"):
        imported(folder, tmp_path / "out")
    with pytest.raises(ConfigError, match="split 'test', expected one of train"):
        imported(folder / "open_x", tmp_path / "out", split="test")


def test_records_and_examples_of_the_package_tfrecord(tmp_path: Path) -> None:
    writer_of = pytest.importorskip("tfrecord.writer", reason="pip install tfrecord runs it")
    writer = writer_of.TFRecordWriter(str(tmp_path / "a.tfrecord"))
    numbers = [0, 1, 127, 128, 300, 2**40, -1, -(2**63), 2**63 - 1]
    for i in range(3):
        writer.write(
            {
                "ints": (numbers, "int"),
                "floats": ([0.5, -1.25, 3e38], "float"),
                "texts": ([b"a", b"", bytes([i]) * 1000], "byte"),
                "one": (i, "int"),
            }
        )
    writer.close()
    offsets = record_offsets(tmp_path / "a.tfrecord")
    assert len(offsets) == 3
    found = parse_example(read_record(tmp_path / "a.tfrecord", offsets[2]), "x")
    assert found["ints"].tolist() == numbers and found["one"].tolist() == [2]
    assert found["floats"].tolist() == np.array([0.5, -1.25, 3e38], np.float32).tolist()
    assert found["texts"] == [b"a", b"", b"\2" * 1000]


def test_examples_with_numbers_that_are_not_packed() -> None:
    """Field by field, as the wire format allows: floats of 4 bytes, varints one by one."""
    floats = b"".join(b"\x0d" + np.float32(x).tobytes() for x in (1.5, -2))
    ints = b"\x08\x01\x08\xac\x02"
    entries = b""
    for name, kind, content in ((b"f", 2, floats), (b"i", 3, ints)):
        feature = bytes([kind << 3 | 2, len(content)]) + content
        entry = b"\x0a\x01" + name + b"\x12" + bytes([len(feature)]) + feature
        entries += b"\x0a" + bytes([len(entry)]) + entry
    found = parse_example(b"\x0a" + bytes([len(entries)]) + entries, "x")
    assert found["f"].tolist() == [1.5, -2.0] and found["i"].tolist() == [1, 300]
    for cut in range(1, len(entries)):
        try:
            parse_example((b"\x0a" + bytes([len(entries)]) + entries)[:-cut], "x")
        except BadEpisode as error:
            assert "not a tf.train.Example" in str(error)
