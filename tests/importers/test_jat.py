"""JAT's parquet: every kind of observation and action, task names, pictures, broken tables."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from db1.errors import ConfigError, DataError, MissingExtra
from db1.importers import ImportContext, ImportSummary
from db1.importers.jat import JatOptions, hub_files, import_jat
from db1.importers.jat_tasks import jat_task_id
from db1.store.episodes import EpisodeStore
from db1.tokens.spec import FieldSpec, StepSpec

datasets = pytest.importorskip("datasets", reason='pip install "db1[import]" runs it')

BABYAI = StepSpec(
    observation={
        "mission": FieldSpec(kind="text"),
        "direction": FieldSpec(kind="discrete", num_values=4),
        "grid": FieldSpec(kind="discrete", shape=(7, 7, 3), num_values=11),
    },
    action=FieldSpec(kind="discrete", num_values=7),
)
REWARDS = [[0.0, 1.0], [0.5, 0.0, 2.0], [1.0]]


def write(folder: Path, features: Any = None, name: str = "train", **columns: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    table = datasets.Dataset.from_dict({"rewards": REWARDS, **columns}, features=features)
    table.to_parquet(folder / f"{name}-00000-of-00001.parquet", batch_size=2)
    return folder


def imported(source: Path, out: Path, known: dict | None = None, **options: Any) -> ImportSummary:
    context = ImportContext(known_spec=(known or {}).get)
    return import_jat(str(source), out, JatOptions(**options), context)


def numbers(shape: tuple[int, ...], low: float, high: float) -> list[Any]:
    rng = np.random.default_rng(0)
    return [rng.uniform(low, high, (len(r), *shape)).astype("f4").tolist() for r in REWARDS]


def integers(shape: tuple[int, ...], high: int) -> list[Any]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, high, (len(r), *shape)).tolist() for r in REWARDS]


def test_task_names() -> None:
    expected = {
        "atari-pong": "atari/Pong",
        "atari-kungfumaster": "atari/KungFuMaster",
        "babyai-go-to": "babyai/GoTo",
        "babyai-move-two-across-s8n9": "babyai/MoveTwoAcrossS8N9",
        "babyai-go-to-red-ball-no-dists": "babyai/GoToRedBallNoDists",
        "metaworld-assembly": "metaworld/assembly-v3",
        "mujoco-hopper": "mujoco/Hopper-v5",
        "mujoco-pendulum": "mujoco/InvertedPendulum-v5",
    }
    assert {name: jat_task_id(name) for name in expected} == expected
    for name in ("atari-tetris3", "mujoco-x", "conceptual-captions", "babyai-", "x"):
        assert jat_task_id(name) is None


def test_continuous_and_rescaled_actions(tmp_path: Path) -> None:
    observations, actions = numbers((4,), -1, 1), numbers((1,), -3, 3)
    folder = write(
        tmp_path / "mujoco-pendulum",
        continuous_observations=observations,
        continuous_actions=actions,
    )
    imported(folder, tmp_path / "out")
    store = EpisodeStore(tmp_path / "out")
    assert (
        store.header.task == "mujoco/InvertedPendulum-v5" and store.header.origin["kind"] == "jat"
    )
    np.testing.assert_allclose(store.read(1).actions, np.array(actions[1]) / 3, atol=1e-6)
    np.testing.assert_array_equal(
        store.read(1).observations["state"], np.array(observations[1], np.float32)
    )
    assert store.returns.tolist() == [1.0, 2.5, 1.0]


def test_babyai_becomes_the_fields_of_the_task(tmp_path: Path) -> None:
    symbols = integers((148,), 4)
    folder = write(
        tmp_path / "babyai-go-to",
        text_observations=[["go to a ball"] * len(r) for r in REWARDS],
        discrete_observations=symbols,
        discrete_actions=integers((), 7),
    )
    imported(folder, tmp_path / "out", known={"babyai/GoTo": BABYAI})
    episode = EpisodeStore(tmp_path / "out").read(1)
    assert episode.observations["mission"].tolist() == ["go to a ball"] * 3
    values = np.array(symbols[1])
    np.testing.assert_array_equal(episode.observations["direction"], values[:, 0])
    np.testing.assert_array_equal(episode.observations["grid"].reshape(3, -1), values[:, 1:])
    imported(folder, tmp_path / "own")
    own = EpisodeStore(tmp_path / "own")
    assert set(own.spec.observation) == {"text", "symbols"}
    assert own.spec.action.num_values == np.max([max(a) for a in integers((), 7)]) + 1


def test_babyai_outside_the_fields_of_the_task(tmp_path: Path) -> None:
    symbols = integers((148,), 4)
    symbols[2][0][0] = 9
    folder = write(
        tmp_path / "babyai-go-to",
        text_observations=[["go"] * len(r) for r in REWARDS],
        discrete_observations=symbols,
        discrete_actions=integers((), 7),
    )
    with pytest.raises(DataError, match="GoTo episode 2 .*'direction': value 9, expected 0..3"):
        imported(folder, tmp_path / "out", known={"babyai/GoTo": BABYAI})
    summary = imported(folder, tmp_path / "out", known={"babyai/GoTo": BABYAI}, skip_bad=True)
    assert summary.num_stored == 2


def pictures(size: int = 84) -> list[list[np.ndarray]]:
    rng = np.random.default_rng(0)
    return [[rng.integers(0, 256, (size, size, 4), dtype=np.uint8) for _ in r] for r in REWARDS]


def write_pictures(folder: Path, frames: list[list[Any]]) -> Path:
    feature = datasets.List(datasets.Image())
    features = datasets.Features(
        {
            "rewards": datasets.List(datasets.Value("float32")),
            "image_observations": feature,
            "discrete_actions": datasets.List(datasets.Value("int64")),
        }
    )
    encoded = [
        [f if isinstance(f, dict) else {"bytes": png(f), "path": None} for f in episode]
        for episode in frames
    ]
    return write(folder, features, image_observations=encoded, discrete_actions=integers((), 6))


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def test_pictures(tmp_path: Path) -> None:
    frames = pictures()
    folder = write_pictures(tmp_path / "atari-pong", frames)
    imported(folder, tmp_path / "out", image_format="zlib")
    store = EpisodeStore(tmp_path / "out")
    stored = store.read(1).observations["pixels"]
    assert store.header.task == "atari/Pong" and stored.shape == (3, 96, 96, 3)
    for channel in range(3):
        np.testing.assert_array_equal(stored[2, :84, :84, channel], frames[1][2][..., 3])
    imported(folder, tmp_path / "stack", frames="stack", image_size=64)
    assert EpisodeStore(tmp_path / "stack").read(0).observations["pixels"].shape[1:] == (64, 64, 3)
    known = StepSpec(
        observation={"screen": FieldSpec(kind="image", shape=(80, 80, 3))},
        action=FieldSpec(kind="discrete", num_values=6),
    )
    imported(folder, tmp_path / "known", known={"atari/Pong": known})
    assert EpisodeStore(tmp_path / "known").read(0).observations["screen"].shape == (2, 80, 80, 3)


@pytest.mark.parametrize(
    ("broken", "named"),
    [
        ({"bytes": b"\x89PNG\r\n\x1a\nno", "path": None}, "step 1 is a corrupt picture"),
        ({"bytes": None, "path": "/etc/passwd"}, "step 1 has no picture bytes"),
        ({"bytes": png(np.zeros((80, 84, 4), np.uint8)), "path": None}, r"step 1 is \(80, 84, 4\)"),
        (
            {"bytes": png(np.zeros((84, 84), np.uint16)), "path": None},
            r"step 1 is \(84, 84, 3\)",
        ),
    ],
)
def test_a_corrupt_picture(tmp_path: Path, broken: dict, named: str) -> None:
    frames: list[list[Any]] = pictures()
    frames[1][1] = broken
    folder = write_pictures(tmp_path / "atari-pong", frames)
    with pytest.raises(DataError, match=f"episode 1: image_observations: {named}"):
        imported(folder, tmp_path / "out")
    summary = imported(folder, tmp_path / "out", skip_bad=True)
    assert summary.num_stored == 2 and summary.counts["left out by --skip-bad"] == 1


def test_palettes_and_16_bits_are_colours(tmp_path: Path) -> None:
    """One decoder for all sources: not the numbers of a palette's entries."""
    pixels = np.zeros((84, 84, 3), np.uint8)
    pixels[:, :42], pixels[:, 42:] = (10, 10, 250), (250, 10, 10)
    palette, deep = io.BytesIO(), io.BytesIO()
    Image.fromarray(pixels).quantize(4).save(palette, "PNG")
    Image.fromarray(np.full((84, 84), 0x80FF, np.uint16)).save(deep, "PNG")
    frames: list[list[Any]] = [
        [{"bytes": (deep if n else palette).getvalue(), "path": None} for _ in rewards]
        for n, rewards in enumerate(REWARDS)
    ]
    imported(write_pictures(tmp_path / "atari-pong", frames), tmp_path / "out")
    store = EpisodeStore(tmp_path / "out")
    stored = store.read(0).observations["pixels"][0]
    np.testing.assert_allclose(stored[5, 5], (10, 10, 250), atol=4)
    np.testing.assert_allclose(stored[5, 80], (250, 10, 10), atol=4)
    assert (store.read(1).observations["pixels"][0, :84, :84] == 0x80).all()


def test_ragged_lists_and_missing_values(tmp_path: Path) -> None:
    actions = numbers((2,), -1, 1)
    ragged = numbers((3,), -1, 1)
    ragged[1][1] = [1.0, 2.0]
    folder = write(
        tmp_path / "mujoco-ant", continuous_observations=ragged, continuous_actions=actions
    )
    with pytest.raises(
        DataError, match="episode 1: continuous_observations: ragged shapes, .* 2 to 3"
    ):
        imported(folder, tmp_path / "out")
    missing = numbers((3,), -1, 1)
    missing[2][0][1] = None
    folder = write(
        tmp_path / "mujoco-ant", continuous_observations=missing, continuous_actions=actions
    )
    with pytest.raises(DataError, match="episode 2: continuous_observations: 1 missing values"):
        imported(folder, tmp_path / "second")
    missing[2] = None
    folder = write(
        tmp_path / "mujoco-ant", continuous_observations=missing, continuous_actions=actions
    )
    with pytest.raises(DataError, match="episode 2: continuous_observations: missing"):
        imported(folder, tmp_path / "third")


def test_other_columns(tmp_path: Path) -> None:
    actions = numbers((2,), -1, 1)
    folder = write(tmp_path / "a", states=numbers((2,), 0, 1), continuous_actions=actions)
    named = r"columns \['continuous_actions', 'rewards', 'states'\], expected rewards"
    with pytest.raises(DataError, match=named):
        imported(folder, tmp_path / "out", task="toy/line")
    folder = write(
        tmp_path / "b",
        continuous_observations=actions,
        continuous_actions=actions,
        names=["x", "y", "z"],
    )
    summary = imported(folder, tmp_path / "out", task="toy/line")
    assert summary.notes == ("ignored the columns names",)
    folder = write(tmp_path / "c", discrete_observations=actions, continuous_actions=actions)
    with pytest.raises(
        DataError, match="discrete_observations: continuous values .* expected disc"
    ):
        imported(folder, tmp_path / "o", task="toy/line")


def test_length_zero_is_dropped_and_one_is_kept(tmp_path: Path) -> None:
    actions = numbers((2,), -1, 1)
    actions[0] = []
    folder = write(
        tmp_path / "mujoco-ant",
        continuous_observations=actions,
        continuous_actions=actions,
        rewards=[[], *REWARDS[1:]],
    )
    summary = imported(folder, tmp_path / "out")
    assert summary.counts["dropped, length 0"] == 1
    assert EpisodeStore(tmp_path / "out").lengths.tolist() == [3, 1]


def test_files_of_a_split(tmp_path: Path) -> None:
    actions = numbers((2,), -1, 1)
    columns = {"continuous_observations": actions, "continuous_actions": actions}
    folder = write(tmp_path / "mujoco-ant", **columns)
    write(folder, name="test", **columns)
    (folder / "train-00000-of-00001.parquet").rename(folder / "train-00000-of-00002.parquet")
    write(folder, **columns)
    (folder / "train-00000-of-00001.parquet").rename(folder / "train-00001-of-00002.parquet")
    assert imported(folder, tmp_path / "train").num_stored == 6
    assert imported(folder, tmp_path / "test", split="test").num_stored == 3
    assert imported(folder / "test-00000-of-00001.parquet", tmp_path / "file").num_stored == 3
    with pytest.raises(DataError, match="no .parquet file"):
        imported(tmp_path / "train", tmp_path / "o", task="toy/line")
    write(tmp_path / "mujoco-hopper", **columns)
    with pytest.raises(DataError, match="parquet files in 2 folders"):
        imported(tmp_path, tmp_path / "o", task="toy/line")


def test_broken_files(tmp_path: Path) -> None:
    actions = numbers((2,), -1, 1)
    folder = write(tmp_path / "a", continuous_observations=actions, continuous_actions=actions)
    file = folder / "train-00000-of-00001.parquet"
    content = file.read_bytes()
    file.write_bytes(content[:-20])
    with pytest.raises(DataError, match="not a parquet file, or truncated"):
        imported(folder, tmp_path / "out", task="toy/line")
    spoiled = bytearray(content)
    spoiled[4:400] = bytes(396)
    file.write_bytes(spoiled)
    with pytest.raises(DataError, match="cannot be read, or truncated|missing values|ragged"):
        imported(folder, tmp_path / "out", task="toy/line")
    assert not (tmp_path / "out").exists()


def test_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="no such file or folder; for a hub id name the --config"):
        imported(Path("jat-project/none"), tmp_path / "out")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match="not found on the hub, or no network .* pass their folder"):
        imported(Path("jat-project/none"), tmp_path / "out", config="mujoco-ant")
    # The same call on a folder in the hub's layout finds its files by split.
    actions = numbers((2,), -1, 1)
    folder = write(tmp_path / "ant", continuous_observations=actions, continuous_actions=actions)
    files = hub_files(str(folder), JatOptions(config="default"))
    assert [Path(file).name for file in files] == ["train-00000-of-00001.parquet"]
    with pytest.raises(DataError, match="no split 'valid', expected one of"):
        hub_files(str(folder), JatOptions(config="default", split="valid"))


def test_missing_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    actions = numbers((2,), -1, 1)
    folder = write(tmp_path / "a", continuous_observations=actions, continuous_actions=actions)
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    with pytest.raises(MissingExtra, match=r'pyarrow.*pip install "db1\[import\]"'):
        imported(folder, tmp_path / "out", task="toy/line")


def test_all_configurations_in_one_command(tmp_path: Path) -> None:
    for config in ("mujoco-hopper", "metaworld-assembly", "conceptual-captions"):
        write(
            tmp_path / "jat" / config,
            continuous_observations=numbers((4,), -1, 1),
            continuous_actions=numbers((2,), -1, 1),
        )
    summary = imported(tmp_path / "jat", tmp_path / "out", all_configs=True)
    assert summary.num_stored == 6 and "2 tasks, each in" in summary.notes[0]
    assert "ignored 1 sets" in summary.notes[1]
    for task in ("mujoco/Hopper-v5", "metaworld/assembly-v3"):
        assert EpisodeStore(tmp_path / "out" / task).header.task == task
    alone = imported(tmp_path / "jat" / "mujoco-hopper", tmp_path / "out" / "mujoco/Hopper-v5")
    assert alone.num_before == 3
    with pytest.raises(ConfigError, match="neither --config nor --task"):
        JatOptions(all_configs=True, task="a/b")
    with pytest.raises(ConfigError, match="no folder of a JAT task"):
        imported(tmp_path / "jat" / "mujoco-hopper", tmp_path / "x", all_configs=True)


def test_one_broken_configuration_costs_itself_only(tmp_path: Path) -> None:
    for config in ("mujoco-ant", "mujoco-hopper"):
        write(
            tmp_path / "jat" / config,
            continuous_observations=numbers((4,), -1, 1),
            continuous_actions=numbers((2,), -9, 9)
            if config == "mujoco-ant"
            else numbers((2,), -1, 1),
        )
    with pytest.raises(DataError, match="1 of 2 tasks failed: mujoco/Ant-v5: .*outside the space"):
        imported(tmp_path / "jat", tmp_path / "out", all_configs=True)
    assert EpisodeStore(tmp_path / "out" / "mujoco/Hopper-v5").num_episodes == 3


def test_column_names_that_are_no_text(tmp_path: Path) -> None:
    folder = write(
        tmp_path / "mujoco-ant",
        continuous_observations=numbers((3,), -1, 1),
        continuous_actions=numbers((2,), -1, 1),
    )
    (file,) = folder.glob("*.parquet")
    file.write_bytes(file.read_bytes().replace(b"rewards", b"rew\xferds"))
    with pytest.raises(DataError, match=r"\.parquet: not a parquet file|expected rewards"):
        imported(folder, tmp_path / "out")
