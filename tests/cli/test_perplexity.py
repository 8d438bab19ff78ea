"""`db1 perplexity`: the run's own text and others, memories of several lengths, bad input."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from db1.inference.load import load_agent_parts
from db1.metrics.perplexity import score_text

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def run(experiment: Path) -> Path:
    return experiment.parent / "runs/tiny"


def rows(db1: Run, *arguments: object) -> dict[str, list[dict]]:
    status, out, err = db1("perplexity", *arguments, "--json")
    assert status == 0, err
    return json.loads(out)["texts"]


def test_own_text_with_the_usual_memories(db1: Run, run: Path) -> None:
    found = rows(db1, run)["psalm"]
    assert [row["memory_length"] for row in found] == [0, 96, 384]
    assert len({row["num_tokens"] for row in found}) == 1
    loaded = load_agent_parts(run, device="cpu")
    folder = run.parents[1] / "data/text/psalm"
    assert loaded.tokenizer is not None
    whole = score_text(
        loaded, loaded.tokenizer, folder / "train", folder / "heldout", window=96, memory_length=0
    ).to_dict()
    assert {key: found[0][key] for key in whole} == pytest.approx(whole)
    status, out, _ = db1("perplexity", run, "--corpus", "psalm", "--max-tokens", 40)
    assert status == 0 and "psalm: 39 tokens, 96 at once" in out and "bits per byte" in out


def test_another_text_in_sliding_windows(db1: Run, run: Path, tmp_path: Path) -> None:
    """A window and a memory that both hold all of a short text see the same."""
    lines = [{"text": "And the sheep of the field went up."}, {"text": " "}, {"text": "Water."}]
    file = tmp_path / "other.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)))
    options = ("--text", file, "--target-length", 4, "--memory-length", 90)
    [windows] = rows(db1, run, *options, "--sliding-window")[str(file)]
    [memory] = rows(db1, run, *options)[str(file)]
    same = ("num_tokens", "perplexity", "bits_per_byte")
    assert [windows[k] for k in same] == pytest.approx([memory[k] for k in same], rel=1e-4)
    assert "ratio" not in windows
    status, _, err = db1("perplexity", run, *options)
    assert status == 0 and "1 empty document(s) left out" in err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--text", "latin.txt"), "latin.txt: byte 6 is not UTF-8"),
        (("--text", "blank.txt"), "no document holds any text"),
        (("--text", "nothing.txt"), "nor a path"),
        (("--text", "kjv", "--corpus", "psalm"), "leave out --corpus"),
        (("--corpus", "psalms"), "the run learned psalm"),
        (("--data", "nowhere"), "nowhere"),
    ],
)
def test_bad_input_is_one_line(
    db1: Run,
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    named: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "latin.txt").write_bytes(b"Gr\xc3\xbc\xc3\x9f\xe4")
    (tmp_path / "blank.txt").write_text("\n \n")
    status, _, err = db1("perplexity", run, *arguments)
    assert status == 2 and named in err
    assert len([line for line in err.splitlines() if "error" in line]) == 1
