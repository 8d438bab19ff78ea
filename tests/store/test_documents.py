"""Documents in Megatron's format: the bytes, the round trip, and every broken file."""

from __future__ import annotations

import json
import os
import pickle
import resource
import signal
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from db1.errors import DataError
from db1.json_shape import unseal
from db1.store.document_layout import token_dtype
from db1.store.document_writer import DocumentWriter
from db1.store.documents import DocumentStore

EXAMPLE = [[[1, 2, 3], [4, 5]], [[6, 7], [8, 9, 10, 11]], [[]]]


def write(prefix: Path, documents: list = EXAMPLE, dtype: object = np.uint16) -> Path:
    with DocumentWriter(prefix, dtype, tokenizer="abc", text_size=300, source="here") as writer:
        for document in documents:
            writer.append(*(np.array(ids, dtype=np.int32) for ids in document))
        assert writer.num_documents == len(documents)
    return prefix


def test_bytes_of_the_worked_example(tmp_path: Path) -> None:
    write(tmp_path / "d")
    expected = b"MMIDIDX\0\0" + struct.pack("<QBQQ", 1, 8, 5, 4)
    expected += struct.pack("<5i", 3, 2, 2, 4, 0)
    expected += struct.pack("<5q", 0, 6, 10, 14, 22)
    expected += struct.pack("<4q", 0, 2, 4, 5)
    assert (tmp_path / "d.idx").read_bytes() == expected
    assert (tmp_path / "d.bin").read_bytes() == struct.pack("<11H", *range(1, 12))
    sidecar, is_whole = unseal(json.loads((tmp_path / "d.json").read_text()))
    assert is_whole and sidecar.pop("checksums") == {
        "block_bytes": 1 << 20,
        "bin": [zlib.crc32((tmp_path / "d.bin").read_bytes())],
        "idx": zlib.crc32((tmp_path / "d.idx").read_bytes()),
    }
    assert sidecar == {
        "format": "db1-documents",
        "version": 1,
        "tokenizer": "abc",
        "text_size": 300,
        "source": "here",
    }
    assert sorted(p.name for p in tmp_path.iterdir()) == ["d.bin", "d.idx", "d.json"]


def test_reading_the_worked_example(tmp_path: Path) -> None:
    store = DocumentStore(write(tmp_path / "d"), tokenizer_fingerprint="abc")
    assert (store.num_documents, store.num_tokens, store.dtype) == (3, 11, np.uint16)
    assert store.sizes.tolist() == [5, 6, 0] and store.sizes.dtype == np.int64
    assert store.document(0).tolist() == [1, 2, 3, 4, 5]
    assert store.document(1).tolist() == [6, 7, 8, 9, 10, 11]
    assert store.document(2).tolist() == []
    assert store.sequence_lengths(1).tolist() == [2, 4]
    assert store.read(1, 1, 3).tolist() == [7, 8, 9]
    assert store.read(1, 6, 0).tolist() == []
    assert pickle.loads(pickle.dumps(store)).document(0).tolist() == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32", "int64", "uint16"])
def test_every_integer_dtype(tmp_path: Path, dtype: str) -> None:
    store = DocumentStore(write(tmp_path / "d", dtype=dtype))
    assert store.dtype == dtype and store.document(1).dtype == dtype
    assert store.document(1).tolist() == [6, 7, 8, 9, 10, 11]


def test_no_documents(tmp_path: Path) -> None:
    store = DocumentStore(write(tmp_path / "d", []))
    assert (store.num_documents, store.num_tokens, store.sizes.tolist()) == (0, 0, [])


def test_token_dtype() -> None:
    assert token_dtype(65_536) == np.uint16 and token_dtype(65_537) == np.int32


@pytest.mark.parametrize("place", [(3, 0, 1), (-1, 0, 1), (0, 3, 3), (0, -1, 2), (0, 6, None)])
def test_reading_outside(tmp_path: Path, place: tuple) -> None:
    with pytest.raises(DataError, match="expected"):
        DocumentStore(write(tmp_path / "d")).read(*place)


@pytest.mark.parametrize(
    ("ids", "named"),
    [
        (np.array([300]), "document 1: id 300, expected 0..299"),
        (np.array([-1]), "id -1"),
        (np.array([0.5]), "got float64"),
        (np.array([[1]]), r"got int64 \(1, 1\)"),
    ],
)
def test_foreign_ids_leave_no_file(tmp_path: Path, ids: np.ndarray, named: str) -> None:
    with pytest.raises(DataError, match=named):
        with DocumentWriter(tmp_path / "d", "uint16", tokenizer="", text_size=300) as writer:
            writer.append(np.arange(5))
            writer.append(ids)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dtype", ["float32", "uint64", "object"])
def test_writer_refuses_dtypes(tmp_path: Path, dtype: str) -> None:
    with pytest.raises(DataError, match=f"dtype {dtype}, expected one of"):
        DocumentWriter(tmp_path / "d", dtype, tokenizer="", text_size=300)


def test_full_disk_leaves_no_file(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(DataError, match="cannot write documents: .*nothing was kept"):
            write(tmp_path / "d", [[[7] * 60_000]] * 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, previous)
    assert list(tmp_path.iterdir()) == []


def test_tokenizer_must_agree(tmp_path: Path) -> None:
    prefix = write(tmp_path / "d")
    with pytest.raises(DataError, match="made with tokenizer abc, this run uses xyz"):
        DocumentStore(prefix, tokenizer_fingerprint="xyz")
    (tmp_path / "d.json").unlink()
    assert DocumentStore(prefix).sidecar == {}
    with pytest.raises(DataError, match="tokenizer of these documents is unknown"):
        DocumentStore(prefix, tokenizer_fingerprint="abc")


@pytest.mark.parametrize(
    "content", ["{", "[]", "{}", '{"format": "db1-documents", "version": 2}', '{"format": "x"}']
)
def test_foreign_sidecar(tmp_path: Path, content: str) -> None:
    prefix = write(tmp_path / "d")
    (tmp_path / "d.json").write_text(content)
    with pytest.raises(DataError, match="d.json"):
        DocumentStore(prefix)


@pytest.mark.parametrize("suffix", ["idx", "bin"])
def test_truncated_at_every_byte(tmp_path: Path, suffix: str) -> None:
    prefix = write(tmp_path / "d")
    file = tmp_path / f"d.{suffix}"
    for size in reversed(range(file.stat().st_size)):
        os.truncate(file, size)
        with pytest.raises(DataError, match=f"d.{suffix}"):
            DocumentStore(prefix)
    file.unlink()
    with pytest.raises(DataError, match=f"d.{suffix}"):
        DocumentStore(prefix)


def test_ids_of_another_index(tmp_path: Path) -> None:
    prefix = write(tmp_path / "d")
    (tmp_path / "d.bin").write_bytes(bytes(24))
    with pytest.raises(DataError, match="24 bytes, its index expects 22"):
        DocumentStore(prefix)


@pytest.mark.parametrize(
    ("position", "value", "named"),
    [
        (0, "<B:0", "not a document index"),
        (9, "<Q:2", "index version 2"),
        (17, "<B:9", "dtype code 9"),
        (17, "<B:6", r"dtype code 6 \(float64\)"),
        (18, "<Q:4", "truncated or of another format"),
        (26, "<Q:100", "truncated or of another format"),
        (34, "<i:-1", "out of order"),
        (34, "<i:4", "pointers do not follow"),
        (54, "<q:2", "pointers do not follow"),
        (94, "<q:1", "out of order"),
        (102, "<q:5", "out of order"),
        (118, "<q:4", "out of order"),
    ],
)
def test_spoiled_index(tmp_path: Path, position: int, value: str, named: str) -> None:
    prefix = write(tmp_path / "d")
    content = bytearray((tmp_path / "d.idx").read_bytes())
    code, number = value.split(":")
    struct.pack_into(code, content, position, int(number))
    (tmp_path / "d.idx").write_bytes(content)
    with pytest.raises(DataError, match=named):
        DocumentStore(prefix)


def test_document_indices_whose_difference_overflows(tmp_path: Path) -> None:
    prefix = write(tmp_path / "d")
    content = bytearray((tmp_path / "d.idx").read_bytes())
    struct.pack_into("<qq", content, 102, 7 << 60, -(7 << 60))
    (tmp_path / "d.idx").write_bytes(content)
    with pytest.raises(DataError, match="out of order"):
        DocumentStore(prefix)


def test_multimodal_modes_are_read(tmp_path: Path) -> None:
    prefix = write(tmp_path / "d")
    with open(tmp_path / "d.idx", "ab") as file:
        file.write(bytes([0, 1, 0, 1, 0]))
    store = DocumentStore(prefix)
    assert store.modes.tolist() == [0, 1, 0, 1, 0] and store.document(0).tolist()[:2] == [1, 2]


@pytest.fixture
def indexed_dataset() -> object:
    reason = "megatron-core is not installed; pip install --no-deps megatron-core==0.16.1 runs it"
    return pytest.importorskip("megatron.core.datasets.indexed_dataset", reason=reason)


@pytest.mark.filterwarnings("ignore")
def test_megatron_reads_ours(tmp_path: Path, indexed_dataset: object) -> None:
    rng = np.random.default_rng(0)
    documents = [
        [rng.integers(0, 300, n).tolist() for n in rng.integers(0, 9, m)] for m in (2, 1, 3)
    ]
    theirs = indexed_dataset.IndexedDataset(str(write(tmp_path / "d", documents)))
    flat = [ids for document in documents for ids in document]
    assert len(theirs) == len(flat)
    assert theirs.document_indices.tolist() == [0, 2, 3, 6]
    for i, ids in enumerate(flat):
        assert theirs[i].tolist() == ids and theirs[i].dtype == np.uint16


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
def test_we_read_megatrons(tmp_path: Path, indexed_dataset: object, dtype: type) -> None:
    torch = pytest.importorskip("torch")
    builder = indexed_dataset.IndexedDatasetBuilder(str(tmp_path / "t.bin"), dtype=dtype)
    for document in EXAMPLE:
        for ids in document:
            builder.add_item(torch.tensor(ids, dtype=torch.int64))
        builder.end_document()
    builder.finalize(str(tmp_path / "t.idx"))
    write(tmp_path / "d", dtype=dtype)
    for suffix in ("bin", "idx"):
        assert (tmp_path / f"t.{suffix}").read_bytes() == (tmp_path / f"d.{suffix}").read_bytes()
    assert DocumentStore(tmp_path / "t").document(1).tolist() == [6, 7, 8, 9, 10, 11]


def test_a_changed_sidecar_is_told(tmp_path: Path) -> None:
    prefix = write(tmp_path / "d")
    file = tmp_path / "d.json"
    sidecar = json.loads(file.read_text())
    file.write_text(json.dumps(sidecar | {"source": "elsewhere"}))
    with pytest.raises(DataError, match=r"d.json: differs from its checksum, so it was changed"):
        DocumentStore(prefix)
    del sidecar["checksum"]  # as an older db1 wrote it
    file.write_text(json.dumps(sidecar))
    assert DocumentStore(prefix).num_documents == 3
