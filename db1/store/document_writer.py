"""Writer of tokenised documents; the files are described in `document_layout.py`."""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from db1.errors import DataError
from db1.json_shape import seal
from db1.store.document_layout import (
    FORMAT,
    HEAD,
    IDX_VERSION,
    MAGIC,
    VERSION,
    BlockChecksums,
    code_of,
    starts_of,
)


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
        self._code = code_of(self.dtype, str(self.prefix))
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
            sealed = seal(self._sidecar | {"checksums": checksums})
            sidecar = json.dumps(sealed, indent=2) + "\n"
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
        head = HEAD.pack(MAGIC, IDX_VERSION, self._code, len(lengths), len(indices))
        pointers = starts_of(lengths, self.dtype.itemsize).astype("<i8")
        return head + lengths.tobytes() + pointers.tobytes() + indices.tobytes()

    def _temporary(self, suffix: str) -> Path:
        return Path(f"{self.prefix}.{suffix}.tmp{os.getpid()}")

    def _failed(self, error: OSError) -> DataError:
        self.discard()
        return DataError(f"{self.prefix}: cannot write documents: {error}; nothing was kept")


def _sync_and_close(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
    file.close()
