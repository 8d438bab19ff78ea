"""Reader of tokenised documents; the files are described in `document_layout.py`."""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from db1.errors import DataError
from db1.json_shape import check_shape
from db1.store.document_layout import DTYPES, HEAD, read_head, read_sidecar, starts_of

_STRETCH, _NUM_STRETCHES = 4_096, 64


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
        self.sidecar = read_sidecar(Path(f"{self.prefix}.json"), tokenizer_fingerprint)
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
        code, num_sequences, num_entries = read_head(file, content[: HEAD.size].tobytes())
        self._dtype = np.dtype(DTYPES[code])
        plain = HEAD.size + num_sequences * 12 + num_entries * 8
        if len(content) not in (plain, plain + num_sequences) or num_entries < 1:
            raise DataError(
                f"{file}: {len(content)} bytes, expected {plain} for {num_sequences} sequences and "
                f"{num_entries} document entries; the file is truncated or of another format"
            )
        ends = np.cumsum([HEAD.size, num_sequences * 4, num_sequences * 8, num_entries * 8])
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
        if (pointers != starts_of(self._lengths, self._dtype.itemsize)).any():
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
