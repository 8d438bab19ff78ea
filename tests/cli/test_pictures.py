"""COCO and VQA v2 in their official layouts: import, train, write, score; and bad input."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from official_layouts import (
    IMAGE_IDS,
    answers_of,
    captions_of,
    jpeg,
    make_karpathy,
    make_vqa,
)
from PIL import Image

from db1.cli.main import main

YAML = """
name: seen
runs: {root}/runs
vocabulary: {{text_size: 400, num_continuous_bins: 64, num_discrete: 32}}
sequence: {{length: 128}}
data:
  root: {root}/data
  evaluation_samples: 2
  text:
    psalm: {{weight: 0.5, source: {root}/psalm.jsonl}}
  pairs:
    coco: {{kind: caption, image_size: 32, train_splits: [train, restval], heldout_split: val}}
    vqa: {{kind: question, image_size: 32, heldout_split: val}}
model: {{num_layers: 1, num_heads: 2, width: 32, memory_length: 128, vision_channels: 32}}
training:
  num_steps: 1
  global_batch_size: 4
  micro_batch_size: 4
  learning_rate: 1.0e-3
  warmup_steps: 1
  engine: torch
  eval_every: 1
  checkpoint_every: 1
"""


ROOT = Path(__file__).parents[2]
PLAIN = ("--tokenizer", "plain", "--no-java")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Official folders, their stores, and a run of one training step on both."""
    root = tmp_path_factory.mktemp("pictures")
    make_karpathy(root / "coco")
    make_vqa(root / "vqa")
    lines = [f"Is this {n}? yes, image {n} with a caption of a café" for n in range(300)]
    (root / "psalm.jsonl").write_text("".join(json.dumps({"text": x}) + "\n" for x in lines))
    (root / "seen.yaml").write_text(YAML.format(root=root))
    before = sys.argv
    for verb in (
        ["import", "coco", root / "coco", "--karpathy", "--out", root / "data/pairs/coco"],
        ["import", "vqa", root / "vqa", "--out", root / "data/pairs/vqa"],
        ["collect", "--config", root / "seen.yaml"],
        ["train", root / "seen.yaml"],
    ):
        sys.argv = ["db1", *map(str, verb)]
        try:
            main()
        except SystemExit as stopped:
            assert not stopped.code, verb
        finally:
            sys.argv = before
    return root


def lines_of(out: str) -> list[dict]:
    return [json.loads(line) for line in out.splitlines()]


def test_coco_from_import_to_score(db1, folder: Path, tmp_path: Path) -> None:
    run, results = folder / "runs/seen", tmp_path / "coco.json"
    status, out, err = db1("caption", run, folder / "data/pairs/coco/test", "--results", results)
    assert status == 0 and "1 captions" in out, err
    written = json.loads(results.read_text())
    assert [entry["image_id"] for entry in written] == [73]
    assert set(written[0]) == {"image_id", "caption"}
    for source in (folder / "coco/dataset_coco.json", folder / "data/pairs/coco/test"):
        status, out, err = db1("score", "captions", source, results, "--json", *PLAIN)
        assert status == 0, err
        found = json.loads(out)
        assert found["num_images"] == 1 and set(found["scores"]) >= {"BLEU-4", "CIDEr-D"}
        assert set(found["not_run"]) >= {"METEOR", "SPICE"}
    official = folder / "coco/annotations/captions_val2014.json"
    status, _, err = db1("score", "captions", official, results)
    assert status == 2 and "lack 1 of 2 image_ids: 42; pass --partial" in err


def test_vqa_from_import_to_score(db1, folder: Path, tmp_path: Path) -> None:
    run, results = folder / "runs/seen", tmp_path / "answers.json"
    arguments = ("answer", run, folder / "data/pairs/vqa/val", "--results", results)
    status, _, err = db1(*arguments, "--choice", "yes", "--choice", "no")
    assert status == 0, err
    written = json.loads(results.read_text())
    ids = [1000 * image + k for image in IMAGE_IDS["val"] for k in range(3)]
    assert [entry["question_id"] for entry in written] == ids
    official = folder / "vqa/v2_mscoco_val2014_annotations.json"
    status, out, err = db1("score", "vqa", official, results, "--json")
    assert status == 0, err
    found = json.loads(out)
    shares = [100.0 if e["answer"] == "yes" else 90.0 for e in written]  # six and three of ten
    assert found["accuracy"] == pytest.approx(np.mean(shares))
    assert found["by_answer_type"] == {"yes/no": pytest.approx(np.mean(shares))}
    assert found["counts"]["question_type"] == {"is this": 6}
    assert "no" in answers_of(1)
    test = tmp_path / "test.json"
    status, _, err = db1("answer", run, folder / "data/pairs/vqa/test", "--results", test)
    assert status == 0 and len(json.loads(test.read_text())) == 6, err


def test_perfect_results_from_elsewhere(db1, folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    texts = [{"image_id": i, "caption": captions_of(i)[0]} for i in IMAGE_IDS["val"]]
    file.write_text(json.dumps(texts))
    official = folder / "coco/annotations/captions_val2014.json"
    out = db1("score", "captions", official, file, "--json", *PLAIN)[1]
    assert json.loads(out)["scores"]["BLEU-4"] == pytest.approx(1.0, abs=1e-6)
    file.write_text(json.dumps([*texts, {"image_id": 5, "caption": "x"}]))
    status, _, err = db1("score", "captions", official, file)
    assert status == 2 and "1 image_id(s) that the annotations do not have: 5" in err
    for content, words in (
        ("[]", "not a result file"),
        ('[{"image_id": 42}]', "'caption' is None, expected str"),
        ('[{"image_id": 42, "caption": "a"}, {"image_id": 42, "caption": "b"}]', "twice"),
        ("nonsense", "cannot be read as JSON"),
    ):
        file.write_text(content)
        status, _, err = db1("score", "captions", official, file)
        assert status == 2 and words in err and len(err.strip().splitlines()) == 1, err


def test_evaluation_has_both_sections(db1, folder: Path, tmp_path: Path) -> None:
    run = folder / "runs/seen"
    arguments = ("eval", run, "--out", tmp_path, "--no-java", "--caption-tokenizer", "plain")
    status, _, err = db1(*arguments)
    assert status == 0, err
    results = json.loads((tmp_path / "results.json").read_text())
    captions, questions = results["captions"]["coco"], results["questions"]["vqa"]
    assert captions["split"] == "test" and captions["num_images"] == 1
    assert captions["baseline"]["caption"].startswith("Image ")
    assert captions["tokenizer"] == "plain" and "METEOR" in captions["not_run"]
    assert captions["examples"][0]["id"] == 73
    assert captions["examples"][0]["image"].startswith("data:image/png;base64,")
    assert questions["split"] == "val" and questions["num_questions"] == 6
    assert questions["baseline"]["accuracy"] == 100 and questions["mode"] == "official"
    assert set(questions["by_question_type"]) == {"is this"}
    assert questions["blind"]["accuracy"] == 100  # unseen questions fall back to their type
    store = folder / "data/pairs/coco/test"
    again = db1("score", "captions", store, tmp_path / captions["results"], "--json", *PLAIN)[1]
    assert json.loads(again)["scores"] == pytest.approx(captions["scores"], abs=1e-6)
    before = (tmp_path / captions["results"]).stat().st_mtime_ns
    assert db1(*arguments)[0] == 0
    assert (tmp_path / captions["results"]).stat().st_mtime_ns == before
    status, _, err = db1(*arguments, "--beams", 2)
    assert status == 2 and "pairs" in err and "--overwrite" in err
    status, _, err = db1("eval", run, "--out", tmp_path / "b", "--pair-split", "train")
    assert status == 1 and "learned from the split 'train'" in err


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder with an animated and a CMYK image and two of other sizes."""
    place = tmp_path / "images"
    place.mkdir()
    frames = [Image.new("RGB", (40, 30), color) for color in ("red", "blue")]
    frames[0].save(place / "a.gif", save_all=True, append_images=frames[1:])
    Image.new("CMYK", (64, 48), (0, 200, 200, 10)).save(place / "b.jpg")
    (place / "c.jpg").write_bytes(jpeg(1, 200, 90))
    (place / "notes.txt").write_text("no image")
    return place


def test_files_and_folders(db1, folder: Path, images: Path) -> None:
    run = folder / "runs/seen"
    status, out, err = db1("caption", run, images, images / "c.jpg", "--json", "--max-tokens", 5)
    assert status == 0, err
    found = lines_of(out)
    assert [Path(e["image"]).name for e in found] == ["a.gif", "b.jpg", "c.jpg", "c.jpg"]
    assert found[0]["notes"] == ["only the first of its frames is used"]
    assert found[1]["notes"] == ["converted from CMYK without its colour profile"]
    assert found[2]["caption"] == found[3]["caption"] and found[2]["notes"] == []
    options = ("--top-p", 0.9, "--temperature", 1.5, "--json", "--max-tokens", 5)
    draws = {db1("caption", run, images, *options, "--seed", seed)[1] for seed in (1, 1, 2)}
    assert len(draws) == 2
    status, out, err = db1("answer", run, images, "Is this 9?", "Why?", "--choice", "yes",
                           "--choice", "no", "--json")  # fmt: skip
    assert status == 0, err
    found = lines_of(out)
    assert len(found) == 6 and {e["answer"] for e in found} <= {"yes", "no"}
    assert found[0]["probability"] >= 0.5 and set(found[0]["log_probabilities"]) == {"yes", "no"}


def bomb(path: Path) -> Path:
    """A PNG that is small as a file and huge as a picture."""
    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunks = b"".join(
        struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d))
        for k, d in ((b"IHDR", head), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b""))
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    return path


def test_refuses_bad_images(db1, folder: Path, images: Path, tmp_path: Path) -> None:
    run = folder / "runs/seen"
    (tmp_path / "cut.jpg").write_bytes(jpeg(1)[:200])
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "none").mkdir()
    for name, words in (
        ("cut.jpg", "cannot decode the image"),
        ("text.png", "not one of the image formats"),
        ("empty.png", "an empty file"),
        ("absent.png", "no such image file or folder"),
        ("none", "no image in this folder"),
        (bomb(tmp_path / "bomb.png").name, "expected at most 64000000 pixels"),
    ):
        status, out, err = db1("caption", run, tmp_path / name)
        assert status == 2 and words in err and name in err and not out, err
        assert len(err.strip().splitlines()) == 1, err
    shutil.copy(tmp_path / "cut.jpg", images / "b2.jpg")
    status, out, err = db1("caption", run, images, "--skip-bad", "--json", "--max-tokens", 2)
    assert status == 0 and len(lines_of(out)) == 3 and "left out: " in err and "b2.jpg" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("caption", "IMAGES", "--beams", 2, "--top-p", 0.5), "beams: got 2 with sampling"),
        (("caption", "IMAGES", "--results", "x.json"), "go with a store"),
        (("caption", "STORE", "IMAGES"), "name one store alone"),
        (("caption", "QUESTIONS"), "use `db1 answer`"),
        (("answer", "IMAGES"), "no question"),
        (("answer", "IMAGES", "why " * 200), "tokens too long"),
        (("answer", "QUESTIONS", "why?"), "brings its own questions"),
        (("answer", "IMAGES", "why?", "--set", "vqaa"), "did you mean 'vqa'"),
    ],
)
def test_refuses(db1, folder: Path, images: Path, arguments: tuple, words: str) -> None:
    places = {"IMAGES": images, "STORE": folder / "data/pairs/coco/test",
              "QUESTIONS": folder / "data/pairs/vqa/val"}  # fmt: skip
    verb, *rest = (places.get(str(a), a) for a in arguments)
    status, out, err = db1(verb, folder / "runs/seen", *rest)
    assert status == 2 and words in err and not out, err
    assert len(err.strip().splitlines()) == 1, err


PLAINLY = {"TOKENIZER": "plain", "JAVA": "no-java"}


@pytest.mark.parametrize(
    ("script", "source", "settings", "words"),
    [
        ("evaluate_caption.sh", "coco", PLAINLY, ("1 captions", "CIDEr-D")),
        ("evaluate_caption.sh", "coco", {"KARPATHY": "0", **PLAINLY},
         ("2 captions", "BLEU-4")),
        ("evaluate_caption.sh", "data/pairs/coco/val", PLAINLY, ("1 captions",)),
        ("evaluate_vqa.sh", "vqa", {"MODE": "evalai"}, ("6 answers", "evalai mode", "yes/no")),
        ("evaluate_vqa.sh", "vqa", {"SPLIT": "test"}, ("6 answers", "evaluation server")),
    ],
)  # fmt: skip
@pytest.mark.slow
def test_scripts(
    folder: Path, tmp_path: Path, script: str, source: str, settings: dict, words: tuple
) -> None:
    """The scripts as a user calls them, on official folders and on a store."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, **settings, "STORES": str(tmp_path / "s"), "PATH": path}
    command = ["sh", ROOT / "scripts" / script, folder / "runs/seen", folder / source]
    outcome = subprocess.run(
        [*command, "--max-tokens", "3"], capture_output=True, text=True,
        env={**environment, "OUT": str(tmp_path / "out.json")},
    )  # fmt: skip
    assert outcome.returncode == 0, outcome.stderr
    assert all(word in outcome.stdout for word in words), outcome.stdout
    assert json.loads((tmp_path / "out.json").read_text())


@pytest.mark.parametrize("script", ["evaluate_caption.sh", "evaluate_vqa.sh"])
def test_scripts_say_how_they_are_used(script: str) -> None:
    outcome = subprocess.run(["sh", ROOT / "scripts" / script], capture_output=True, text=True)
    assert outcome.returncode == 2 and "usage:" in outcome.stderr
