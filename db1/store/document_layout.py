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

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from db1.errors import DataError
from db1.json_shape import parse_json_file, unseal
from db1.store.header import changed

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
HEAD = struct.Struct("<9sQBQQ")


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


def code_of(dtype: np.dtype, where: str) -> int:
    for code, name in DTYPES.items():
        if dtype == np.dtype(name) and dtype.kind in "iu":
            return code
    known = [name for name in DTYPES.values() if np.dtype(name).kind in "iu"]
    raise DataError(f"{where}: dtype {dtype}, expected one of {known}")


def starts_of(lengths: np.ndarray, itemsize: int) -> np.ndarray:
    """First byte of each sequence, int64, same shape as `lengths`."""
    sizes = lengths.astype(np.int64) * itemsize
    return np.cumsum(sizes) - sizes


def read_head(file: Path, head: bytes) -> tuple[int, int, int]:
    if len(head) < HEAD.size or head[: len(MAGIC)] != MAGIC:
        raise DataError(
            f"{file}: starts with {head[:9]!r}, expected {MAGIC!r}: not a document index"
        )
    _, version, code, num_sequences, num_entries = HEAD.unpack(head)
    if version != IDX_VERSION:
        raise DataError(f"{file}: index version {version}, expected {IDX_VERSION}")
    if code not in DTYPES or np.dtype(DTYPES[code]).kind not in "iu":
        raise DataError(f"{file}: dtype code {code} ({DTYPES.get(code)}), expected integers")
    return code, num_sequences, num_entries


def read_sidecar(file: Path, fingerprint: str | None) -> dict[str, Any]:
    if not file.exists() and fingerprint is None:
        return {}
    try:
        sidecar = parse_json_file(file)
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
    sidecar, is_whole = unseal(sidecar)
    if fingerprint is not None and sidecar.get("tokenizer") != fingerprint:
        raise DataError(
            f"{file}: the documents were made with tokenizer {sidecar.get('tokenizer')}, this run "
            f"uses {fingerprint}; use that tokenizer, or tokenise the text again"
        )
    if not is_whole:
        raise changed(file)
    return sidecar
