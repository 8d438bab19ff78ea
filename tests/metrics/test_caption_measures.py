"""Scores beside those of pycocoevalcap itself, on random captions; Java's where Java is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from db1.errors import ConfigError, DataError
from db1.metrics.caption_measures import measure_captions
from db1.metrics.captioning import score_captions, tokenize_caption
from db1.metrics.java_tools import (
    JavaTools,
    find_java_tools,
    score_meteor,
    spice_scores,
    tokenize_ptb,
)

pycocoevalcap = pytest.importorskip(
    "pycocoevalcap", reason='needs pip install "db1[caption-metrics]"'
)


REFERENCES = [
    [
        "a train traveling down tracks next to lights",
        "a blue and silver train next to train station and trees",
        "a blue train is next to a sidewalk on the rails",
        "a passenger train pulls into a train station",
        "a train coming down the tracks arriving at a station",
    ],
    ["a cat sits on the mat", "the cat is on a mat"],
    ["two dogs play in the park", "dogs playing in a green park"],
]
HYPOTHESES = [
    "train traveling down a track in front of a road",
    "a cat on a mat",
    "two dogs playing in a park",
]
_SENTENCE = "a the cat dog sits on mat red blue in park two train of runs and tree it"
WORDS = tuple(_SENTENCE.split())


def random_captions(seed: int, count: int) -> tuple[list[list[str]], list[list[list[str]]]]:
    """Captions and one to five references each; common words are common."""
    generator = np.random.default_rng(seed)

    def words(least: int) -> list[str]:
        drawn = generator.geometric(0.15, generator.integers(least, 15)) - 1
        return [WORDS[min(int(n), len(WORDS) - 1)] for n in drawn]

    references = [[words(1) for _ in range(generator.integers(1, 6))] for _ in range(count)]
    return [words(1) for _ in range(count)], references


@pytest.fixture(scope="module")
def tools() -> JavaTools:
    found = find_java_tools()
    if isinstance(found, str):
        pytest.skip(found)
    return found


def oracle(hypotheses: list[list[str]], references: list[list[list[str]]]) -> dict[str, object]:
    """BLEU, ROUGE-L and CIDEr-D by pycocoevalcap."""
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    truths = {i: [" ".join(words) for words in item] for i, item in enumerate(references)}
    written = {i: [" ".join(words)] for i, words in enumerate(hypotheses)}
    bleu, _ = Bleu(4).compute_score(truths, written, verbose=0)
    rouge, rouge_items = Rouge().compute_score(truths, written)
    cider, cider_items = Cider().compute_score(truths, written)
    return {"bleu": bleu, "rouge": rouge, "rouge_items": rouge_items, "cider": cider,
            "cider_items": cider_items}  # fmt: skip


@pytest.mark.parametrize(("seed", "count"), [(0, 600), (1, 40), (2, 3)])
def test_random_captions_score_as_by_pycocoevalcap(seed: int, count: int) -> None:
    hypotheses, references = random_captions(seed, count)
    mine, theirs = score_captions(hypotheses, references), oracle(hypotheses, references)
    assert mine.bleu == pytest.approx(theirs["bleu"], abs=1e-9)
    assert mine.rouge_l == pytest.approx(theirs["rouge"], abs=1e-9)
    assert mine.rouge_l_items == pytest.approx(theirs["rouge_items"], abs=1e-9)
    assert mine.cider_d == pytest.approx(theirs["cider"], abs=1e-9)
    assert mine.cider_d_items == pytest.approx(theirs["cider_items"], abs=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3, 8))
def test_thousands_of_random_captions(seed: int) -> None:
    test_random_captions_score_as_by_pycocoevalcap(seed, 1_000)


def test_ptb_tokens_are_those_of_pycocoevalcap(tools: JavaTools) -> None:
    texts = [
        "A man, riding a wave.", "", "It's the dog's toy; don't (really) touch!", "A café — naïve",
        "two\nlines", "1,000 birds...", "\"quoted\" 'words'", "a.b. c-d e/f",
    ]  # fmt: skip
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    filled = [text or "x" for text in texts]  # it loses its place at an empty caption
    theirs = PTBTokenizer().tokenize({i: [{"caption": text}] for i, text in enumerate(filled)})
    mine = tokenize_ptb(tools, texts)
    assert mine[1] == []
    assert [words for i, words in enumerate(mine) if i != 1] == [
        theirs[i][0].split() for i in range(len(texts)) if i != 1
    ]
    assert tokenize_caption(texts[0]) == mine[0]


@pytest.mark.slow
def test_meteor_equals_the_recorded_scores_and_pycocoevalcap(tools: JavaTools) -> None:
    hypotheses = [text.split() for text in HYPOTHESES]
    references = [[text.split() for text in item] for item in REFERENCES]
    total, items = score_meteor(tools, hypotheses, references)
    assert total == pytest.approx(0.3213906548, abs=1e-9)
    assert items == pytest.approx([0.235305, 0.387955, 0.401836], abs=1e-6)
    from pycocoevalcap.meteor.meteor import Meteor

    hypotheses, references = random_captions(9, 300)
    total, items = score_meteor(tools, hypotheses, references)
    truths = {i: [" ".join(words) for words in item] for i, item in enumerate(references)}
    written = {i: [" ".join(words)] for i, words in enumerate(hypotheses)}
    expected, expected_items = Meteor().compute_score(truths, written)
    assert total == pytest.approx(expected, abs=1e-9)
    assert items == pytest.approx(np.array(expected_items), abs=1e-9)


@pytest.mark.slow
def test_all_measures_that_can_run_do(tools: JavaTools) -> None:
    found = measure_captions(HYPOTHESES, REFERENCES)
    assert found.tokenizer == "ptb" and found.scores["METEOR"] == pytest.approx(0.3213906548)
    assert found.scores["CIDEr-D"] == pytest.approx(2.7521012860, abs=1e-9)
    assert "stanford-corenlp-3.6.0.jar" in found.not_run.get("SPICE", "stanford-corenlp-3.6.0.jar")


def test_without_java_the_others_run_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    found = measure_captions(HYPOTHESES, REFERENCES)
    assert found.tokenizer == "plain"
    assert set(found.not_run) == {"PTB tokenizer", "METEOR", "SPICE"}
    assert all("Java is not installed" in reason for reason in found.not_run.values())
    assert found.scores["CIDEr-D"] == pytest.approx(2.7521012860, abs=1e-9)
    with pytest.raises(DataError, match="tokenizer ptb: Java is not installed"):
        measure_captions(HYPOTHESES, REFERENCES, tokenizer="ptb")
    with pytest.raises(ConfigError, match="did you mean 'plain'"):
        measure_captions(HYPOTHESES, REFERENCES, tokenizer="plein")


def program(folder: Path, body: str) -> JavaTools:
    """A program in Java's place that misbehaves."""
    path = folder / "java"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    (folder / "meteor").mkdir(exist_ok=True)
    return JavaTools(java=str(path), folder=folder)


def _command(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it ended meanwhile
        return b""


def test_programs_that_fail_or_hang_are_one_clear_error(tmp_path: Path) -> None:
    words = [["a"]], [[["a"]]]
    broken = program(tmp_path, "echo out of memory >&2; exit 3")
    with pytest.raises(DataError, match=r"METEOR failed \(exit status 3.*out of memory"):
        score_meteor(broken, *words)
    with pytest.raises(DataError, match=r"PTB tokenizer failed \(exit status 3.*out of memory"):
        tokenize_ptb(broken, ["a"])
    hanging = program(tmp_path, "exec sleep 1234.5")
    with pytest.raises(DataError, match="METEOR failed"):
        score_meteor(hanging, *words, 0.3)
    with pytest.raises(DataError, match="PTB tokenizer failed"):
        tokenize_ptb(hanging, ["a"], 0.3)
    running = [_command(path) for path in Path("/proc").glob("[0-9]*/cmdline")]
    assert not any(b"sleep\x001234.5" in command for command in running)
    with pytest.raises(DataError, match="returned 1 lines for 2 captions"):
        tokenize_ptb(program(tmp_path, "echo a"), ["a", "b"])


def test_spice_output_is_read() -> None:
    output = """[{"image_id": 1, "scores": {"All": {"f": 0.5}, "Object": {"f": null}}},
                 {"image_id": 0, "scores": {"All": {"f": null}}}]"""
    total, items = spice_scores(output, 2)
    assert total == 0.25 and items.tolist() == [0.0, 0.5]
    for content, words in (("x", "something other"), ("[]", "no score for 1 of 1")):
        with pytest.raises(DataError, match=words):
            spice_scores(content, 1)
