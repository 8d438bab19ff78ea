"""The Java programs of the COCO caption evaluation, out of the package `pycocoevalcap`.

    tokenize_ptb   Stanford's PTB tokenizer: the tokens that published caption scores are of
    score_meteor   METEOR 1.5
    score_spice    SPICE 1.0, where the user has put Stanford CoreNLP 3.6.0 (two jars that neither
                   the package nor db1 brings) into pycocoevalcap/spice/lib

Every process gets its input through a pipe or a temporary folder, has a time limit, and is gone
when the function returns; nothing is written into the package.

Source: Chen et al. 2015, "Microsoft COCO captions", section 3; Denkowski and Lavie 2014 (METEOR);
Anderson et al. 2016 (SPICE).
"""

from __future__ import annotations

import importlib.util
import json
import math
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from db1.errors import DataError
from db1.files import resolved

PACKAGE = "pycocoevalcap"
EXTRA = "caption-metrics"
TIMEOUT = 1_800.0
"""Seconds that one program may take."""

_PTB_JAR = "tokenizer/stanford-corenlp-3.4.1.jar"
_METEOR_JAR = "meteor/meteor-1.5.jar"
_SPICE_JAR = "spice/spice-1.0.jar"
_SPICE_MODELS = (
    "spice/lib/stanford-corenlp-3.6.0.jar",
    "spice/lib/stanford-corenlp-3.6.0-models.jar",
)
# As in the original: the tokenizer's own lower-cased -lrb- and its like stay.
_PUNCTUATION = frozenset(
    ["''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", ".", "?", "!", ",", ":", "-", "--",
     "...", ";"]
)  # fmt: skip
_SEPARATOR = "|||"


@dataclass(frozen=True, kw_only=True)
class JavaTools:
    """Paths of Java and the jars.

    Args:
        java: The program.
        folder: Of the package.
    """

    java: str
    folder: Path

    def spice_missing(self) -> str | None:
        """Reason why SPICE cannot run; None when it can."""
        missing = [name for name in (_SPICE_JAR, *_SPICE_MODELS) if not self.jar(name).is_file()]
        if not missing:
            return None
        return (
            f"SPICE needs {', '.join(Path(name).name for name in missing)} of Stanford CoreNLP "
            f"3.6.0 in {self.folder / 'spice/lib'}"
        )

    def jar(self, name: str) -> Path:
        """Path of a jar below the package."""
        return self.folder / name


def find_java_tools() -> JavaTools | str:
    """Java and the jars, or why they are not there."""
    package = importlib.util.find_spec(PACKAGE)
    places = list(package.submodule_search_locations or ()) if package is not None else []
    if not places:
        return f'the package {PACKAGE!r} is not installed; run: pip install "db1[{EXTRA}]"'
    java = shutil.which("java")
    if java is None:
        return "Java is not installed (Debian: apt-get install default-jre-headless)"
    tools = JavaTools(java=java, folder=resolved(places[0]))
    missing = [name for name in (_PTB_JAR, _METEOR_JAR) if not tools.jar(name).is_file()]
    return f"{tools.folder} lacks {', '.join(missing)}" if missing else tools


def tokenize_ptb(
    tools: JavaTools, texts: Sequence[str], timeout: float = TIMEOUT
) -> list[list[str]]:
    """Tokens of each text as the COCO caption evaluation makes them.

    Raises:
        DataError: The tokenizer fails, or takes too long.
    """
    command = [
        tools.java, "-Dfile.encoding=UTF-8", "-cp", str(tools.jar(_PTB_JAR)),
        "edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase",
    ]  # fmt: skip
    content = "".join(f"{' '.join(text.split())}\n" for text in texts)
    output = _run(command, content, tools.folder, timeout, "the PTB tokenizer")
    lines = output.split("\n")[:-1]
    if len(lines) != len(texts):
        raise DataError(
            f"the PTB tokenizer returned {len(lines)} lines for {len(texts)} captions; a caption "
            "holds a character that it breaks lines at, use --tokenizer plain"
        )
    return [
        [word for word in line.split(" ") if word and word not in _PUNCTUATION] for line in lines
    ]


def score_meteor(
    tools: JavaTools,
    hypotheses: Sequence[Sequence[str]],
    references: Sequence[Sequence[Sequence[str]]],
    timeout: float = TIMEOUT,
) -> tuple[float, np.ndarray]:
    """METEOR of the whole set, and of each item, float64 (num_items,).

    Args:
        tools: Java and the jars.
        hypotheses: Tokens of the written caption of each item.
        references: Tokens of one or more reference captions of each item.
        timeout: Seconds.

    Raises:
        DataError: METEOR fails, or takes too long.
    """
    command = [tools.java, "-jar", "-Xmx2G", str(tools.jar(_METEOR_JAR)), "-", "-", "-stdio"]
    command += ["-l", "en", "-norm"]
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command, cwd=tools.folder / "meteor", stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=errors, encoding="utf-8",
        )  # fmt: skip
        clock = threading.Timer(timeout, process.kill)
        clock.start()
        try:
            statistics = [
                _ask(process, _score_line(h, r))
                for h, r in zip(hypotheses, references, strict=True)
            ]
            first = _ask(process, f" {_SEPARATOR} ".join(["EVAL", *statistics]))
            values = [first, *(_read(process) for _ in statistics)]
            scores = np.array([float(value) for value in values])
        except (OSError, ValueError):
            clock.cancel()
            process.kill()
            process.wait()
            raise _failed("METEOR", process.returncode, errors, timeout) from None
        finally:
            clock.cancel()
            _end(process)
    return float(scores[-1]), scores[:-1]


def score_spice(
    tools: JavaTools,
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    timeout: float = 4 * TIMEOUT,
) -> tuple[float, np.ndarray]:
    """SPICE of the whole set, and of each item, float64 (num_items,).

    Args:
        tools: Java and the jars; `spice_missing` must be None.
        hypotheses: The written caption of each item.
        references: One or more reference captions of each item.
        timeout: Seconds.

    Raises:
        DataError: SPICE fails, or takes too long.
    """
    items = [
        {"image_id": i, "test": hypothesis, "refs": list(item)}
        for i, (hypothesis, item) in enumerate(zip(hypotheses, references, strict=True))
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in.json").write_text(json.dumps(items), encoding="utf-8")
        (folder / "cache").mkdir()
        command = [
            tools.java, "-jar", "-Xmx8G", str(tools.jar(_SPICE_JAR)), str(folder / "in.json"),
            "-cache", str(folder / "cache"), "-out", str(folder / "out.json"), "-subset", "-silent",
        ]  # fmt: skip
        _run(command, "", tools.folder / "spice", timeout, "SPICE")
        output = (folder / "out.json").read_text(encoding="utf-8")
    return spice_scores(output, len(items))


def spice_scores(output: str, num_items: int) -> tuple[float, np.ndarray]:
    """Reads what SPICE writes: [{"image_id", "scores": {"All": {"f": ...}, ...}}, ...].

    Items without a score count as 0.

    Returns:
        The mean, and the score of each item, float64 (num_items,).

    Raises:
        DataError: It is no such file, or lacks items.
    """
    scores = np.full(num_items, math.nan)
    try:
        for entry in json.loads(output):
            value = entry["scores"]["All"]["f"]
            scores[int(entry["image_id"])] = math.nan if value is None else float(value)
            num_items -= 1
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise DataError(f"SPICE wrote something other than its scores ({error!r})") from None
    if num_items:
        raise DataError(f"SPICE wrote no score for {num_items} of {len(scores)} captions")
    scores = np.nan_to_num(scores)
    return float(scores.mean()), scores


def _score_line(hypothesis: Sequence[str], references: Sequence[Sequence[str]]) -> str:
    texts = [" ".join(words).replace(_SEPARATOR, "") for words in (*references, hypothesis)]
    return f" {_SEPARATOR} ".join(["SCORE", *texts])


def _ask(process: subprocess.Popen[str], line: str) -> str:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()
    return _read(process)


def _read(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise OSError("no answer")
    return line.strip()


def _end(process: subprocess.Popen[str]) -> None:
    """Closes the pipes and waits; kills what does not end by itself."""
    for pipe in (process.stdin, process.stdout):
        try:
            if pipe is not None:
                pipe.close()
        except OSError:
            pass
    try:
        process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _run(command: Sequence[str], content: str, folder: Path, timeout: float, what: str) -> str:
    with tempfile.TemporaryFile() as errors:
        try:
            outcome = subprocess.run(
                command, input=content, cwd=folder, stdout=subprocess.PIPE, stderr=errors,
                encoding="utf-8", timeout=timeout, check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired):
            raise _failed(what, None, errors, timeout) from None
        if outcome.returncode:
            raise _failed(what, outcome.returncode, errors, timeout)
    return outcome.stdout


def _failed(what: str, status: int | None, errors: IO[bytes], timeout: float) -> DataError:
    errors.seek(0)
    lines = [line for line in errors.read().decode("utf-8", "replace").splitlines() if line.strip()]
    said = lines[-1].strip() if lines else "it said nothing"
    return DataError(
        f"{what} failed (exit status {status}, limit {timeout:.0f} s): {said}; run without Java's "
        "measures: --tokenizer plain --no-java"
    )
