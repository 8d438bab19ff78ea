"""TD-MPC2's data as TensorDict's own writers saved it: `tdmpc2_sets.zip`.

    tensordict-0.1.2, -0.2.0, -0.8.0, -0.15.3    chunk_0.pt (three episodes), chunk_1.pt (one)

Episode n has 4 steps in 5 rows, and is of the task reacher-hard (5), mw-reach (65), 5, 65. Row t
sees (n + 1, t + 1, (n + t + k) / 8 + 1 ...), and holds the action (t / 8, -n / 4, 0.5) and the
reward n + t that led there; row 0 has NaN. reacher-hard has 4 and 2 numbers of 6 and 3, the others
are zeros.
"""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from db1.benchmarks.foreign.episodes import numbers
from db1.benchmarks.foreign.records import write_tdmpc2
from db1.benchmarks.memory import reset_peak, status_megabytes
from db1.errors import ConfigError, DataError
from db1.formats.tensordict_file import TensorFile
from db1.importers import ImportContext, ImportSummary
from db1.importers.tdmpc2 import TdMpc2Options, import_tdmpc2
from db1.store.episodes import EpisodeStore
from db1.tokens.spec import FieldSpec, StepSpec

SETS = ("tensordict-0.1.2", "tensordict-0.2.0", "tensordict-0.8.0", "tensordict-0.15.3")
STEPS = 4


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with zipfile.ZipFile(Path(__file__).with_name("tdmpc2_sets.zip")) as file:
        file.extractall(tmp_path / "sets")
    return tmp_path / "sets"


def imported(source: Path, out: Path, known: StepSpec | None = None, **options: Any) -> Any:
    context = ImportContext(known_spec=lambda task: known)
    return import_tdmpc2(str(source), out, TdMpc2Options(**options), context)


def check(out: Path, numbers: tuple[int, ...], width: int, action_width: int) -> None:
    store = EpisodeStore(out)
    assert store.num_episodes == len(numbers)
    for i, n in enumerate(numbers):
        found = store.read(i)
        seen = [
            [n + 1, t + 1, *[(n + t + k) / 8 + 1 for k in range(width - 2)]] for t in range(STEPS)
        ]
        done = [[t / 8, -n / 4, 0.5][:action_width] for t in range(1, STEPS + 1)]
        assert np.array_equal(found.observations["state"], np.array(seen, np.float32))
        assert np.array_equal(found.actions, np.array(done, np.float32))
        assert found.rewards.tolist() == [n + t for t in range(1, STEPS + 1)]
        assert not found.terminated and found.success is None and found.metadata["truncated"]


@pytest.mark.parametrize("name", SETS)
def test_what_every_writer_saved(folder: Path, tmp_path: Path, name: str) -> None:
    summary = imported(folder / name, tmp_path / "reacher", only="reacher-hard")
    check(tmp_path / "reacher", (0, 2), 4, 2)
    assert any("obs: 4 of 6 numbers kept" in note for note in summary.notes)
    assert EpisodeStore(tmp_path / "reacher").header.task == "tdmpc2/reacher-hard"
    imported(folder / name, tmp_path / "reach", only="65")
    check(tmp_path / "reach", (1, 3), 6, 3)
    last = EpisodeStore(tmp_path / "reach").metadata(1)
    assert last["file"] == "chunk_1.pt" and last["row"] == 0


def test_one_file_of_one_task_needs_no_name(folder: Path, tmp_path: Path) -> None:
    imported(folder / SETS[0] / "chunk_1.pt", tmp_path / "out")
    check(tmp_path / "out", (3,), 6, 3)


def test_a_known_task_and_options_say_the_widths(folder: Path, tmp_path: Path) -> None:
    known = StepSpec(
        observation={
            "body": FieldSpec(kind="continuous", shape=(2,)),
            "target": FieldSpec(kind="continuous", shape=(3,)),
        },
        action=FieldSpec(kind="continuous", shape=(2,)),
    )
    task = {"task": "toy/reacher", "order": "body,target"}
    imported(folder / SETS[2], tmp_path / "out", known, only="5", **task)
    first = EpisodeStore(tmp_path / "out").read(0).observations
    assert first["body"][0].tolist() == [1, 1] and first["target"][0].tolist() == [1, 1.125, 0]
    imported(folder / SETS[2], tmp_path / "cut", only="5", observation_dim=6, action_dim=1)
    spec = EpisodeStore(tmp_path / "cut").header.spec
    assert spec.observation["state"].shape == (6,) and spec.action.shape == (1,)
    with pytest.raises(ConfigError, match="--observation-dim 7: obs has 6 numbers"):
        imported(folder / SETS[2], tmp_path / "other", only="5", observation_dim=7)


def test_goes_on_where_it_was_stopped(folder: Path, tmp_path: Path) -> None:
    imported(folder / SETS[3], tmp_path / "out", only="5", max_episodes=1)
    summary: ImportSummary = imported(folder / SETS[3], tmp_path / "out", only="5")
    assert (summary.num_before, summary.num_stored) == (1, 2)
    check(tmp_path / "out", (0, 2), 4, 2)


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    episodes = [numbers(500, seed, observed=598) for seed in range(160)]
    folder = Path(write_tdmpc2(tmp_path / "chunks", episodes))
    (path,) = folder.glob("*.pt")
    assert path.stat().st_size > 180 << 20
    file = TensorFile(path)
    first = file.read("obs", 0)
    if not reset_peak():
        pytest.skip("this system does not tell the memory of a process (Linux does)")
    before = status_megabytes("VmRSS")
    total = sum(float(file.read("obs", row).sum(dtype=np.float64)) for row in range(160))
    assert status_megabytes("VmHWM") - before < 90
    expected = sum(float(e.observations.sum(dtype=np.float64)) for e in episodes)
    assert total == pytest.approx(expected) and np.array_equal(
        first[:, :598], episodes[0].observations
    )


def test_the_task_must_be_named_and_known(folder: Path, tmp_path: Path) -> None:
    there = r"it has reacher-hard \(5, 2 episodes\), mw-reach \(65, 2 episodes\)"
    with pytest.raises(ConfigError, match=f"pass --only; {there}"):
        imported(folder / SETS[1], tmp_path / "out")
    with pytest.raises(ConfigError, match=f"did you mean 'mw-reach'.*{there}"):
        imported(folder / SETS[1], tmp_path / "out", only="mw-reahc")


class Call:
    """Pickles as a call."""

    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call[0], self.call[1:]


def test_files_that_are_no_such_data(folder: Path, tmp_path: Path) -> None:
    file = folder / SETS[0] / "chunk_1.pt"
    whole = file.read_bytes()
    file.write_bytes(whole[:-300])
    with pytest.raises(DataError, match=r"chunk_1.pt: truncated"):
        imported(file, tmp_path / "out")
    torch.save({"obs": Call(os.mkdir, str(tmp_path / "ran"))}, file)
    with pytest.raises(DataError, match=r"mkdir, which a TensorDict of tensors has no use for"):
        imported(file, tmp_path / "out")
    torch.save({"obs": torch.zeros(2, 5, 3)}, file)
    with pytest.raises(DataError, match="chunk_1.pt: a dict, expected a TensorDict"):
        imported(file, tmp_path / "out")
    with pytest.raises(ConfigError, match=r"no \.pt file"):
        imported(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists() and not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"action": None}, "tensors obs, reward, expected obs, action and reward"),
        ({"action": torch.zeros(2, 4, 1)}, r"action \(2, 4, 1\), expected \(2, 5\) in front"),
        ({"reward": torch.ones(2, 5)}, "reward 1 in row 0, where TD-MPC2 has none.*--drop-first"),
        ({"obs": torch.full((2, 5, 3), torch.nan)}, "obs|state"),
        ({"action": torch.full((2, 5, 1), 3.0)}, "actions outside the space"),
    ],
)
def test_own_data_written_by_the_package(
    tmp_path: Path, change: dict[str, torch.Tensor | None], said: str
) -> None:
    tensordict = pytest.importorskip("tensordict", reason="pip install tensordict runs it")
    content = {
        "obs": torch.rand(2, 5, 3), "action": torch.rand(2, 5, 1), "reward": torch.zeros(2, 5)
    }  # fmt: skip
    good = tensordict.TensorDict(content, batch_size=[2])
    torch.save(good, tmp_path / "good.pt")
    imported(tmp_path / "good.pt", tmp_path / "store")
    found = EpisodeStore(tmp_path / "store").read(1)
    assert np.array_equal(found.observations["state"], content["obs"][1, :-1].numpy())
    assert np.array_equal(found.actions, content["action"][1, 1:].numpy())
    changed = {k: v for k, v in {**content, **change}.items() if v is not None}
    torch.save(tensordict.TensorDict(changed, batch_size=[2]), tmp_path / "bad.pt")
    with pytest.raises(DataError, match=said):
        imported(tmp_path / "bad.pt", tmp_path / "out")


def test_pictures_and_flags_written_by_the_package(tmp_path: Path) -> None:
    tensordict = pytest.importorskip("tensordict", reason="pip install tensordict runs it")
    frames = torch.randint(0, 255, (3, 32, 32), dtype=torch.uint8).expand(6, -1, -1, -1).clone()
    frames[:, 0, 0, 0] = torch.arange(6)
    content = {
        "obs": tensordict.TensorDict({"rgb": frames, "state": torch.rand(6, 2)}, batch_size=[6]),
        "action": torch.rand(6, 2), "reward": torch.ones(6, 1), "done": torch.zeros(6),
        "terminated": torch.arange(6) == 5, "success": torch.arange(6) == 3,
    }  # fmt: skip
    torch.save(tensordict.TensorDict(content, batch_size=[6]), tmp_path / "one.pt")
    summary = imported(tmp_path / "one.pt", tmp_path / "store", drop_first=True)
    assert "ignored the tensors done" in summary.notes
    found = EpisodeStore(tmp_path / "store").read(0)
    assert found.terminated and found.success and len(found) == 5
    assert found.observations["rgb"][:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]


def test_chunks_as_the_training_of_tdmpc2_saves_them(tmp_path: Path) -> None:
    """Steps are TensorDicts of one row, joined to episodes, joined to chunks; tasks are mixed."""
    tensordict = pytest.importorskip("tensordict", reason="pip install tensordict runs it")

    def step(n: int, t: int, task: int) -> Any:
        width = 4 if task == 5 else 6
        seen = [n + 1, t + 1, *[(n + t + k) / 8 + 1 for k in range(width - 2)], 0, 0][:6]
        acted = [t / 8, -n / 4, 0.5] if task == 65 else [t / 8, -n / 4, 0]
        content = {
            "obs": torch.tensor([seen], dtype=torch.float32),
            "action": torch.tensor([acted if t else [float("nan")] * 3], dtype=torch.float32),
            "reward": torch.tensor([float(n + t) if t else float("nan")]),
            "task": torch.tensor([task]),
        }
        return tensordict.TensorDict(content, batch_size=(1,))

    tasks = (5, 65, 5, 65)
    episodes = [
        torch.cat([step(n, t, task) for t in range(STEPS + 1)]) for n, task in enumerate(tasks)
    ]
    chunks = [torch.stack(episodes[:3]), torch.cat([episodes[3].unsqueeze(0)])]
    for number, chunk in enumerate(chunks):
        torch.save(chunk, tmp_path / f"chunk_{number}.pt")
    imported(tmp_path, tmp_path / "reacher", only="reacher-hard")
    check(tmp_path / "reacher", (0, 2), 4, 2)
    imported(tmp_path, tmp_path / "reach", only="mw-reach")
    check(tmp_path / "reach", (1, 3), 6, 3)


@pytest.mark.parametrize("is_bfloat16", [False, True])
def test_what_the_package_read_and_wrote_again(tmp_path: Path, is_bfloat16: bool) -> None:
    tensordict = pytest.importorskip("tensordict", reason="pip install tensordict runs it")
    content = {
        "obs": torch.randint(0, 8, (2, 5, 3)).float(), "action": torch.rand(2, 5, 1),
        "reward": torch.zeros(2, 5),
    }  # fmt: skip
    whole = tensordict.TensorDict(content, batch_size=[2])
    if is_bfloat16:
        whole["obs"] = whole["obs"].bfloat16()
    torch.save(whole, tmp_path / "before.pt")
    torch.save(torch.load(tmp_path / "before.pt", weights_only=False), tmp_path / "whole.pt")
    imported(tmp_path / "whole.pt", tmp_path / "store")
    found = EpisodeStore(tmp_path / "store").read(1)
    assert np.array_equal(found.observations["state"], content["obs"][1, :-1].numpy())
    assert np.array_equal(found.actions, content["action"][1, 1:].numpy())


@pytest.mark.parametrize("lay", ["lazy stack", "memory map"])
def test_layouts_of_the_package_that_run_code_or_lie_elsewhere(tmp_path: Path, lay: str) -> None:
    tensordict = pytest.importorskip("tensordict", reason="pip install tensordict runs it")
    content = {name: torch.zeros(2, 5, 1) for name in ("obs", "action", "reward")}
    whole = tensordict.TensorDict(content, batch_size=[2])
    if lay == "lazy stack":
        whole = tensordict.lazy_stack([whole[0].clone(), whole[1].clone()])
    else:
        whole = whole.memmap(tmp_path / "map")
    torch.save(whole, tmp_path / "whole.pt")
    with pytest.raises(DataError, match=r"whole.pt: its pickle asks for .*; refused"):
        imported(tmp_path / "whole.pt", tmp_path / "store")
    assert not (tmp_path / "store").exists()
