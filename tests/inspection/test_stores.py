"""Reports of stores of each kind, against the stores themselves."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from toy_run import (
    ALL_KINDS,
    all_kinds_episode,
    write_all,
    write_references,
    write_store,
    write_text,
)

from db1.errors import DataError
from db1.inspection.render_report import store_document, stores_document
from db1.inspection.store_report import StoreReport, broken, histogram
from db1.inspection.stores import describe_store, find_stores, kind_of
from db1.store.documents import DocumentStore
from db1.store.episodes import EpisodeStore
from db1.store.pairs import Pair, PairHeader, PairWriter


def _report(path: Path, **options: bool) -> StoreReport:
    return describe_store(path, with_environment=False, report=lambda *_: None, **options)


def _printed(report: StoreReport) -> str:
    console = Console(file=io.StringIO(), width=240)
    store_document(report).show(console)
    return console.file.getvalue()


def test_an_episode_store(tmp_path: Path) -> None:
    episodes = [all_kinds_episode(i, 3 + i) for i in range(6)]
    path = write_store(
        tmp_path,
        "toy/all",
        ALL_KINDS,
        episodes,
        expert="walker",
        origin={"dataset": "there"},
        image_format="png",
    )
    store = EpisodeStore(path)
    mean = float(store.returns.mean())
    write_references(path, mean - 1.0, mean + 1.0)
    report, content = _report(path), None
    assert report.checked and report.kind == "episodes" and report.findings == ()
    content = json.loads(json.dumps(report.to_dict()))
    assert (content["episodes"], content["steps"]) == (6, sum(range(3, 9)))
    assert content["step_tokens"] == 2 + 2 + 4 + 1 + 2
    assert content["tokens"] == content["steps"] * 11 and content["tokens_are_without_text"]
    assert content["expert"] == "walker" and content["origin"] == {"dataset": "there"}
    assert content["num_bytes"] == store.num_bytes
    row_bytes = 4 + 16 * 32 * 3 + 2 * 4 + 4 * 4 + 2 * 4 + 4
    assert content["raw_bytes"] == content["steps"] * row_bytes
    assert content["compression"] == pytest.approx(content["raw_bytes"] / store.num_bytes)
    assert content["normalised"] == pytest.approx(0.5)
    states = np.concatenate([e.observations["state"].ravel() for e in episodes])
    field = content["fields"]["observations.state"]
    assert field["minimum"] == pytest.approx(states.min())
    assert field["maximum"] == pytest.approx(states.max())
    assert field["clipped_share"] == 0.0
    assert content["fields"]["observations.mission"]["num_texts"] == 3
    returns, lengths = content["histograms"]
    assert sum(returns["counts"]) == 6 and set(returns["marks"]) == {"random", "expert"}
    assert lengths["counts"] == [1] * 6 and lengths["edges"] == [3, 4, 5, 6, 7, 8, 9]
    text = _printed(report)
    for word in ("valid", "walker", "dataset: there", "<- random", "<- expert", "█", "png"):
        assert word in text
    page = store_document(report).to_html()
    assert "walker" in page and 'class="bar"' in page


def test_damage_is_found_by_the_checksums_only(tmp_path: Path) -> None:
    path = write_store(tmp_path, "toy/all", ALL_KINDS, [all_kinds_episode(1)])
    file = path / "observations.count.bin"
    content = bytearray(file.read_bytes())
    content[0] ^= 1
    file.write_bytes(content)
    with pytest.raises(DataError, match="checksum"):
        _report(path)
    assert "not verified" in _printed(_report(path, verify=False))


def test_a_text_folder(tmp_path: Path) -> None:
    path = write_text(tmp_path)
    report = _report(path)
    train = DocumentStore(path / "train")
    assert report.fields["train"]["documents"] == train.num_documents == 50
    assert report.fields["train"]["tokens"] == train.num_tokens
    assert report.summary["entries"] == 60 and report.findings == ()
    assert "heldout" in _printed(report) and "psalm.txt" in _printed(report)
    ids = np.frombuffer((path / "train.bin").read_bytes(), dtype="<u2").copy()
    ids[7] = 9_999
    (path / "train.bin").write_bytes(ids.tobytes())
    with pytest.raises(DataError, match=r"train.bin: bytes 0 to \d+ differ from their checksum"):
        _report(path)
    sidecar = json.loads((path / "train.json").read_text())
    del sidecar["checksums"], sidecar["checksum"]  # as of an older db1, or of another program
    (path / "train.json").write_text(json.dumps(sidecar))
    (finding,) = _report(path).findings
    assert (finding.code, finding.severity) == ("text-ids", "error") and "9999" in finding.what
    assert _report(path, verify=False).findings == ()


def test_images_with_texts(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(buffer, "PNG")
    path = tmp_path / "coco/train"
    with PairWriter(path, PairHeader(name="coco", split="train", kind="caption")) as writer:
        writer.append(Pair(image_name="1.png", texts=("a plate", "food")), buffer.getvalue())
    report = _report(path)
    assert (report.kind, report.summary["entries"], report.summary["items"]) == ("pairs", 1, 1)
    assert report.to_dict()["texts_per_pair"]["maximum"] == 2
    assert "a plate" in _printed(report)
    assert find_stores(tmp_path) == [path]


def test_a_folder_of_stores(tmp_path: Path) -> None:
    write_all(tmp_path)
    folders = find_stores(tmp_path)
    assert folders == [tmp_path / "text/psalm", tmp_path / "toy/all", tmp_path / "toy/masked"]
    assert [kind_of(folder) for folder in folders] == ["text", "episodes", "episodes"]
    reports = [_report(folder) for folder in folders]
    reports.append(broken(tmp_path / "x", DataError("it is <torn>")))
    console = Console(file=io.StringIO(), width=240)
    document = stores_document(reports, "all")
    document.show(console)
    for path in (*folders, "it is <torn>"):
        assert str(path) in console.file.getvalue()
    assert "it is &lt;torn&gt;" in document.to_html()


def test_folders_without_a_store(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"neither header\.json .* nor train\.idx"):
        find_stores(tmp_path)
    with pytest.raises(DataError, match="no such file or folder"):
        find_stores(tmp_path / "gone")
    for unknown in ("[[]]", "{}", "7", "null"):
        (tmp_path / "header.json").write_text(f'{{"format": {unknown}}}')
        with pytest.raises(DataError, match=r"header\.json: format .*, expected one of"):
            kind_of(tmp_path)
    (tmp_path / "header.json").write_text('{"format": "other"}')
    with pytest.raises(DataError, match=r"header\.json: format 'other'"):
        find_stores(tmp_path)
    (tmp_path / "header.json").write_text("{")
    with pytest.raises(DataError, match="unreadable header"):
        kind_of(tmp_path)


def test_an_empty_store_is_described(tmp_path: Path) -> None:
    report = _report(write_store(tmp_path, "toy/all", ALL_KINDS, []))
    assert [f.code for f in report.findings] == ["empty"] and report.histograms == ()
    assert "valid" in _printed(report)


def test_values_beyond_the_tokenizer_are_told(tmp_path: Path) -> None:
    episode = all_kinds_episode(1)
    episode = replace(episode, actions=episode.actions * 4)
    report = _report(write_store(tmp_path, "toy/all", ALL_KINDS, [episode]))
    assert [f.code for f in report.findings] == ["clipped"]


def test_histograms_hold_every_value() -> None:
    assert histogram("x", np.array([])) is None
    constant = histogram("x", np.full(5, 7.0))
    assert constant.counts == (5,) and constant.edges == (7.0, 8.0)
    spread = histogram("x", np.linspace(-1, 1, 50), {"expert": 3.0})
    assert sum(spread.counts) == 50 and spread.edges[-1] == 3.0 and len(spread.counts) == 12
    assert histogram("x", np.array([np.nan, 1.0])).counts == (1,)
