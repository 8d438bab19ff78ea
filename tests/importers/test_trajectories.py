"""Folders of trajectories: every layout and preset, files as their own libraries write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from db1.errors import ConfigError, DataError, Db1Error
from db1.importers import ImportContext, ImportSummary
from db1.importers.trajectories import TrajectoryOptions, import_trajectories
from db1.importers.trajectory_map import parse_map
from db1.store.episodes import EpisodeStore
from db1.tokens.spec import FieldSpec, StepSpec

h5py = pytest.importorskip("h5py", reason='pip install "db1[import]" runs it')
pq = pytest.importorskip("pyarrow.parquet", reason='pip install "db1[import]" runs it')

LENGTHS = (4, 1, 6)
MAP = ["observation.state=obs action=act reward=rew"]


def imported(source: Path, out: Path, **options: Any) -> ImportSummary:
    return import_trajectories(str(source), out, TrajectoryOptions(**options), ImportContext())


def episode(number: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(number)
    length = LENGTHS[number]
    return {
        "obs": rng.normal(size=(length, 3)).astype(np.float32),
        "act": rng.uniform(-1, 1, (length, 2)).astype(np.float32),
        "rew": rng.integers(0, 9, length).astype(np.float32),
        "done": np.arange(length) == length - 1,
        "step": np.arange(length),
        "id": np.full(length, 7 * number),
    }


EPISODES = [episode(i) for i in range(len(LENGTHS))]


def check(out: Path) -> EpisodeStore:
    store = EpisodeStore(out)
    assert store.num_episodes == len(EPISODES)
    for number, expected in enumerate(EPISODES):
        found = store.read(number)
        assert np.array_equal(found.observations["state"], expected["obs"])
        assert np.array_equal(found.actions, expected["act"])
        assert np.array_equal(found.rewards, expected["rew"])
    return store


def joined(key: str) -> np.ndarray:
    return np.concatenate([e[key] for e in EPISODES])


def write_files(folder: Path, suffix: str) -> Path:
    folder.mkdir()
    for number, arrays in enumerate(EPISODES):
        path = folder / f"part_{number + 8}{suffix}"  # 8, 9, 10: natural order
        if suffix == ".npz":
            (np.savez if number else np.savez_compressed)(path, **arrays)
        elif suffix == ".parquet":
            pq.write_table(table(arrays), path)
        else:
            with h5py.File(path, "w") as file:
                for key, values in arrays.items():
                    file[key] = values
    return folder


def table(arrays: dict[str, np.ndarray]) -> Any:
    import pyarrow

    return pyarrow.table({key: list(values) for key, values in arrays.items()})


@pytest.mark.parametrize("suffix", [".hdf5", ".h5", ".npz", ".parquet"])
def test_one_trajectory_a_file(tmp_path: Path, suffix: str) -> None:
    summary = imported(write_files(tmp_path / "in", suffix), tmp_path / "out", map=MAP)
    store = check(tmp_path / "out")
    assert store.header.task == "trajectories/in" and store.header.origin["files"] == 3
    assert store.read(2).metadata["file"] == f"part_10{suffix}"
    assert any("ignored the arrays done, id, step" in note for note in summary.notes)


@pytest.mark.parametrize("prefix", ["", "data/"])
def test_one_group_a_trajectory(tmp_path: Path, prefix: str) -> None:
    with h5py.File(tmp_path / "demos.hdf5", "w") as file:
        for number, arrays in enumerate(EPISODES):
            group = file.create_group(f"{prefix}demo_{number + 8}")
            group.attrs["words"] = f"move {number}"
            for key, values in arrays.items():
                group[f"x/{key}" if key == "obs" else key] = values
    names = ["observation.*=x/* action=act", "reward=rew,terminated=done instruction=@words"]
    imported(tmp_path / "demos.hdf5", tmp_path / "out", map=names)
    store = EpisodeStore(tmp_path / "out")
    assert set(store.header.spec.observation) == {"obs"} and store.num_episodes == 3
    for number, expected in enumerate(EPISODES):
        found = store.read(number)
        assert np.array_equal(found.observations["obs"], expected["obs"]) and found.terminated
        assert found.metadata["group"] == f"{prefix}demo_{number + 8}"
        assert found.metadata["instruction"] == f"move {number}"


@pytest.mark.parametrize("ends", ["done=done", "step=step", "episode=id"])
@pytest.mark.parametrize("suffix", [".hdf5", ".npz", ".parquet"])
def test_one_row_a_step(tmp_path: Path, suffix: str, ends: str) -> None:
    arrays = {key: joined(key) for key in EPISODES[0]}
    path = tmp_path / f"steps{suffix}"
    if suffix == ".npz":
        np.savez_compressed(path, **arrays)
    elif suffix == ".parquet":
        pq.write_table(table(arrays), path, row_group_size=3)
    else:
        with h5py.File(path, "w") as file:
            for key, values in arrays.items():
                file[key] = values
    imported(path, tmp_path / "out", map=[*MAP, ends], layout="steps")
    check(tmp_path / "out")


def test_episodes_of_one_length_and_a_rest(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", obs=np.zeros((7, 2), np.float32), act=np.arange(7))
    names = ["observation.state=obs", "action=act"]
    summary = imported(tmp_path, tmp_path / "out", map=names, episode_length=3)
    assert EpisodeStore(tmp_path / "out").num_episodes == 2
    assert any("dropped 1 steps" in note for note in summary.notes)
    assert any("rewards are 0" in note for note in summary.notes)
    options = {"map": names, "episode_length": 3, "keep_incomplete": True}
    imported(tmp_path, tmp_path / "kept", **options)
    assert len(EpisodeStore(tmp_path / "kept").read(2)) == 1
    with pytest.raises(ConfigError, match="nothing says where an episode ends"):
        imported(tmp_path, tmp_path / "x", map=names, layout="steps")


def test_vintix(tmp_path: Path) -> None:
    """Groups of a fixed number of steps; episodes run over their borders."""
    names = {"obs": "proprio_observation", "act": "action", "rew": "reward", "step": "step_num"}
    with h5py.File(tmp_path / "trajectory_0.h5", "w") as file:
        for start in range(0, 11, 5):
            group = file.create_group(f"{start}-{start + 4}")
            for key, name in names.items():
                group[name] = joined(key)[start : start + 5]
    imported(tmp_path / "trajectory_0.h5", tmp_path / "out", preset="vintix")
    check(tmp_path / "out")


def test_ml_jku(tmp_path: Path) -> None:
    names = {"obs": "states", "act": "actions", "rew": "rewards", "done": "dones"}
    (tmp_path / "in").mkdir()
    for number, arrays in enumerate(EPISODES):
        with h5py.File(tmp_path / "in" / f"{number}.hdf5", "w") as file:
            file["returns_to_go"] = np.cumsum(arrays["rew"][::-1])[::-1]
            for key, name in names.items():
                file.create_dataset(name, data=arrays[key], compression="gzip", compression_opts=3)
    (tmp_path / "in" / "episode_lengths.json").write_text("{}")
    imported(tmp_path / "in", tmp_path / "out", preset="ml-jku")
    check(tmp_path / "out")


def test_amago(tmp_path: Path) -> None:
    """One more observation than actions, columns of one, actions one-hot."""
    (tmp_path / "in").mkdir()
    for number, arrays in enumerate(EPISODES):
        length = len(arrays["rew"])
        actions = np.eye(4, dtype=np.float32)[np.arange(length) % 4]
        np.savez(
            tmp_path / "in" / f"{number}.npz",
            _OBS_KEY_observation=np.pad(arrays["obs"], ((0, 1), (0, 0))),
            goals=np.zeros((length + 1, 0)),
            rl2s=np.zeros((length + 1, 7)),
            time_idxs=np.arange(length + 1),
            rews=arrays["rew"][:, None],
            dones=arrays["done"][:, None],
            actions=actions,
        )
    imported(tmp_path / "in", tmp_path / "out", preset="amago", one_hot_actions=True)
    store = EpisodeStore(tmp_path / "out")
    assert store.header.spec.action == FieldSpec(kind="discrete", num_values=4)
    found = store.read(2)
    assert np.array_equal(found.observations["observation"], EPISODES[2]["obs"])
    assert found.actions.tolist() == [0, 1, 2, 3, 0, 1] and found.terminated


def frames(length: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (length, 64, 64, 3), dtype=np.uint8)


def test_gen_dgrl(tmp_path: Path) -> None:
    """A pickled dict an episode, one more picture than actions."""
    (tmp_path / "in").mkdir()
    for number, length in enumerate(LENGTHS):
        content = {
            "observations": frames(length + 1, number),
            "actions": np.arange(length) % 15,
            "rewards": np.ones((length, 1), np.float64),
            "dones": np.arange(length) == length - 1,
        }
        name = f"20230329T105{number}_{number}_{length}_140_{length}.00.npy"
        np.save(tmp_path / "in" / name, content, allow_pickle=True)
    imported(tmp_path / "in", tmp_path / "out", preset="gen_dgrl")
    store = EpisodeStore(tmp_path / "out")
    assert np.array_equal(store.read(2).observations["pixels"], frames(6, 2))
    assert store.read(0).actions.tolist() == [0, 1, 2, 3] and store.read(0).terminated
    assert store.read(0).metadata["file"].startswith("20230329T1050_0_4")


@pytest.mark.parametrize("as_image", [True, False])
def test_procgen(tmp_path: Path, as_image: bool) -> None:
    """A row a step, as `datasets` writes it: pictures as PNG, or nested lists."""
    datasets = pytest.importorskip("datasets", reason='pip install "db1[import]" runs it')
    pictures = frames(7)
    kind = datasets.Image() if as_image else datasets.Array3D((64, 64, 3), "uint8")
    features = datasets.Features(
        {
            "observation": kind,
            "action": datasets.Value("uint8"),
            "reward": datasets.Value("float32"),
            "done": datasets.Value("bool"),
            "truncated": datasets.Value("bool"),
        }
    )
    columns = {
        "observation": [Image.fromarray(p) for p in pictures] if as_image else list(pictures),
        "action": [0, 14, 3, 3, 5, 6, 7],
        "reward": [0.0, 0, 10, 0, 0, 0, 1],
        "done": [False, False, True, False, False, False, False],
        "truncated": [False] * 5 + [True, False],
    }
    (tmp_path / "in").mkdir()
    datasets.Dataset.from_dict(columns, features=features).to_parquet(
        tmp_path / "in" / "train-00000-of-00001.parquet", batch_size=2
    )
    summary = imported(tmp_path / "in", tmp_path / "out", preset="procgen")
    store = EpisodeStore(tmp_path / "out")
    assert store.num_episodes == 2 and any("dropped 1 steps" in n for n in summary.notes)
    one, two = store.read(0), store.read(1)
    assert np.array_equal(one.observations["pixels"], pictures[:3]) and one.terminated
    assert np.array_equal(two.observations["pixels"], pictures[3:6]) and not two.terminated
    assert two.metadata["truncated"] and one.rewards.sum() == 10


def test_a_known_task_fixes_the_fields(tmp_path: Path) -> None:
    spec = StepSpec(
        observation={"state": FieldSpec(kind="continuous", shape=(3,))},
        action=FieldSpec(kind="continuous", shape=(2,)),
    )
    folder = write_files(tmp_path / "in", ".npz")
    context = ImportContext(known_spec={"my/task": spec}.get)
    options = TrajectoryOptions(map=MAP, task="my/task")
    import_trajectories(str(folder), tmp_path / "out", options, context)
    assert check(tmp_path / "out").header.task == "my/task"


@pytest.mark.parametrize("suffix", [".hdf5", ".npz", ".parquet"])
def test_goes_on_where_it_was_killed(tmp_path: Path, suffix: str) -> None:
    folder = write_files(tmp_path / "in", suffix)
    imported(folder, tmp_path / "out", map=MAP, max_episodes=1)
    assert imported(folder, tmp_path / "out", map=MAP).num_before == 1
    check(tmp_path / "out")
    (folder / f"part_20{suffix}").write_bytes((folder / f"part_8{suffix}").read_bytes())
    with pytest.raises(DataError, match="fingerprint|another"):
        imported(folder, tmp_path / "out", map=MAP)


def test_maps() -> None:
    assert parse_map(["", "action=x,reward=y", "observation.s=z"]) == {
        "action": "x",
        "reward": "y",
        "observation.s": "z",
    }
    for pair, said in {
        "action": "expected target=source",
        "actoin=a": "did you mean 'action'",
        "action=a action=b": "given twice",
        "observation.*=obs": "belongs into both",
    }.items():
        with pytest.raises(ConfigError, match=said):
            parse_map([pair])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"map": ["observation.state=obz", *MAP[0].split()[1:]]}, "no array 'obz'.*act, done, id"),
        ({"map": ["observation.state=obs"]}, "nothing is mapped to action; it has act, done"),
        ({}, "nothing is mapped to action"),
        ({"preset": "ml-jku"}, "no file, expected one of .hdf5"),
        ({"preset": "vintx"}, "did you mean 'vintix'"),
        ({"layout": "rows"}, "expected one of"),
    ],
)
def test_what_does_not_fit_the_files(tmp_path: Path, options: dict, said: str) -> None:
    folder = write_files(tmp_path / "in", ".npz")
    with pytest.raises(Db1Error, match=said):
        imported(folder, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


class _Evil:
    def __reduce__(self) -> tuple:
        return (print, ("ran",))


def test_broken_files(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for suffix in (".npz", ".parquet", ".hdf5"):
        folder = write_files(tmp_path / suffix[1:], suffix)
        path = folder / f"part_9{suffix}"
        path.write_bytes(path.read_bytes()[:-300])
        with pytest.raises(DataError, match="part_9.*truncated"):
            imported(folder, tmp_path / f"{suffix}-out", map=MAP)
    (tmp_path / "evil").mkdir()
    np.save(tmp_path / "evil" / "a.npy", np.array({"observations": _Evil()}), allow_pickle=True)
    with pytest.raises(DataError, match="asks for builtins.print; refused"):
        imported(tmp_path / "evil", tmp_path / "evil-out", preset="gen_dgrl")
    assert "ran" not in capsys.readouterr().out
    (tmp_path / "objects").mkdir()
    np.savez(tmp_path / "objects" / "a.npz", obs=np.array([{}]), act=np.zeros(1))
    with pytest.raises(DataError, match="holds objects"):
        imported(tmp_path / "objects", tmp_path / "o", map=["observation.state=obs action=act"])


def test_several_kinds_of_files(tmp_path: Path) -> None:
    write_files(tmp_path / "in", ".npz")
    (tmp_path / "in" / "x.h5").touch()
    with pytest.raises(ConfigError, match="several kinds"):
        imported(tmp_path / "in", tmp_path / "out", map=MAP)
    with pytest.raises(ConfigError, match="no such folder"):
        imported(tmp_path / "none", tmp_path / "out", map=MAP)
