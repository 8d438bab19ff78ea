"""`db1 inspect` from the command line."""

from __future__ import annotations

import json
import shutil
from html.parser import HTMLParser
from pathlib import Path

from db1.data.build import SourceFactory
from db1.data.mixture import sample_hash
from db1.tokens.vocabulary import Vocabulary
from db1.training.experiment import load_experiment


class _Cells(HTMLParser):
    """Counts token cells."""

    num_cells = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.num_cells += "cell" in (dict(attrs).get("class") or "").split()


def test_a_sequence_is_the_one_that_training_reads(db1, experiment: Path, tmp_path: Path) -> None:
    config = load_experiment(experiment)
    factory = SourceFactory(
        config.data, config.sequence, Vocabulary(config.vocabulary), config.training.seed
    )
    mixture = factory.mixture(12 * 4)
    run = experiment.parent / "runs/tiny"
    for subject in (experiment, run):
        page = tmp_path / "page.html"
        status, out, err = db1(
            "inspect", subject, "--step", 7, "--slot", 2, "--json", "-", "--html", page
        )
        assert status == 0, err
        content, sample = json.loads(out), mixture[7 * 4 + 2]
        assert content["sha256"] == sample_hash(sample)
        assert [token["id"] for token in content["tokens"]] == sample.ids.tolist()
        assert (content["step"], content["slot"], content["findings"]) == (7, 2, [])
        cells = _Cells()
        cells.feed(page.read_text())
        assert cells.num_cells == 97
    changed = db1("inspect", experiment, "training.seed=5", "--step", 7, "--slot", 2, "--json", "-")
    assert json.loads(changed[1])["sha256"] != content["sha256"]


def test_full_and_compact(db1, experiment: Path) -> None:
    _, compact, _ = db1("inspect", experiment, "--step", 0)
    _, full, _ = db1("inspect", experiment, "--step", 0, "--full")
    assert len(compact.splitlines()) < 97 < len(full.splitlines())
    assert "local position" in full


def test_an_overview_of_the_mixture(db1, experiment: Path, tmp_path: Path) -> None:
    file = tmp_path / "o.json"
    arguments = ("inspect", experiment, "--samples", 4, "--json", file, "--html", tmp_path / "o")
    status, out, err = db1(*arguments)
    assert status == 0, err
    assert all(name in out for name in ("tsp/uniform20", "psalm", "50.00 %", "epochs"))
    rows = {row["name"]: row for row in json.loads(file.read_text())["sources"]}
    assert [rows[n]["expected"] for n in ("classic_control/CartPole-v1", "psalm")] == [24, 12]
    assert rows["tsp/uniform20"]["statistics"]["num_samples"] == 4
    assert "tsp/uniform20" in (tmp_path / "o").read_text()


def test_an_error_gives_status_1(db1, experiment: Path) -> None:
    status, out, _ = db1("inspect", experiment, "sequence.length=30", "--samples", 0)
    assert status == 1 and "error [window]" in " ".join(out.split())


def test_stores_and_folders_of_stores(db1, experiment: Path, tmp_path: Path) -> None:
    data = experiment.parent / "data"
    status, out, err = db1("inspect", data / "tsp/uniform20", "--json", "-")
    assert status == 0, err
    content = json.loads(out)
    assert content["episodes"] == 6 and content["expert"] == "tsp_elkai"
    assert 0.5 < content["normalised"] < 1.5 and content["findings"] == []
    status, out, _ = db1("inspect", data, "--no-environments", "--html", tmp_path / "s.html")
    assert status == 0 and "CartPole-v1" in out and "psalm" in out
    assert "CartPole-v1" in (tmp_path / "s.html").read_text()
    shutil.copytree(data / "tsp", tmp_path / "tsp")
    rewards = tmp_path / "tsp/uniform20/rewards.bin"
    rewards.write_bytes(b"\x00\x01" * (rewards.stat().st_size // 2))
    status, out, _ = db1("inspect", tmp_path / "tsp", data / "tsp", "--no-environments")
    assert status == 1 and "checksum" in out and "broken" in out
    status, out, _ = db1("inspect", tmp_path / "tsp/uniform20", "--no-verify", "--no-environments")
    assert "not verified" in out


def test_bad_calls(db1, experiment: Path, tmp_path: Path) -> None:
    store = experiment.parent / "data/tsp/uniform20"
    for arguments, said in (
        ((experiment, "--step", 12), "steps 0..11"),
        ((experiment, "--step", 0, "--slot", 4), "slots 0..3"),
        ((experiment, "--slot", 1), "needs --step"),
        ((store, "--step", 0), "run folder"),
        ((store, "data.root=x"), "run folder"),
        ((experiment, store), "one experiment or run at a time"),
        ((tmp_path / "gone",), "no such file or folder"),
        ((tmp_path,), "header.json"),
        (("a=b",), "give an experiment"),
        ((experiment, "sequence.lenght=4"), "length"),
    ):
        status, out, err = db1("inspect", *arguments)
        assert status == 2 and said in err and not out, (arguments, err)
        assert len(err.strip().splitlines()) == 1
