"""Foreign files whose values have another kind or shape: read where that says nothing, else refused
in one line that names the file and the place."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from db1.errors import DataError, Db1Error
from db1.exporters.minari import export_minari
from db1.importers import IMPORTERS, ImportContext
from db1.store.document_writer import DocumentWriter
from db1.store.documents import DocumentStore
from db1.store.episodes import EpisodeStore
from db1.tokens.spec import FieldSpec, StepSpec
from db1.tokens.text import TextTokenizer

STEPS = 12
CARTPOLE = StepSpec(
    observation={"state": FieldSpec(kind="continuous", shape=(4,))},
    action=FieldSpec(kind="discrete", num_values=2),
)
PENDULUM = StepSpec(
    observation={"state": FieldSpec(kind="continuous", shape=(4,))},
    action=FieldSpec(kind="continuous", shape=(1,)),
)
TASKS = {"toy/cartpole": CARTPOLE, "toy/pendulum": PENDULUM}


def _import(kind: str, source: Path | str, out: Path, **options: Any) -> Any:
    entry = IMPORTERS[kind]
    context = ImportContext(known_spec=TASKS.get)
    return entry.run(str(source), out, entry.options(**options), context)


def _refused(kind: str, source: Path, out: Path, *words: str, **options: Any) -> None:
    with pytest.raises(Db1Error) as caught:
        _import(kind, source, out, **options)
    message = str(caught.value)
    assert "\n" not in message
    for word in (source.name, *words):
        assert word in message, (word, message)
    assert not out.exists()


def _hdf5(path: Path, changes: Mapping[str, Any]) -> Path:
    h5py = pytest.importorskip("h5py", reason='needs pip install "db1[import]"')
    arrays: dict[str, Any] = {
        "observations": np.zeros((STEPS, 4), np.float32),
        "actions": np.zeros((STEPS, 2), np.float32),
        "rewards": np.zeros(STEPS, np.float32),
        "terminals": np.arange(STEPS) % 4 == 3,
        "timeouts": np.zeros(STEPS, bool),
    }
    with h5py.File(path, "w") as file:
        for key, value in {**arrays, **changes}.items():
            if callable(value):
                value(file, key)
            elif value is not None:
                file[key] = value
    return path


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"timeouts": 0.0}, ("timeouts", "single number")),
        ({"rewards": 1.0}, ("rewards", "single number")),
        ({"observations": lambda f, k: f.create_dataset(k, shape=None, dtype="f4")}, ("empty",)),
        ({"observations": np.zeros((0, 4), np.float32)}, ("observations", "empty")),
        (
            {"observations": lambda f, k: f.create_group(k).__setitem__("desired_goal", [1])},
            ("observations", "group", "desired_goal"),
        ),
        (
            {"rewards": lambda f, k: f.create_dataset(k, (2**40,), "f4", chunks=(1024,))},
            ("rewards", "declares", "4,398,046,511,104"),
        ),
        ({"terminals": np.zeros(STEPS, bool)}, ("12 steps", "last one", "--keep-incomplete")),
        ({"actions": np.array([b"a"] * STEPS)}, ("actions", "dtype")),
    ],
)
def test_hdf5_arrays_that_are_none(
    tmp_path: Path, changes: Mapping[str, Any], words: tuple[str, ...]
) -> None:
    path = _hdf5(tmp_path / "a.hdf5", changes)
    _refused("d4rl", path, tmp_path / "out", *words)


@pytest.mark.parametrize(
    ("task", "actions", "options", "stored"),
    [
        ("toy/cartpole", np.ones((STEPS, 1), np.int64), {}, np.ones(4, np.int32)),
        ("toy/cartpole", np.ones(STEPS, np.float32), {}, np.ones(4, np.int32)),
        ("toy/cartpole", np.ones((STEPS, 1, 1), np.float64), {}, np.ones(4, np.int32)),
        (
            "toy/pendulum",
            np.full(STEPS, 2.0, np.float32),
            {"action_low": -2.0, "action_high": 2.0},
            np.ones((4, 1), np.float32),
        ),
        ("toy/pendulum", np.full((STEPS, 1, 1), 0.5, np.float32), {}, np.full((4, 1), 0.5)),
    ],
)
def test_axes_of_one_and_whole_floats_are_the_tasks_actions(
    tmp_path: Path, task: str, actions: np.ndarray, options: dict[str, Any], stored: np.ndarray
) -> None:
    path = _hdf5(tmp_path / "a.hdf5", {"actions": actions, "rewards": np.zeros((STEPS, 1))})
    _import("d4rl", path, tmp_path / "out", task=task, **options)
    read = EpisodeStore(tmp_path / "out").read(0).actions
    np.testing.assert_array_equal(read, stored)


def test_floats_that_are_no_whole_actions_are_refused(tmp_path: Path) -> None:
    path = _hdf5(tmp_path / "a.hdf5", {"actions": np.full(STEPS, 0.5, np.float32)})
    _refused("d4rl", path, tmp_path / "out", "0.5", "whole", task="toy/cartpole")


def _minari(
    folder: Path, changes: Mapping[str, Any], low: Any = (-1, -1), high: Any = (1, 1)
) -> Path:
    pytest.importorskip("minari", reason='needs pip install "db1[import]"')
    h5py = pytest.importorskip("h5py")
    data = folder / "data"
    data.mkdir(parents=True)
    box = {"type": "Box", "dtype": "float32", "shape": [2]}
    metadata: dict[str, Any] = {
        "data_format": "hdf5",
        "total_episodes": 1,
        "total_steps": 3,
        "dataset_id": "toy/a-v0",
        "minari_version": "0.5.3",
        "observation_space": json.dumps({**box, "low": [-9, -9], "high": [9, 9]}),
        "action_space": json.dumps({**box, "low": low, "high": high}),
        **changes,
    }
    (data / "metadata.json").write_text(json.dumps(metadata))
    with h5py.File(data / "main_data.hdf5", "w") as file:
        group = file.create_group("episode_0")
        group.attrs.update({"id": 0, "total_steps": 3})
        group["observations"] = np.zeros((4, 2), np.float32)
        group["actions"] = np.array([[0.5, 0.0]] * 3, np.float32)
        group["rewards"] = np.zeros(3)
        group["terminations"] = group["truncations"] = np.array([False, False, True])
    return folder


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"total_episodes": None}, ("total_episodes is null",)),
        ({"total_episodes": "many"}, ("total_episodes",)),
        ({"total_episodes": -1}, ("total_episodes",)),
        ({"dataset_id": [1]}, ("dataset_id",)),
        ({"action_space": '{"type": "Box", "dtype": "float32", "shape": [2]}'}, ("no 'low'",)),
        (
            {
                "action_space": '{"type": "Box", "dtype": "float32", "shape": [2],'
                ' "low": [0, 0, 0], "high": [1, 1]}'
            },
            ("low has 3 numbers", "(2,)"),
        ),
        (
            {"action_space": '{"type": "Box", "dtype": "no", "shape": [2], "low": 0, "high": 1}'},
            ("action_space",),
        ),
        ({"action_space": '{"type": "Discrete", "n": 0, "start": 0}'}, ("at least 1",)),
        ({"observation_space": '{"type": "Dict", "subspaces": {"a": ' * 40 + "1" + "}}" * 40},
         ("deep",)),
        ({"observation_space": '{"type": "MultiBinary", "n": [1099511627776, 8]}'}, ("shape",)),
    ],
)  # fmt: skip
def test_minari_metadata_of_another_kind(
    tmp_path: Path, changes: Mapping[str, Any], words: tuple[str, ...]
) -> None:
    folder = _minari(tmp_path / "set", changes)
    _refused("minari", folder, tmp_path / "out", "metadata.json", *words, task="toy/x")


@pytest.mark.parametrize("content", ["[]", "3", "[" * 2_000, "null"])
def test_minari_metadata_that_is_no_object(tmp_path: Path, content: str) -> None:
    folder = _minari(tmp_path / "set", {})
    (folder / "data/metadata.json").write_text(content)
    _refused("minari", folder, tmp_path / "out", "metadata.json", task="toy/x")


def test_a_number_that_never_moves_is_stored_as_0(tmp_path: Path) -> None:
    folder = _minari(tmp_path / "set", {}, low=[-1, 0], high=[1, 0])
    _import("minari", folder, tmp_path / "out")
    expected = np.array([[0.5, 0.0]] * 3, np.float32)
    np.testing.assert_array_equal(EpisodeStore(tmp_path / "out").read(0).actions, expected)
    _import("minari", folder, tmp_path / "given", action_low=-1.0, action_high=1.0)


def test_bounds_the_wrong_way_round_name_their_dimension(tmp_path: Path) -> None:
    folder = _minari(tmp_path / "set", {}, low=[-1, 2], high=[1, 0])
    _refused("minari", folder, tmp_path / "out", "dimension [1]", "low 2 above high 0")


@pytest.mark.parametrize("data_format", ["hdf5", "arrow"])
def test_an_export_to_a_relative_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data_format: str
) -> None:
    _import("minari", _minari(tmp_path / "set", {}), tmp_path / "store")
    monkeypatch.chdir(tmp_path)
    export_minari(Path("store"), Path("new/out"), data_format=data_format)
    assert (tmp_path / "new/out/data/metadata.json").is_file()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out"]


def _parquet(path: Path, columns: Mapping[str, Any]) -> Path:
    pyarrow = pytest.importorskip("pyarrow", reason='needs pip install "db1[import]"')
    parquet = pytest.importorskip("pyarrow.parquet")
    floats = pyarrow.list_(pyarrow.list_(pyarrow.float32()))
    whole = {
        "continuous_observations": pyarrow.array([[[1.0] * 4] * 4] * 2, floats),
        "continuous_actions": pyarrow.array([[[0.5]] * 4] * 2, floats),
        "rewards": pyarrow.array([[1.0] * 4] * 2),
    }
    made = {key: make(pyarrow) for key, make in columns.items()}
    kept = {key: value for key, value in {**whole, **made}.items() if value is not None}
    parquet.write_table(pyarrow.table(kept), path)
    return path


def test_lists_of_a_fixed_length_are_lists(tmp_path: Path) -> None:
    fixed = lambda p: p.array([[[1.0] * 4] * 4] * 2, p.list_(p.list_(p.float32(), 4)))  # noqa: E731
    large = lambda p: p.array([[1.0] * 4] * 2, p.large_list(p.float64()))  # noqa: E731
    path = _parquet(tmp_path / "a.parquet", {"continuous_observations": fixed, "rewards": large})
    _import("jat", path, tmp_path / "out", task="toy/fixed")
    store = EpisodeStore(tmp_path / "out")
    assert store.num_episodes == 2 and store.read(1).observations["state"].shape == (4, 4)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"rewards": lambda p: p.array([1.0, 2.0])}, ("'rewards' is double", "list")),
        ({"rewards": lambda p: p.array([["a"], ["b"]])}, ("'rewards'", "string")),
        ({"text_observations": lambda p: p.array(["go", "left"])}, ("'text_observations' is str",)),
        ({"image_observations": lambda p: p.array([[b"x"], [b"y"]])}, ("binary", "struct")),
        ({"continuous_actions": lambda p: p.array([{"a": 1}, {"a": 2}])}, ("struct<a: int64>",)),
    ],
)
def test_columns_of_another_type(
    tmp_path: Path, columns: Mapping[str, Any], words: tuple[str, ...]
) -> None:
    path = _parquet(tmp_path / "a.parquet", columns)
    _refused("jat", path, tmp_path / "out", *words, task="toy/x")


def test_an_end_of_text_beyond_the_type_of_the_ids(tmp_path: Path) -> None:
    tokenizer = TextTokenizer.train(["a few words"], 257)
    tokenizer.save(tmp_path / "tokenizer.json")
    assert tokenizer.end_of_text == 0 or tokenizer.size == 257
    last = json.loads(tokenizer.to_json())
    vocabulary = last["model"]["vocab"]
    swapped = {word: (number + 256) % 257 for word, number in vocabulary.items()}
    last["model"]["vocab"] = swapped
    last["added_tokens"][0]["id"] = swapped["<|endoftext|>"]
    (tmp_path / "tokenizer.json").write_text(json.dumps(last))
    writer = DocumentWriter(
        tmp_path / "bytes", np.uint8, tokenizer="none", text_size=256, source="bytes"
    )
    for number in range(40):
        writer.append(np.arange(number, number + 5, dtype=np.uint8))
    writer.close()
    (tmp_path / "bytes.json").unlink()
    _import("megatron", tmp_path / "bytes", tmp_path / "out", tokenizer=tmp_path / "tokenizer.json")
    ids = DocumentStore(tmp_path / "out/train").document(0)
    assert ids.tolist() == [0, 1, 2, 3, 4, 256]


def test_half_a_character_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "corpus.jsonl"
    path.write_text('{"text": "whole"}\n' * 40 + '{"text": "abc \\ud83d"}\n')
    _refused("text", path, tmp_path / "out", "corpus.jsonl line 41", "character 4", text_size=300)


def test_json_nested_without_an_end_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "corpus.jsonl"
    path.write_text('{"text": "whole"}\n' + "[" * 200_000 + "\n")
    _refused("text", path, tmp_path / "out", "corpus.jsonl line 2", text_size=300)


def test_the_training_of_a_tokenizer_does_not_grow_with_the_square_of_a_word() -> None:
    rng = np.random.default_rng(0)
    word = "".join(rng.choice(list("ACGT"), 60_000))
    texts = ["some ordinary words about harbours and rain " * 8] * 40
    tokenizer = TextTokenizer.train([*texts, word], 300)
    assert tokenizer.decode(tokenizer.encode(word)) == word
    assert tokenizer.to_json() != TextTokenizer.train(texts, 300).to_json()


def test_ordinary_words_are_learned_as_ever() -> None:
    from db1.tokens.text import _with_short_words

    text = "a " * 3_000 + "b" * 1_024
    assert list(_with_short_words(text)) == [text]
    parts = list(_with_short_words("x" * 2_500 + " y"))
    assert [len(part) for part in parts] == [1_024, 1_024, 454]


def test_a_tokenizer_whose_expression_gives_up(capfd: pytest.CaptureFixture[str]) -> None:
    content = json.loads(TextTokenizer.train(["aaaa bbbb"], 260).to_json())
    content["pre_tokenizer"] = {
        "type": "Split",
        "pattern": {"Regex": "(a|aa)+$"},
        "behavior": "Isolated",
        "invert": False,
    }
    tokenizer = TextTokenizer(json.dumps(content), where="their/tokenizer.json")
    with pytest.raises(DataError, match=r"their/tokenizer.json: the tokenizer fails"):
        tokenizer.encode("a" * 60 + "b")
    assert capfd.readouterr().err == ""
