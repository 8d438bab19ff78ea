"""Copies of stores, and stores of version 1."""

from __future__ import annotations

import dataclasses
import itertools
import shutil
from pathlib import Path

import pytest
from toy_episodes import HEADER, SPEC, assert_holds, assert_same, flip, make_episode, write

from db1.errors import DataError
from db1.store import conversion
from db1.store.conversion import convert_store, merge_stores
from db1.store.episodes import EpisodeStore, EpisodeWriter
from db1.tokens.spec import FieldSpec

VERSION_1 = Path(__file__).parent.parent / "golden" / "episodes_v1"
"""Four toy episodes, written by db1 0.1.0."""

FORMATS = ["raw", "zlib", "png"]


@pytest.mark.parametrize(("first", "second"), itertools.permutations(FORMATS, 2))
def test_there_and_back(tmp_path: Path, first: str, second: str) -> None:
    header = dataclasses.replace(HEADER, image_format=first, origin={"x": 1}, created_by="else")
    write(tmp_path / "a", range(6), header)
    (tmp_path / "a" / "references.json").write_text("{}")
    seen: list[tuple[int, int]] = []
    copy = convert_store(
        tmp_path / "a", tmp_path / "b", image_format=second, progress=lambda *n: seen.append(n)
    )
    assert seen == [(i, 6) for i in range(1, 7)]
    assert copy.header.image_format == second and copy.header.origin == {"x": 1}
    assert_holds(tmp_path / "b", range(6))
    convert_store(tmp_path / "b", tmp_path / "c", image_format=first)
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "c").iterdir())
    for name in set(names) - {"header.json"}:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "c" / name).read_bytes()


def test_an_interrupted_copy_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a", range(6))
    appended = []

    class Interrupted(EpisodeWriter):
        def append(self, episode: object) -> None:
            if len(appended) == 3:
                raise KeyboardInterrupt
            appended.append(episode)
            super().append(episode)

    with monkeypatch.context() as patch:
        patch.setattr(conversion, "EpisodeWriter", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            convert_store(tmp_path / "a", tmp_path / "b", image_format="zlib")
    assert_holds(tmp_path / "b", range(3))
    convert_store(tmp_path / "a", tmp_path / "b", image_format="zlib")
    assert_holds(tmp_path / "b", range(6))
    convert_store(tmp_path / "a", tmp_path / "b", image_format="zlib")
    assert_holds(tmp_path / "b", range(6))


def test_merging(tmp_path: Path) -> None:
    write(tmp_path / "a", range(4))
    write(tmp_path / "b", range(4, 9), dataclasses.replace(HEADER, image_format="png"))
    merge_stores([tmp_path / "a", tmp_path / "b"], tmp_path / "c")
    assert_holds(tmp_path / "c", range(9))
    action = FieldSpec(kind="continuous", shape=(9,))
    other = dataclasses.replace(HEADER, spec=dataclasses.replace(SPEC, action=action))
    write(tmp_path / "d", range(0), other)
    with pytest.raises(DataError, match=r"different headers \(spec.action.shape"):
        merge_stores([tmp_path / "a", tmp_path / "d"], tmp_path / "e")
    assert not (tmp_path / "e").exists()
    with pytest.raises(DataError, match="no store to copy from"):
        merge_stores([], tmp_path / "e")


def test_copies_that_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a", range(4))
    with pytest.raises(DataError, match="onto itself"):
        convert_store(tmp_path / "a", tmp_path / "b" / ".." / "a", image_format="png")
    write(tmp_path / "b", range(1, 3))
    with pytest.raises(DataError, match="its 2 episodes are not the first ones of"):
        convert_store(tmp_path / "a", tmp_path / "b")
    assert_holds(tmp_path / "b", range(1, 3))
    with pytest.raises(DataError, match="image_format: got 'gif'"):
        convert_store(tmp_path / "a", tmp_path / "c", image_format="gif")
    with pytest.raises(DataError, match="no episode store"):
        convert_store(tmp_path / "nothing", tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_version_1_is_read_as_it_is() -> None:
    before = {path.name: path.read_bytes() for path in VERSION_1.iterdir()}
    store = EpisodeStore(VERSION_1)
    assert store.header.version == 1
    assert store.header.difference(HEADER) is None
    assert store.lengths.tolist() == [len(make_episode(seed)) for seed in range(4)]
    assert store.successes.tolist()[1:3] == [0, 1] and store.seeds.tolist() == [0, 1, 2, 3]
    for i in range(4):
        assert_same(store.read(i), make_episode(i, with_metadata=False))
        assert store.metadata(i) == {}
    assert store.verify().num_bytes == sum(
        len(content) for name, content in before.items() if name != "header.json"
    )
    texts = {text for seed in range(4) for text in make_episode(seed).observations["mission"]}
    assert store.statistics().fields["observations.mission"].num_texts == len(texts) > 4
    assert before == {path.name: path.read_bytes() for path in VERSION_1.iterdir()}


def test_version_1_is_copied_but_not_appended_to(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="version 1, which this db1 reads but does not append to"):
        EpisodeWriter(VERSION_1, HEADER)
    copy = convert_store(VERSION_1, tmp_path / "s")
    assert copy.header.version == 2
    with EpisodeWriter(tmp_path / "s", HEADER) as writer:
        writer.append(make_episode(4))
    for i in range(5):
        assert_same(EpisodeStore(tmp_path / "s").read(i), make_episode(i, with_metadata=False))


@pytest.mark.parametrize("name", ["observations.image.bin", "strings.jsonl", "episodes.bin"])
def test_damage_in_version_1_is_told(tmp_path: Path, name: str) -> None:
    path = tmp_path / "s"
    shutil.copytree(VERSION_1, path)
    flip(path / name, 9)
    with pytest.raises(DataError, match="damaged"):
        EpisodeStore(path).verify()
