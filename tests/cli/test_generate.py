"""`db1 generate`: prompts from all sides, samples, stop texts, streaming, conversation."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

SHORT = ("--max-tokens", 6)


@pytest.fixture
def run(experiment: Path) -> Path:
    return experiment.parent / "runs/tiny"


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _entries(out: str) -> list[dict]:
    return [json.loads(line) for line in out.splitlines()]


def test_a_seed_gives_the_same_text_streamed_or_not(db1, run: Path) -> None:
    arguments = ("generate", run, "--prompt", "And the", *SHORT, "--seed", 3)
    status, out, err = db1(*arguments)
    assert status == 0, err
    assert out.startswith("And the") and len(out) > len("And the") + 1
    assert db1(*arguments, "--stream")[1] == out
    (entry,) = _entries(db1(*arguments, "--json")[1])
    assert entry["prompt"] + entry["text"] + "\n" == out
    assert entry["seed"] == 3 and entry["reason"] in ("max_tokens", "end_of_text")


def test_samples_have_seeds_of_their_own(db1, run: Path) -> None:
    arguments = ("generate", run, "--prompt", "And", *SHORT, "--json", "--temperature", 2)
    entries = _entries(db1(*arguments, "--num-samples", 3, "--seed", 7)[1])
    assert [entry["seed"] for entry in entries] == [7, 8, 9]
    assert len({entry["text"] for entry in entries}) == 3
    assert _entries(db1(*arguments, "--seed", 8)[1])[0]["text"] == entries[1]["text"]


def test_temperature_0_takes_the_likeliest(db1, run: Path) -> None:
    arguments = ("generate", run, "--prompt", "And the", *SHORT)
    greedy = db1(*arguments, "--temperature", 0)[1]
    assert db1(*arguments, "--temperature", 0, "--seed", 5)[1] == greedy
    assert db1(*arguments, "--temperature", 3, "--top-k", 1)[1] == greedy


def test_prompts_from_files(db1, run: Path, tmp_path: Path) -> None:
    lines, objects = tmp_path / "prompts.txt", tmp_path / "prompts.jsonl"
    lines.write_text("And the\n\nsheep of\n")
    objects.write_text('{"prompt": "And the"}\n{"prompt": "sheep of", "other": 1}\n')
    arguments = ("generate", run, *SHORT, "--json", "--prompt-file")
    entries = _entries(db1(*arguments, lines)[1])
    assert [entry["prompt"] for entry in entries] == ["And the", "sheep of"]
    assert _entries(db1(*arguments, objects)[1]) == entries
    single = ("generate", run, *SHORT, "--json", "--prompt", "sheep of")
    assert _entries(db1(*single)[1])[0] == entries[1], "an earlier prompt must leave no trace"
    out = db1("generate", run, *SHORT, "--prompt-file", lines)[1]
    assert out.count("=== prompt") == 2


def test_a_stop_text_ends_the_text(db1, run: Path) -> None:
    arguments = ("generate", run, "--prompt", "And", "--max-tokens", 30, "--json")
    text = _entries(db1(*arguments)[1])[0]["text"]
    stop = text[4:6]
    entry = _entries(db1(*arguments, "--stop", stop)[1])[0]
    assert entry["text"] == text[: text.find(stop)] and entry["reason"] == "stop"


def test_a_prompt_from_a_pipe(db1, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("And the"))
    status, out, _ = db1("generate", run, *SHORT)
    assert status == 0
    assert out == db1("generate", run, *SHORT, "--prompt", "And the")[1]


def test_a_conversation_on_a_terminal(db1, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", _Terminal("And the\ngo on\n/new\nAnd the\n"))
    status, out, err = db1("generate", run, *SHORT, "--temperature", 0)
    assert status == 0, err
    answers = [line.removeprefix("> ") for line in out.split("\n")[1:4]]
    alone = db1("generate", run, *SHORT, "--temperature", 0, "--prompt", "And the")[1]
    assert answers[0] == alone.removeprefix("And the").rstrip("\n").split("\n")[0]
    assert out.rstrip().endswith(">") and "/new" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--prompt", "a", "--prompt-file", __file__), "exclude each other"),
        (("--prompt-file", "no-such-file"), "no-such-file"),
        (("--prompt", "a", "--top-p", 1.5), "'--top-p': got 1.5, expected at most 1"),
        (("--prompt", "a", "--stop", ""), "stop: got an empty text"),
        (("--prompt", "a", "--stream", "--json"), "--stream"),
        (("--prompt", "a", "--device", "nowhere"), "--device nowhere"),
        ((), "no prompt"),
    ],
)
def test_refuses(
    db1, run: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple, words: str
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    status, _, err = db1("generate", run, *arguments)
    assert status == 2 and words in err and len(err.strip().splitlines()) == 1, err


def test_refuses_broken_prompt_files(db1, run: Path, tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    for content, words in (("", "no prompt in it"), ('{"prompt": "a"}\n{"text": 1}\n', "line 2")):
        file.write_text(content)
        status, out, err = db1("generate", run, "--prompt-file", file)
        assert status == 2 and words in err and not out, err
