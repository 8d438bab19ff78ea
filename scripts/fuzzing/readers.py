"""Damage to files of every kind that Python reads in milliseconds: no command, no new process.

What a reader says to a damaged file is a Db1Error or nothing; stores are also held against their
checksums, so that a damage that they do not notice is a silent change. A warning is no silence: a
store that a crash cut off is read up to there, and says so.
"""

from __future__ import annotations

import hashlib
import logging
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from . import sections
from .sections import Progress, Tally
from .trial import HANG, Outcome

LIMIT = 30
"""Seconds after which a reader counts as hung."""


class _Hung(BaseException):
    """Raised by the alarm."""


def files(folder: Path, count: int, seed: int, tick: Progress) -> Tally:
    """Flips, cuts and lost pieces in bytes, odd values in JSON, kind by kind."""
    rng, tally = random.Random(seed), Tally("files", seed)
    readers = list(_readers(folder))
    signal.signal(signal.SIGALRM, _ring)
    warnings = _Warnings()
    logging.getLogger("db1").addHandler(warnings)
    logging.getLogger("db1").propagate = False
    for number, (kind, read, paths, is_own) in enumerate(readers):
        whole = read()
        for _ in range(count * (number + 1) // len(readers) - count * number // len(readers)):
            path = rng.choice(paths)
            content = path.read_bytes()
            damaged, how = _damage(rng, path, content)
            path.write_bytes(damaged)
            try:
                outcome, found = _attempt(read)
            finally:
                path.write_bytes(content)
            unsaid = outcome.status == 0 and not warnings.take()
            silent = is_own and unsaid and found != whole
            tally.add(outcome, f"{kind}: {path.relative_to(folder)} {how}", silent=silent)
            tick(1)
    return tally


class _Warnings(logging.Handler):
    """Counts what was said in the log."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self._count += 1

    def take(self) -> int:
        """Their number since the last time."""
        count, self._count = self._count, 0
        return count


def _ring(number: int, frame: Any) -> None:
    raise _Hung


def _attempt(read: Callable[[], Any]) -> tuple[Outcome, Any]:
    """What a reader says, as a command would."""
    import traceback

    from db1.errors import Db1Error

    status, err, found = 0, "", None
    signal.alarm(LIMIT)
    try:
        found = read()
    except Db1Error as error:
        status, err = 2, f"db1: error: {' '.join(str(error).split())}\n"
    except _Hung:
        status = HANG
    except Exception:
        status, err = 1, traceback.format_exc()
    finally:
        signal.alarm(0)
    return Outcome(status=status, out="", err=err, seconds=0.0), found


def _damage(rng: random.Random, path: Path, content: bytes) -> tuple[bytes, str]:
    if path.suffix in (".json", ".jsonl") and rng.random() < 0.5:
        text, how = sections.changed_json(rng, content.decode())
        return text.encode(), how
    return sections.damaged(rng, content)


def _readers(folder: Path) -> Iterator[tuple[str, Callable[[], Any], list[Path], bool]]:
    """Kind, reader, its files, and whether db1 wrote them."""
    from db1.config import load_yaml
    from db1.store.documents import DocumentStore
    from db1.store.episodes import EpisodeStore
    from db1.store.pairs import PairStore
    from db1.tokens.text import TextTokenizer
    from db1.training.launch.hostfile import read_hostfile

    def below(place: str, pattern: str = "*") -> list[Path]:
        found = [folder / place, *(folder / place).rglob(pattern)]
        return sorted(p for p in found if p.is_file() and p.stat().st_size)

    def episodes() -> str:
        store = EpisodeStore(folder / "data/tsp/uniform20")
        store.verify()
        return _digest(_arrays(store.read(n)) for n in range(store.num_episodes))

    def documents() -> str:
        store = DocumentStore(folder / "data/text/words/train")
        store.verify()
        return _digest(store.document(n).tobytes() for n in range(store.num_documents))

    def pairs() -> str:
        store = PairStore(folder / "pairs/train")
        store.verify()
        parts = (repr(store.pair(n)).encode() + store.image_of(n) for n in range(len(store)))
        return _digest(parts)

    def tokenizer() -> str:
        return str(TextTokenizer.load(folder / "tokenizer.json").encode("the old cat"))

    yield "episodes", episodes, below("data/tsp"), True
    yield "documents", documents, below("data/text/words", "train.*"), True
    yield "pairs", pairs, below("pairs/train"), True
    yield "tokenizer", tokenizer, below("tokenizer.json"), False
    experiment = partial(load_yaml, folder / "tiny.yaml", is_own=True)
    yield "configuration", experiment, below("tiny.yaml"), False
    yield "hostfile", lambda: read_hostfile(folder / "hosts"), below("hosts"), False
    for kind, source, options in (
        ("d4rl", "d4rl.hdf5", {"task": "toy/a"}),
        ("jat", "jat.parquet", {"task": "toy/b"}),
        ("minari", "minari", {"task": "toy/c"}),
        ("coco", "coco", {}),
        ("text", "words.jsonl", {"text_size": 300}),
    ):
        yield kind, _importer(folder, kind, source, options), below(source), False


def _importer(folder: Path, kind: str, source: str, options: dict[str, Any]) -> Callable[[], str]:
    from db1.importers import IMPORTERS, ImportContext

    def run() -> str:
        out = folder / "imported"
        shutil.rmtree(out, ignore_errors=True)
        entry = IMPORTERS[kind]
        entry.run(str(folder / source), out, entry.options(**options), ImportContext())
        return ""

    return run


def _arrays(episode: Any) -> bytes:
    parts = [episode.actions, episode.rewards, *episode.observations.values()]
    return b"".join(part.tobytes() for part in parts) + repr(episode.metadata).encode()


def _digest(parts: Iterator[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
