"""`db1 import KIND` and `db1 export minari`: options of every kind, errors, real tasks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from db1.importers import IMPORTERS
from db1.options import is_option
from db1.store.documents import DocumentStore
from db1.store.episodes import EpisodeStore

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Three episodes of cart-pole in the layout of the released DB1's cache."""
    folder = tmp_path / "cache"
    rng = np.random.default_rng(0)
    lengths = [4, 6, 2]
    for part in ("observations", "actions", "rewards"):
        (folder / part).mkdir(parents=True)
    for i, length in enumerate(lengths):
        np.save(folder / f"observations/{i}.npy", rng.normal(size=(length, 4)).astype("f4"))
        np.save(folder / f"actions/{i}.npy", rng.integers(0, 2, length))
        np.save(folder / f"rewards/{i}.npy", np.ones(length, "f4"))
    np.save(folder / "path_lengths.npy", lengths)
    np.save(folder / "traj_returns.npy", np.array(lengths, float))
    return folder


def refused(result: tuple[int, str, str], *named: str) -> None:
    status, _, err = result
    assert status == 2 and err.count("\n") == 1, err
    assert all(text in err for text in named), err


@pytest.mark.parametrize("kind", sorted(IMPORTERS))
def test_help_of_every_kind(db1: Run, kind: str) -> None:
    status, out, _ = db1("import", kind, "--help")
    assert status == 0 and f"Example: db1 import {kind} " in " ".join(out.split())
    for field in IMPORTERS[kind].options.__dataclass_fields__.values():
        assert not is_option(field) or f"--{field.name.replace('_', '-')}" in out


def test_import_of_a_known_task(db1: Run, cache: Path, tmp_path: Path) -> None:
    out = tmp_path / "store"
    task = "classic_control/CartPole-v1"
    command = ("import", "db1-cache", cache, "--task", task, "--out", out)
    status, printed, err = db1(*command, "--max-episodes", 2)
    assert status == 0, err
    assert f"{out}: 2 episodes, from {cache}" in printed
    status, printed, _ = db1(*command)
    assert status == 0 and f"{out}: 3 episodes (2 of them before)" in printed
    store = EpisodeStore(out)
    assert store.header.task == task and store.lengths.tolist() == [4, 6, 2]
    assert store.spec.action.num_values == 2
    assert store.header.origin["source"] == str(cache)


def test_options_reach_the_importer(db1: Run, cache: Path, tmp_path: Path) -> None:
    out = tmp_path / "store"
    command = ("import", "db1-cache", cache, "--task", "toy/cart", "--out", out)
    status, printed, _ = db1(*command, "--min-return-share", 0.6, "--num-actions", 5)
    assert status == 0
    assert "dropped, below --min-return-share: 1" in printed
    assert "0.6 of the expert's 6 (windowed maximum)" in printed
    store = EpisodeStore(out)
    assert store.lengths.tolist() == [4, 6] and store.spec.action.num_values == 5
    assert store.header.origin["options"] == {"min_return_share": 0.6, "num_actions": 5}


def test_bad_input_is_one_line(db1: Run, cache: Path, tmp_path: Path) -> None:
    out = tmp_path / "store"
    command = ("import", "db1-cache", cache, "--out", out)
    refused(db1(*command), "names no task; pass --task")
    refused(db1(*command, "--task", "mujoco/Hoper-v5"), "did you mean 'Hopper-v5'")
    refused(
        db1(*command, "--task", "classic_control/Pendulum-v1"),
        "the source has", "the task", "name another --task",
    )  # fmt: skip
    np.save(cache / "rewards/1.npy", np.array([1, np.nan, 1, 1, 1, 1]))
    refused(db1(*command, "--task", "toy/cart"), "toy/cart episode 1", "not finite", "--skip-bad")
    status, printed, _ = db1(*command, "--task", "toy/cart", "--skip-bad")
    assert status == 0 and "left out by --skip-bad: 1" in printed
    assert EpisodeStore(out).lengths.tolist() == [4, 2]
    status, _, err = db1("import", "nothing", cache, "--out", out)
    assert status == 2 and "No such command 'nothing'" in err


def test_text_and_megatron(db1: Run, tmp_path: Path) -> None:
    lines = [json.dumps({"text": f"the cat {i} sat on the mat"}) for i in range(20)]
    (tmp_path / "c.jsonl").write_text("\n".join(lines))
    status, printed, err = db1(
        "import", "text", tmp_path / "c.jsonl", "--out", tmp_path / "text", "--text-size", 300
    )
    assert status == 0 and "20 documents" in printed and "held-out tokens" in printed, err
    status, _, err = db1(
        "import", "megatron", tmp_path / "text" / "train.bin", "--heldout-share", 0.2,
        "--tokenizer", tmp_path / "text" / "tokenizer.json", "--out", tmp_path / "again",
    )  # fmt: skip
    assert status == 0, err
    first, again = (DocumentStore(tmp_path / p / "train") for p in ("text", "again"))
    np.testing.assert_array_equal(first.document(0), again.document(0))


def test_export(db1: Run, cache: Path, tmp_path: Path) -> None:
    minari = pytest.importorskip("minari", reason='pip install "db1[import]" runs it')
    store = tmp_path / "store"
    assert db1("import", "db1-cache", cache, "--task", "toy/cart", "--out", store)[0] == 0
    status, printed, err = db1(
        "export", "minari", store, tmp_path / "minari", "--dataset-id", "toy/cart-v0"
    )
    assert status == 0 and "toy/cart-v0, 3 episodes of 12 steps; 3 final" in printed, err
    dataset = minari.MinariDataset(tmp_path / "minari" / "data")
    assert dataset.total_steps == 12 and dataset.spec.dataset_id == "toy/cart-v0"
    refused(db1("export", "minari", store, tmp_path / "minari"), "exists")
    status, _, err = db1(
        "import", "minari", tmp_path / "minari", "--task", "toy/cart", "--out", tmp_path / "back"
    )
    assert status == 0, err
    back = EpisodeStore(tmp_path / "back")
    assert back.lengths.tolist() == [4, 6, 2]
    np.testing.assert_array_equal(back.read(1).actions, EpisodeStore(store).read(1).actions)
