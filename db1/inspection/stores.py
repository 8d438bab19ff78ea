"""Folders of data: which kind of store lies there, whether it is whole, and what it holds."""

from __future__ import annotations

from pathlib import Path

from db1.errors import DataError
from db1.inspection.episode_report import describe_episodes
from db1.inspection.findings import ERROR, Finding
from db1.inspection.store_report import Report, StoreReport, histogram
from db1.json_shape import parse_json_file
from db1.store.documents import DocumentStore
from db1.store.episode_layout import StoreHeader
from db1.store.pair_layout import PairHeader
from db1.store.pair_statistics import pair_statistics
from db1.store.pairs import PairStore
from db1.tokens.text import FILE_NAME, TextTokenizer

HEADER = "header.json"
PARTS = ("train", "heldout")
TEXTS = "text"
_MAX_DEPTH = 3
_CHUNK = 1 << 22


def kind_of(path: Path) -> str | None:
    """`episodes`, `pairs` or `text`; None where no store lies."""
    header = path / HEADER
    if header.is_file():
        try:
            content = parse_json_file(header)
        except (OSError, ValueError) as error:
            raise DataError(
                f"{header}: unreadable header ({error}); make the store again"
            ) from None
        kinds = {StoreHeader.FORMAT: "episodes", PairHeader.FORMAT: "pairs"}
        found = content.get("format") if isinstance(content, dict) else None
        if not isinstance(found, str) or found not in kinds:
            raise DataError(f"{header}: format {found!r}, expected one of {sorted(kinds)}")
        return kinds[found]
    return TEXTS if any((path / f"{part}.idx").is_file() for part in PARTS) else None


def find_stores(path: Path) -> list[Path]:
    """The store in a folder, or all stores up to three levels below it.

    Raises:
        DataError: No folder, or no store in it.
    """
    if not path.is_dir():
        raise DataError(f"{path}: no such file or folder")
    if kind_of(path) is not None:
        return [path]
    names = (HEADER, *(f"{part}.idx" for part in PARTS))
    found = {
        file.parent
        for depth in range(1, _MAX_DEPTH + 1)
        for name in names
        for file in path.glob("/".join(["*"] * depth) + f"/{name}")
    }
    if not found:
        raise DataError(
            f"{path}: neither {HEADER} (episodes, images with texts) nor train.idx (text) is here "
            "or below; give the folder of a store, or of several"
        )
    return sorted(found)


def describe_store(
    path: Path, *, verify: bool = True, with_environment: bool = True, report: Report
) -> StoreReport:
    """Checks and describes one store.

    Args:
        path: Its folder.
        verify: Read every byte and compare it with the checksums.
        with_environment: Compare an episode store with the suite's environment, which builds it.
        report: Told of the progress.

    Raises:
        DataError: A broken store.
    """
    kind = kind_of(path)
    if kind == "episodes":
        return describe_episodes(
            path, verify=verify, with_environment=with_environment, report=report
        )
    if kind == "pairs":
        return _pairs(path, verify, report)
    if kind == TEXTS:
        return _texts(path, verify, report)
    raise DataError(f"{path}: neither {HEADER} nor train.idx is here")


def _texts(path: Path, verify: bool, report: Report) -> StoreReport:
    tokenizer = TextTokenizer.load(path) if (path / FILE_NAME).is_file() else None
    fingerprint = None if tokenizer is None else tokenizer.fingerprint
    parts, findings, drawn = {}, [], []
    for part in PARTS:
        if not (path / f"{part}.idx").is_file():
            continue
        store = DocumentStore(path / part, tokenizer_fingerprint=fingerprint)
        if verify:
            store.verify(lambda done, total: report(f"{path}: checksums", done, total))
            findings += _check_ids(store, tokenizer, report)
        parts[part] = {
            "documents": store.num_documents,
            "tokens": store.num_tokens,
            "dtype": store.dtype.name,
            "num_bytes": store.num_tokens * store.dtype.itemsize,
            "source": store.sidecar.get("source"),
        }
        drawn.append(histogram(f"tokens of a document, {part}", store.sizes))
    return StoreReport(
        path=path,
        kind=TEXTS,
        checked=verify,
        summary={
            "entries": sum(part["documents"] for part in parts.values()),
            "items": sum(part["tokens"] for part in parts.values()),
            "num_bytes": sum(part["num_bytes"] for part in parts.values()),
        },
        facts={"tokenizer": fingerprint, "tokenizer_size": tokenizer.size if tokenizer else None},
        fields=parts,
        histograms=tuple(h for h in drawn if h is not None),
        findings=tuple(findings),
    )


def _check_ids(
    store: DocumentStore, tokenizer: TextTokenizer | None, report: Report
) -> list[Finding]:
    """Documents of other programs have no checksums: every id must be one of the tokenizer's."""
    largest = -1
    for first in range(0, store.num_tokens, _CHUNK):
        last = min(first + _CHUNK, store.num_tokens)
        ids = store.read_tokens(first, last)
        largest = max(largest, int(ids.max()))
        report(f"{store.prefix}: ids", last, store.num_tokens)
    if tokenizer is None or largest < tokenizer.size:
        return []
    return [
        Finding(
            severity=ERROR,
            code="text-ids",
            what=f"id {largest}, the tokenizer has {tokenizer.size}",
            where=str(store.prefix),
            fix="the file is damaged; tokenise the text again",
        )
    ]


def _pairs(path: Path, verify: bool, report: Report) -> StoreReport:
    store = PairStore(path)
    if verify:
        store.verify(lambda done, total: report(f"{path}: checksums", done, total))
    header, facts = store.header, pair_statistics(store).to_dict()
    facts |= {"name": header.name, "split": header.split, "origin": dict(header.origin)}
    facts["pair_kind"] = facts.pop("kind")
    return StoreReport(
        path=path,
        kind="pairs",
        checked=verify,
        summary={
            "entries": store.num_pairs,
            "items": store.num_images,
            "num_bytes": store.num_bytes,
        },
        facts=facts,
    )
