"""Tokenised documents on disk, in the indexed format of Megatron-LM.

A prefix names three files: `prefix.bin` (token ids one after the other), `prefix.idx` (where each
document lies) and the sidecar `prefix.json` (which tokenizer made the ids). All little-endian:

    prefix.idx   b"MMIDIDX\\0\\0" | u64 version 1 | u8 dtype code | u64 S sequences | u64 entries
                 int32 lengths (S) | int64 byte pointers (S) | int64 document indices (entries)
                 | int8 modes (S), multimodal data only

A document is one or more sequences; document i owns the sequences
[document_indices[i], document_indices[i + 1]), so there is one entry more than documents.

Example: documents with sequences of 3 and 2, of 2 and 4, and of 0 tokens in uint16 give lengths
[3, 2, 2, 4, 0], pointers [0, 6, 10, 14, 22] and document indices [0, 2, 4, 5].

Source: Megatron-LM, megatron/core/datasets/indexed_dataset.py (the format, no code).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from db1.errors import DataError
from db1.json_shape import check_shape, parse_json

MAGIC = b"MMIDIDX\0\0"
IDX_VERSION = 1
DTYPES = {
    1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float64", 7: "float32",
    8: "uint16",
}  # fmt: skip
"""Type codes of the format; db1 stores and reads the integer ones."""

FORMAT = "db1-documents"
VERSION = 1
BLOCK_BYTES = 1 << 20
"""Bytes of the ids that one checksum is of."""
_STRETCH, _NUM_STRETCHES = 4_096, 64
_HEAD = struct.Struct("<9sQBQQ")


def token_dtype(size: int) -> np.dtype:
    """Dtype for ids in [0, size): uint16 while they fit, else int32."""
    return np.dtype(np.uint16 if size <= 65_536 else np.int32)


class BlockChecksums:
    """CRC-32 of a file's blocks, while it is written.

    Example: blocks of 4 bytes of `abcdef` have the checksums of `abcd` and `ef`.
    """

    def __init__(self, block_bytes: int = BLOCK_BYTES) -> None:
        self._block_bytes = block_bytes
        self._done: list[int] = []
        self._crc, self._filled = 0, 0

    def update(self, content: bytes) -> None:
        """Goes on with the bytes that come next."""
        view = memoryview(content)
        while len(view):
            part = view[: self._block_bytes - self._filled]
            self._crc = zlib.crc32(part, self._crc)
            self._filled += len(part)
            view = view[len(part) :]
            if self._filled == self._block_bytes:
                self._done.append(self._crc)
                self._crc, self._filled = 0, 0

    def to_dict(self) -> dict[str, Any]:
        """Size of the blocks and the checksum of each, that of the last, shorter one too."""
        rest = [self._crc] if self._filled else []
        return {"block_bytes": self._block_bytes, "bin": [*self._done, *rest]}


class DocumentWriter:
    """Writes documents; the three files appear together when it closes without an error.

    Args:
        prefix: Path without suffix.
        dtype: Integer dtype of the stored ids, one of the format's.
        tokenizer: Fingerprint of the tokenizer that made the ids.
        text_size: Number of ids of that tokenizer; every id must be below.
        source: Where the text came from, JSON-able.

    Raises:
        DataError: The dtype has no integer code in the format, or the files cannot be written.
    """

    def __init__(
        self,
        prefix: str | os.PathLike[str],
        dtype: np.dtype | type | str,
        *,
        tokenizer: str,
        text_size: int,
        source: Any = None,
    ) -> None:
        self.prefix = Path(prefix)
        self.dtype = np.dtype(dtype)
        self._code = _code_of(self.dtype, str(self.prefix))
        self._limit = min(text_size, int(np.iinfo(self.dtype).max) + 1)
        self._sidecar = {
            "format": FORMAT,
            "version": VERSION,
            "tokenizer": tokenizer,
            "text_size": text_size,
            "source": source,
        }
        self._lengths: list[int] = []
        self._document_indices = [0]
        self._checksums = BlockChecksums()
        try:
            self.prefix.parent.mkdir(parents=True, exist_ok=True)
            self._bin: BinaryIO | None = open(self._temporary("bin"), "wb")  # noqa: SIM115
        except OSError as error:
            raise self._failed(error) from error

    @property
    def num_documents(self) -> int:
        """Number of documents appended."""
        return len(self._document_indices) - 1

    @property
    def num_tokens(self) -> int:
        """Number of ids appended."""
        return sum(self._lengths)

    def append(self, *sequences: np.ndarray) -> None:
        """Adds one document.

        Args:
            sequences: The document's sequences (normally one), integer ids (num_tokens,) each.

        Raises:
            DataError: No integers, an id outside [0, text_size), or a full disk.
        """
        arrays = [self._checked(np.asarray(sequence)) for sequence in sequences]
        if self._bin is None:
            raise DataError(f"{self.prefix}: the writer is closed")
        try:
            for array in arrays:
                content = array.tobytes()
                self._bin.write(content)
                self._checksums.update(content)
        except OSError as error:
            raise self._failed(error) from error
        self._lengths.extend(len(array) for array in arrays)
        self._document_indices.append(len(self._lengths))

    def close(self) -> None:
        """Writes the index and the sidecar and gives all three files their names."""
        if self._bin is None:
            return
        try:
            _sync_and_close(self._bin)
            self._bin = None
            index = self._index()
            with open(self._temporary("idx"), "wb") as file:
                file.write(index)
                _sync_and_close(file)
            checksums = self._checksums.to_dict() | {"idx": zlib.crc32(index)}
            sidecar = json.dumps(self._sidecar | {"checksums": checksums}, indent=2) + "\n"
            self._temporary("json").write_text(sidecar, encoding="utf-8")
            for suffix in ("bin", "json", "idx"):
                os.replace(self._temporary(suffix), f"{self.prefix}.{suffix}")
        except OSError as error:
            raise self._failed(error) from error

    def discard(self) -> None:
        """Gives up: leaves no file behind."""
        if self._bin is not None:
            with contextlib.suppress(OSError):  # what the buffer holds may not fit any more
                self._bin.close()
            self._bin = None
        for suffix in ("bin", "json", "idx"):
            self._temporary(suffix).unlink(missing_ok=True)

    def __enter__(self) -> DocumentWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    def _checked(self, ids: np.ndarray) -> np.ndarray:
        where = f"{self.prefix} document {self.num_documents}"
        if ids.ndim != 1 or (ids.size and ids.dtype.kind not in "iu"):
            raise DataError(f"{where}: got {ids.dtype} {ids.shape}, expected integers (tokens,)")
        if ids.size and (ids.min() < 0 or ids.max() >= self._limit):
            bad = ids[(ids < 0) | (ids >= self._limit)][0]
            raise DataError(f"{where}: id {bad}, expected 0..{self._limit - 1}")
        return ids.astype(self.dtype.newbyteorder("<"))

    def _index(self) -> bytes:
        lengths = np.array(self._lengths, dtype="<i4")
        indices = np.array(self._document_indices, dtype="<i8")
        head = _HEAD.pack(MAGIC, IDX_VERSION, self._code, len(lengths), len(indices))
        pointers = _starts(lengths, self.dtype.itemsize).astype("<i8")
        return head + lengths.tobytes() + pointers.tobytes() + indices.tobytes()

    def _temporary(self, suffix: str) -> Path:
        return Path(f"{self.prefix}.{suffix}.tmp{os.getpid()}")

    def _failed(self, error: OSError) -> DataError:
        self.discard()
        return DataError(f"{self.prefix}: cannot write documents: {error}; nothing was kept")


class DocumentStore:
    """Reads documents through memory maps; pickles as its prefix.

    Args:
        prefix: Path without suffix.
        tokenizer_fingerprint: When given, the sidecar must name this tokenizer.

    Attributes:
        sizes: int64 (num_documents,), tokens of each document.
        sidecar: Contents of prefix.json; empty where there is none (data made elsewhere).
        modes: int8 (num_sequences,) of multimodal data, else None.

    Raises:
        DataError: Missing, truncated or foreign files, or another tokenizer.
    """

    def __init__(
        self, prefix: str | os.PathLike[str], tokenizer_fingerprint: str | None = None
    ) -> None:
        self.prefix = Path(prefix)
        self._fingerprint = tokenizer_fingerprint
        self.sidecar = _read_sidecar(Path(f"{self.prefix}.json"), tokenizer_fingerprint)
        self._read_index(Path(f"{self.prefix}.idx"))
        self._tokens = self._map_tokens(Path(f"{self.prefix}.bin"))
        self._checksums = self._read_checksums()

    @property
    def num_documents(self) -> int:
        """Number of documents."""
        return len(self.sizes)

    @property
    def num_tokens(self) -> int:
        """Number of ids in all documents."""
        return int(self._document_starts[-1])

    @property
    def dtype(self) -> np.dtype:
        """Stored dtype of the ids."""
        return self._dtype

    def document(self, i: int) -> np.ndarray:
        """Copies document `i`, ids of the stored dtype (sizes[i],)."""
        return self.read(i, 0)

    def read(self, document: int, start: int, length: int | None = None) -> np.ndarray:
        """Copies ids (length,) of one document from `start` on (to its end by default).

        Raises:
            DataError: No such document or ids.
        """
        if not 0 <= document < self.num_documents:
            raise DataError(
                f"{self.prefix}: document {document}, expected 0..{self.num_documents - 1}"
            )
        size = int(self.sizes[document])
        stop = size if length is None else start + length
        if not 0 <= start <= stop <= size:
            raise DataError(
                f"{self.prefix} document {document}: ids [{start}, {stop}), expected within "
                f"[0, {size})"
            )
        first = int(self._document_starts[document])
        return np.array(self._tokens[first + start : first + stop], dtype=self._dtype)

    def read_tokens(self, start: int, stop: int) -> np.ndarray:
        """Copies ids [start, stop) of all documents laid end to end, (stop - start,), as stored.

        Raises:
            DataError: There are no such ids.
        """
        if not 0 <= start <= stop <= self.num_tokens:
            raise DataError(
                f"{self.prefix}: ids [{start}, {stop}), expected within [0, {self.num_tokens})"
            )
        return np.array(np.asarray(self._tokens)[start:stop], dtype=self._dtype)

    @property
    def num_blocks(self) -> int:
        """Number of blocks with a checksum; 0 in documents that were made without."""
        return len(self._checksums["bin"]) if self._checksums else 0

    def verify_block(self, block: int) -> None:
        """Reads one block of the ids and checks it against its checksum.

        Raises:
            DataError: It is not what was written.
        """
        assert self._checksums is not None
        size, expected = self._checksums["block_bytes"], self._checksums["bin"][block]
        content = self._tokens.view(np.uint8)[block * size : (block + 1) * size]
        if zlib.crc32(content) != expected:
            raise DataError(
                f"{self.prefix}.bin: bytes {block * size} to {block * size + len(content)} differ "
                "from their checksum; the documents are damaged, tokenise the text again"
            )

    def verify(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Reads everything and checks it against the checksums, where there are any.

        Args:
            progress: Called with (blocks done, all blocks).

        Raises:
            DataError: What is damaged first.
        """
        if self._checksums is None:
            return
        index = Path(f"{self.prefix}.idx")
        if zlib.crc32(index.read_bytes()) != self._checksums["idx"]:
            raise DataError(
                f"{index}: differs from its checksum; the documents are damaged, tokenise the text "
                "again"
            )
        for block in range(self.num_blocks):
            self.verify_block(block)
            if progress is not None:
                progress(block + 1, self.num_blocks)

    def digest(self) -> str:
        """SHA-256 (hex) of the index, the tokenizer and the checksums.

        Documents without checksums tell by their index, and by stretches of their ids.
        """
        found = hashlib.sha256(Path(f"{self.prefix}.idx").read_bytes())
        found.update(str(self.sidecar.get("tokenizer")).encode())
        if self._checksums is not None:
            found.update(json.dumps(self._checksums["bin"]).encode())
            return found.hexdigest()
        for start in np.linspace(0, max(0, self.num_tokens - _STRETCH), _NUM_STRETCHES).astype(int):
            stop = min(self.num_tokens, int(start) + _STRETCH)
            found.update(self.read_tokens(int(start), stop).tobytes())
        return found.hexdigest()

    def sequence_lengths(self, document: int) -> np.ndarray:
        """Tokens of each sequence of a document, int32 (num_sequences,)."""
        first, last = self._document_indices[document], self._document_indices[document + 1]
        return np.array(self._lengths[first:last], dtype=np.int32)

    def __getstate__(self) -> dict[str, Any]:
        return {"prefix": self.prefix, "tokenizer_fingerprint": self._fingerprint}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)

    def _read_index(self, file: Path) -> None:
        try:
            content = np.memmap(file, dtype=np.uint8, mode="r")
        except (OSError, ValueError) as error:
            raise DataError(f"{file}: not a readable document index ({error})") from None
        code, num_sequences, num_entries = _read_head(file, content[: _HEAD.size].tobytes())
        self._dtype = np.dtype(DTYPES[code])
        plain = _HEAD.size + num_sequences * 12 + num_entries * 8
        if len(content) not in (plain, plain + num_sequences) or num_entries < 1:
            raise DataError(
                f"{file}: {len(content)} bytes, expected {plain} for {num_sequences} sequences and "
                f"{num_entries} document entries; the file is truncated or of another format"
            )
        ends = np.cumsum([_HEAD.size, num_sequences * 4, num_sequences * 8, num_entries * 8])
        self._lengths = content[ends[0] : ends[1]].view("<i4")
        pointers = content[ends[1] : ends[2]].view("<i8")
        self._document_indices = content[ends[2] : ends[3]].view("<i8")
        is_multimodal = len(content) > plain
        self.modes = np.array(content[ends[3] :].view("i1")) if is_multimodal else None
        self._check_index(file, pointers, num_sequences)

    def _check_index(self, file: Path, pointers: np.ndarray, num_sequences: int) -> None:
        indices = self._document_indices
        if (
            (self._lengths < 0).any()
            or indices[0] != 0
            or indices[-1] != num_sequences
            or (indices[:-1] > indices[1:]).any()  # a difference may overflow
        ):
            raise DataError(f"{file}: lengths or document indices out of order; the file is broken")
        if (pointers != _starts(self._lengths, self._dtype.itemsize)).any():
            raise DataError(f"{file}: pointers do not follow the lengths; the file is broken")
        starts = np.concatenate([[0], np.cumsum(self._lengths, dtype=np.int64)])
        self._document_starts = starts[indices]
        self.sizes = np.diff(self._document_starts)

    def _read_checksums(self) -> dict[str, Any] | None:
        """The sidecar's checksums; None where it has none.

        Raises:
            DataError: They are not those of a file of this size.
        """
        checksums = self.sidecar.get("checksums")
        if checksums is None:
            return None
        where = f"{self.prefix}.json"
        check_shape(checksums, {"block_bytes": int, "bin": [int], "idx": int}, where)
        size, num_bytes = checksums["block_bytes"], self.num_tokens * self._dtype.itemsize
        if size < 1 or len(checksums["bin"]) != -(-num_bytes // size):
            raise DataError(
                f"{where}: checksums of {len(checksums['bin'])} blocks of {size} bytes, the "
                f"documents have {num_bytes} bytes; tokenise the text again"
            )
        return dict(checksums)

    def _map_tokens(self, file: Path) -> np.ndarray:
        expected = self.num_tokens * self._dtype.itemsize
        try:
            found = file.stat().st_size
        except OSError as error:
            raise DataError(f"{file}: cannot read the documents ({error})") from None
        if found != expected:
            raise DataError(
                f"{file}: {found} bytes, its index expects {expected}; the file is truncated or "
                "belongs to another index"
            )
        if expected == 0:
            return np.empty(0, dtype=self._dtype)
        return np.memmap(file, dtype=self._dtype.newbyteorder("<"), mode="r")


def _code_of(dtype: np.dtype, where: str) -> int:
    for code, name in DTYPES.items():
        if dtype == np.dtype(name) and dtype.kind in "iu":
            return code
    known = [name for name in DTYPES.values() if np.dtype(name).kind in "iu"]
    raise DataError(f"{where}: dtype {dtype}, expected one of {known}")


def _starts(lengths: np.ndarray, itemsize: int) -> np.ndarray:
    """First byte of each sequence, int64, same shape as `lengths`."""
    sizes = lengths.astype(np.int64) * itemsize
    return np.cumsum(sizes) - sizes


def _read_head(file: Path, head: bytes) -> tuple[int, int, int]:
    if len(head) < _HEAD.size or head[: len(MAGIC)] != MAGIC:
        raise DataError(
            f"{file}: starts with {head[:9]!r}, expected {MAGIC!r}: not a document index"
        )
    _, version, code, num_sequences, num_entries = _HEAD.unpack(head)
    if version != IDX_VERSION:
        raise DataError(f"{file}: index version {version}, expected {IDX_VERSION}")
    if code not in DTYPES or np.dtype(DTYPES[code]).kind not in "iu":
        raise DataError(f"{file}: dtype code {code} ({DTYPES.get(code)}), expected integers")
    return code, num_sequences, num_entries


def _read_sidecar(file: Path, fingerprint: str | None) -> dict[str, Any]:
    if not file.exists() and fingerprint is None:
        return {}
    try:
        sidecar = parse_json(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        if file.with_suffix(".idx").exists():
            raise DataError(
                f"{file}: no readable sidecar ({error}), so the tokenizer of these documents is "
                "unknown; tokenise the text again"
            ) from None
        raise DataError(
            f"{file}: no such file: no documents are in this folder; a relative folder counts "
            "from the present one: run the command where the training was started, or name the "
            "folder of the data (--data)"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            f"{file}: no readable sidecar ({error}), so the tokenizer of these documents is "
            "unknown; tokenise the text again"
        ) from None
    if not isinstance(sidecar, dict) or sidecar.get("format") != FORMAT:
        raise DataError(f"{file}: not a sidecar of documents (format {FORMAT!r} expected)")
    if sidecar.get("version") != VERSION:
        raise DataError(f"{file}: version {sidecar.get('version')!r}, expected {VERSION}")
    if fingerprint is not None and sidecar.get("tokenizer") != fingerprint:
        raise DataError(
            f"{file}: the documents were made with tokenizer {sidecar.get('tokenizer')}, this run "
            f"uses {fingerprint}; use that tokenizer, or tokenise the text again"
        )
    return sidecar


def _sync_and_close(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
    file.close()
