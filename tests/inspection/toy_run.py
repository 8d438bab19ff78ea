"""A small run over real stores: a task with every kind of field, one with masked actions, text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from db1.data.config import DataConfig, TaskData, TextData
from db1.data.sources import EpisodeSource
from db1.inspection.runs import RunData
from db1.sequence.episode import SequenceConfig
from db1.sequence.segment import TokenSegment
from db1.store.document_writer import DocumentWriter
from db1.store.episodes import EpisodeWriter, StoreHeader
from db1.tokens.spec import Episode, FieldSpec, StepSpec
from db1.tokens.text import TextTokenizer
from db1.tokens.vocabulary import Vocabulary, VocabularyConfig

MISSIONS = ("go to the red ball", "öffne die Tür", "stop")
ALL_KINDS = StepSpec(
    observation={
        "mission": FieldSpec(kind="text"),
        "view": FieldSpec(kind="image", shape=(16, 32, 3)),
        "count": FieldSpec(kind="discrete", shape=(2,), num_values=7),
        "state": FieldSpec(kind="continuous", shape=(2, 2)),
    },
    action=FieldSpec(kind="continuous", shape=(2,)),
)
MASKED = StepSpec(
    observation={
        "allowed": FieldSpec(kind="discrete", shape=(3,), num_values=2),
        "word": FieldSpec(kind="text"),
    },
    action=FieldSpec(kind="discrete", num_values=3),
    action_mask="allowed",
)


def all_kinds_episode(seed: int, length: int = 9) -> Episode:
    """An episode of the task `toy/all`."""
    rng = np.random.default_rng(seed)
    return Episode(
        observations={
            "mission": np.array([MISSIONS[seed % 3]] * length, dtype=object),
            "view": rng.integers(0, 256, (length, 16, 32, 3), dtype=np.uint8),
            "count": rng.integers(0, 7, (length, 2), dtype=np.int32),
            "state": rng.normal(size=(length, 2, 2)).astype(np.float32),
        },
        actions=rng.uniform(-0.9, 0.9, (length, 2)).astype(np.float32),
        rewards=rng.normal(size=length).astype(np.float32),
        seed=seed,
    )


def masked_episode(seed: int, length: int = 9, is_legal: bool = True) -> Episode:
    """An episode of the task `toy/masked`; without `is_legal` its action is always forbidden."""
    rng = np.random.default_rng(seed)
    actions = rng.integers(0, 3, length).astype(np.int32)
    allowed = rng.integers(0, 2, (length, 3)).astype(np.int32)
    allowed[np.arange(length), actions] = is_legal
    return Episode(
        observations={
            "allowed": allowed,
            "word": np.array([MISSIONS[seed % 3]] * length, dtype=object),
        },
        actions=actions,
        rewards=rng.normal(size=length).astype(np.float32),
        seed=seed,
    )


def write_store(
    root: Path, task: str, spec: StepSpec, episodes: list[Episode], **header: Any
) -> Path:
    """Writes one store below `root`."""
    path = root / task
    with EpisodeWriter(path, StoreHeader(task=task, spec=spec, **header)) as writer:
        for episode in episodes:
            writer.append(episode)
    return path


def write_text(root: Path, name: str = "psalm") -> Path:
    """Writes a corpus with its tokenizer."""
    folder = root / "text" / name
    folder.mkdir(parents=True)
    texts = [f"And the {n} sheep went up to the water; {MISSIONS[n % 3]}." for n in range(60)]
    tokenizer = TextTokenizer.train(texts, 300)
    tokenizer.save(folder)
    for part, chosen in (("train", texts[:50]), ("heldout", texts[50:])):
        with DocumentWriter(
            folder / part,
            np.uint16,
            tokenizer=tokenizer.fingerprint,
            text_size=tokenizer.size,
            source="psalm.txt",
        ) as writer:
            for text in chosen:
                writer.append(np.append(tokenizer.encode(text), tokenizer.end_of_text))
    return folder


def write_references(folder: Path, random: float, expert: float) -> None:
    """Puts reference returns beside a store."""
    content = {"random": {"mean": random}, "expert": {"mean": expert}}
    (folder / "references.json").write_text(json.dumps(content))


def write_all(root: Path) -> Path:
    """All stores of the run."""
    write_store(root, "toy/all", ALL_KINDS, [all_kinds_episode(seed) for seed in range(6)])
    write_store(root, "toy/masked", MASKED, [masked_episode(seed) for seed in range(6)])
    write_text(root)
    return root


def make_run(
    root: Path,
    vocabulary: dict[str, Any] | None = None,
    sequence: dict[str, Any] | None = None,
    **changes: Any,
) -> RunData:
    """A run over the stores of `write_all`."""
    return RunData(
        **{
            "name": "toy",
            "data": DataConfig(
                root=root,
                tasks={"toy/all": TaskData(), "toy/masked": TaskData()},
                text={"psalm": TextData()},
                heldout_share=0.2,
            ),
            "sequence": SequenceConfig(
                **{"length": 80, "prompt_probability": 0.5, "history_noise": 0.2} | (sequence or {})
            ),
            "vocabulary": Vocabulary(
                VocabularyConfig(
                    **{"text_size": 320, "num_continuous_bins": 64, "num_discrete": 16}
                    | (vocabulary or {})
                )
            ),
            "seed": 3,
            "num_steps": 10,
            "batch_size": 4,
        }
        | changes
    )


def task_sample(run: RunData, task: str, number: int = 0) -> tuple[EpisodeSource, TokenSegment]:
    """A sequence of one task as the run would read it."""
    mixture = run.mixture
    for n in range(len(mixture)):
        source = mixture.sources[mixture.order[n][0]]
        if source.name == task:
            if number == 0:
                assert isinstance(source, EpisodeSource)
                return source, mixture[n]
            number -= 1
    raise AssertionError(task)
