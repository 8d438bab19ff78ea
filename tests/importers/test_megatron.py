"""Documents of Megatron's indexed format as a text folder."""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from db1.errors import ConfigError, DataError
from db1.importers import ImportContext, ImportSummary
from db1.importers.megatron import MegatronOptions, import_megatron
from db1.store.document_writer import DocumentWriter
from db1.store.documents import DocumentStore
from db1.tokens.text import TextTokenizer

TEXTS = [f"document {i} of the cat and the dög" for i in range(20)]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    TextTokenizer.train(TEXTS, 300).save(folder / "tokenizer.json")
    return folder


@pytest.fixture
def prefix(tmp_path: Path, tokenizer: Path) -> Path:
    """Twenty documents, the even ones with an end of text, one in two sequences, one empty."""
    coder = TextTokenizer.load(tokenizer)
    (tmp_path / "foreign").mkdir()
    prefix = tmp_path / "foreign" / "corpus.text_document"
    with DocumentWriter(prefix, np.uint16, tokenizer="", text_size=65_536) as writer:
        for i, text in enumerate(TEXTS):
            ids = np.append(coder.encode(text), [coder.end_of_text] * (i % 2 == 0)).astype(int)
            writer.append(*((ids[:3], ids[3:]) if i == 4 else (ids,)))
            if i == 7:
                writer.append(np.zeros(0, int))
    Path(f"{prefix}.json").unlink()
    return prefix


def imported(
    source: Path | str, out: Path, tokenizer: Path | None, **options: Any
) -> ImportSummary:
    options = MegatronOptions(tokenizer=tokenizer, **options)
    return import_megatron(str(source), out, options, ImportContext())


@pytest.mark.parametrize("suffix", ["", ".bin", ".idx"])
def test_documents_arrive(prefix: Path, tokenizer: Path, tmp_path: Path, suffix: str) -> None:
    summary = imported(f"{prefix}{suffix}", tmp_path / "out", tokenizer, heldout_share=0.2)
    coder = TextTokenizer.load(tmp_path / "out")
    parts = {
        "heldout": [text for i, text in enumerate(TEXTS, start=1) if i % 5 == 0],
        "train": [text for i, text in enumerate(TEXTS, start=1) if i % 5],
    }
    for part, texts in parts.items():
        store = DocumentStore(tmp_path / "out" / part, tokenizer_fingerprint=coder.fingerprint)
        documents = [store.document(i) for i in range(store.num_documents)]
        assert all(ids[-1] == coder.end_of_text for ids in documents)
        assert [coder.decode(ids[:-1]) for ids in documents] == texts
    assert summary.num_stored == 20 and summary.counts["empty documents left out"] == 1
    assert summary.notes[-1] == "end of text put after 10 documents"
    assert {file.name for file in (tmp_path / "out").iterdir()} == {
        "tokenizer.json", "text.json",
        *(f"{part}.{suffix}" for part in parts for suffix in ("bin", "idx", "json")),
    }  # fmt: skip


def test_the_same_command_again_and_after_a_kill(
    prefix: Path, tokenizer: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    (out / ".partial").mkdir(parents=True)
    (out / ".partial" / "train.bin.tmp12").write_bytes(b"left by a run that was killed")
    first = imported(prefix, out, tokenizer)
    before = {file.name: file.stat().st_mtime_ns for file in out.iterdir()}
    again = imported(prefix, out, tokenizer)
    assert again.num_stored == first.num_stored and "already imported" in again.notes[-1]
    assert {file.name: file.stat().st_mtime_ns for file in out.iterdir()} == before
    with pytest.raises(DataError, match="prepared with heldout_share 0.05, now 0.2"):
        imported(prefix, out, tokenizer, heldout_share=0.2)


def test_two_writers_at_once(prefix: Path, tokenizer: Path, tmp_path: Path) -> None:
    import fcntl

    (tmp_path / "out/.partial").mkdir(parents=True)
    other = os.open(tmp_path / "out/.partial", os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    try:
        with pytest.raises(DataError, match="another process writes this folder"):
            imported(prefix, tmp_path / "out", tokenizer)
    finally:
        os.close(other)
    assert imported(prefix, tmp_path / "out", tokenizer).num_stored == 20


def test_ids_of_another_tokenizer(prefix: Path, tokenizer: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    TextTokenizer.train(["x"], 258).save(small / "tokenizer.json")
    with pytest.raises(DataError, match="document 0: id .* at token .*, the tokenizer has 257"):
        imported(prefix, tmp_path / "out", small)
    assert list((tmp_path / "out").iterdir()) == []
    with pytest.raises(ConfigError, match="pass --tokenizer"):
        imported(prefix, tmp_path / "out", None)
    with pytest.raises(ConfigError, match="heldout_share"):
        imported(prefix, tmp_path / "out", tokenizer, heldout_share=0.9)


def test_broken_files_and_a_full_disk(prefix: Path, tokenizer: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, hard))
    try:
        with pytest.raises(DataError, match="cannot write|cannot save"):
            imported(prefix, out, tokenizer)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, previous)
    assert list(out.iterdir()) == []
    content = Path(f"{prefix}.bin").read_bytes()
    Path(f"{prefix}.bin").write_bytes(content[:-2])
    with pytest.raises(DataError, match="truncated or belongs to another index"):
        imported(prefix, out, tokenizer)
    with pytest.raises(DataError, match="not a readable document index"):
        imported(tmp_path / "none", out, tokenizer)
