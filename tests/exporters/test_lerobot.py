"""`db1 export lerobot`: what it writes is read back bit for bit, and lies as LeRobot writes it."""

from __future__ import annotations

import errno
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from db1.errors import DataError
from db1.exporters.lerobot import export_lerobot
from db1.importers import ImportContext
from db1.importers.lerobot import LerobotOptions, import_lerobot
from db1.store.episodes import EpisodeStore, EpisodeWriter, StoreHeader
from db1.tokens.spec import Episode, FieldSpec, StepSpec

pq = pytest.importorskip("pyarrow.parquet", reason='pip install "db1[import]" runs it')

SPECS = {
    "discrete": StepSpec(
        observation={
            "state": FieldSpec(kind="continuous", shape=(3,)),
            "clock": FieldSpec(kind="continuous"),
            "rooms/0": FieldSpec(kind="discrete", num_values=2),
            "door": FieldSpec(kind="discrete", num_values=7),
            "grid": FieldSpec(kind="discrete", shape=(2, 3), num_values=1024),
            "images.top": FieldSpec(kind="image", shape=(32, 48, 3)),
            "mission": FieldSpec(kind="text"),
        },
        action=FieldSpec(kind="discrete", num_values=5),
    ),
    "continuous": StepSpec(
        observation={"joints": FieldSpec(kind="continuous", shape=(2, 2))},
        action=FieldSpec(kind="continuous", shape=(4,)),
    ),
}
LENGTHS = (3, 1, 5)


def values(field: FieldSpec, count: int, rng: np.random.Generator) -> np.ndarray:
    shape = (count, *field.shape)
    if field.kind == "text":
        return np.array(["go to the grün ball"] * count, dtype=object)
    if field.kind == "image":
        return rng.integers(0, 256, shape).astype(np.uint8)
    if field.kind == "discrete":
        return rng.integers(0, field.num_values, shape).astype(np.int32)
    return rng.uniform(-1, 1, shape).astype(np.float32)


def write_store(folder: Path, spec: StepSpec, success: tuple[Any, ...], **metadata: Any) -> Path:
    rng = np.random.default_rng(0)
    header = StoreHeader(task="toy/doors", spec=spec, max_steps=None)
    with EpisodeWriter(folder, header) as writer:
        for number, length in enumerate(LENGTHS):
            writer.append(
                Episode(
                    observations={k: values(f, length, rng) for k, f in spec.observation.items()},
                    actions=values(spec.action, length, rng),
                    rewards=rng.normal(size=length).astype(np.float32),
                    seed=number * 10 - 1,
                    terminated=number == 0,
                    success=success[number],
                    metadata=metadata if number == 1 else {},
                )
            )
    return folder


def imported(source: Path, out: Path, **options: Any) -> EpisodeStore:
    import_lerobot(str(source), out, LerobotOptions(**options), ImportContext())
    return EpisodeStore(out)


@pytest.mark.parametrize("kind", sorted(SPECS))
@pytest.mark.parametrize("file_bytes", [1, 1 << 20])
@pytest.mark.parametrize(
    "success", [(True, False, True), (None, None, None), (None, True, False)], ids=str
)
def test_comes_back_bit_for_bit(
    tmp_path: Path, kind: str, file_bytes: int, success: tuple[Any, ...]
) -> None:
    store = EpisodeStore(write_store(tmp_path / "store", SPECS[kind], success))
    summary = export_lerobot(store.path, tmp_path / "set", file_bytes=file_bytes)
    assert (summary.num_episodes, summary.num_steps, summary.num_tasks) == (3, 9, 1)
    files = list((tmp_path / "set/data").rglob("*.parquet"))
    assert len(files) == (3 if file_bytes == 1 else 1)
    back = imported(tmp_path / "set", tmp_path / "back", task="toy/doors")
    assert back.header.spec == store.header.spec and back.header.task == "toy/doors"
    for number in range(3):
        one, other = store.read(number), back.read(number)
        for key in store.spec.observation:
            assert one.observations[key].dtype == other.observations[key].dtype
            assert np.array_equal(one.observations[key], other.observations[key]), key
        assert np.array_equal(one.actions, other.actions)
        assert one.rewards.tobytes() == other.rewards.tobytes()
        assert (one.seed, one.terminated, one.success) == (
            other.seed,
            other.terminated,
            other.success,
        )


def test_task_texts_are_the_index_that_pandas_reads(tmp_path: Path) -> None:
    """LeRobot looks a text up by `tasks.iloc[task_index].name`."""
    pandas = pytest.importorskip("pandas", reason='pip install "db1[import]" runs it')
    store = write_store(
        tmp_path / "store", SPECS["continuous"], (None,) * 3, instruction="open the drawer"
    )
    export_lerobot(store, tmp_path / "set", instruction="close it", fps=20)
    tasks = pandas.read_parquet(tmp_path / "set/meta/tasks.parquet")
    assert [tasks.iloc[n].name for n in range(2)] == ["close it", "open the drawer"]
    back = imported(tmp_path / "set", tmp_path / "back")
    said = [back.metadata(n)["instruction"] for n in range(3)]
    assert said == ["close it", "open the drawer", "close it"]
    assert back.header.origin["fps"] == 20
    export_lerobot(store, tmp_path / "other")
    tasks = pandas.read_parquet(tmp_path / "other/meta/tasks.parquet")
    assert tasks.index.tolist() == ["toy doors", "open the drawer"]


def test_is_laid_out_as_lerobot_lays_it_out(tmp_path: Path) -> None:
    """The set that lerobot 0.4.4 wrote goes through a store and is compared with itself."""
    with zipfile.ZipFile(Path(__file__).parents[1] / "importers" / "lerobot_sets.zip") as file:
        file.extractall(tmp_path / "sets")
    theirs, ours = tmp_path / "sets/v3_image", tmp_path / "ours"
    imported(theirs, tmp_path / "store")
    export_lerobot(tmp_path / "store", ours)
    assert {p.relative_to(ours) for p in ours.rglob("*.*")} == {
        p.relative_to(theirs) for p in theirs.rglob("*.*")
    }
    found, expected = (json.loads((f / "meta/info.json").read_text()) for f in (ours, theirs))
    assert found.keys() - {"db1"} == expected.keys()
    for key in expected.keys() - {"features"}:
        assert found[key] == expected[key], key
    for name, feature in expected["features"].items():
        assert found["features"][name]["dtype"] == feature["dtype"]
        assert found["features"][name]["shape"] == feature["shape"]
    data = "data/chunk-000/file-000.parquet"
    ours_rows, their_rows = pq.read_table(ours / data), pq.read_table(theirs / data)
    for name in their_rows.schema.names:
        assert ours_rows.schema.field(name).type == their_rows.schema.field(name).type, name
        if name != "observation.images.top":  # other PNG files of the same pictures
            assert ours_rows.column(name).to_pylist() == their_rows.column(name).to_pylist(), name
    episodes = "meta/episodes/chunk-000/file-000.parquet"
    ours_rows, their_rows = pq.read_table(ours / episodes), pq.read_table(theirs / episodes)
    for name in (n for n in their_rows.schema.names if not n.startswith("stats/")):
        assert ours_rows.column(name).to_pylist() == their_rows.column(name).to_pylist(), name
    statistics = [json.loads((f / "meta/stats.json").read_text()) for f in (ours, theirs)]
    for name in ("observation.state", "action", "observation.images.top"):
        is_image = name.endswith("top")  # lerobot looks at some of its pixels only
        for which in ("min", "max") if is_image else ("min", "max", "mean", "std"):
            one, other = (s[name][which] for s in statistics)
            assert np.allclose(one, other, atol=1e-6), (name, which)


def test_what_cannot_be_exported(tmp_path: Path) -> None:
    spec = StepSpec(
        observation={
            "arm/joints": FieldSpec(kind="continuous", shape=(2,)),
            "arm.joints": FieldSpec(kind="continuous", shape=(2,)),
        },
        action=FieldSpec(kind="discrete", num_values=5),
    )
    store = write_store(tmp_path / "store", spec, (None,) * 3)
    with pytest.raises(DataError, match="two observations become 'observation.arm.joints'"):
        export_lerobot(store, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store"]
    good = write_store(tmp_path / "good", SPECS["continuous"], (None,) * 3)
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match="out exists; export to another folder"):
        export_lerobot(good, tmp_path / "out")
    with pytest.raises(DataError, match="no-store"):
        export_lerobot(tmp_path / "no-store", tmp_path / "new")

    def fill_the_disk(*progress: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(DataError, match="new: cannot be written"):
        export_lerobot(good, tmp_path / "new", progress=fill_the_disk)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["good", "out", "store"]
