"""Draws a store's summary or one training sequence for `db1 inspect`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from db1.data.build import SourceFactory
from db1.errors import ConfigError, DataError
from db1.sequence.sample import Sample
from db1.tokens.scalar import ScalarTokenizer
from db1.tokens.text import TextTokenizer
from db1.tokens.vocabulary import IMAGE_PLACEHOLDER, Vocabulary


def show_store(path: Path) -> None:
    """Verifies and describes an episode store or a text store."""
    from db1.store.episodes import EpisodeStore

    console = Console()
    if (path / "header.json").is_file():
        store = EpisodeStore(path)
        store.verify()
        header, returns = store.header, store.returns
        table = Table("what", "value", title=f"{path}: valid")
        rows = {
            "task": header.task,
            "environment": header.environment,
            "expert": f"{header.expert}, action noise {header.action_noise}",
            "episodes": store.num_episodes,
            "steps": store.num_steps,
            "lengths": f"{store.lengths.min()} to {store.lengths.max()}",
            "returns": f"mean {returns.mean():.3f}, {returns.min():.3f} to {returns.max():.3f}",
            "seeds": f"{store.seeds.min()} to {store.seeds.max()}",
        }
        rows |= {f"observation {k}": str(v) for k, v in store.spec.observation.items()}
        rows["action"] = str(store.spec.action)
        for key, value in rows.items():
            table.add_row(key, str(value))
        console.print(table)
    elif (path / "train.idx").is_file():
        _show_documents(path, console)
    else:
        raise DataError(f"{path}: neither header.json (episodes) nor train.idx (text) is here")


def _show_documents(path: Path, console: Console) -> None:
    from db1.store.documents import DocumentStore

    fingerprint = TextTokenizer.load(path).fingerprint
    table = Table("part", "documents", "tokens", title=f"{path}: valid")
    for part in ("train", "heldout"):
        store = DocumentStore(path / part, tokenizer_fingerprint=fingerprint)
        table.add_row(part, str(store.num_documents), str(int(np.sum(store.sizes))))
    console.print(table)


def show_sequence(path: Path, overrides: Sequence[str], step: int, slot: int) -> None:
    """Prints sequence (step, slot) of an experiment, one token a row."""
    from db1.training.experiment import load_experiment

    config = load_experiment(path, overrides)
    batch, num_steps = config.training.global_batch_size, config.training.num_steps
    if slot >= batch or step >= num_steps:
        raise ConfigError(
            f"inspect: step {step}, slot {slot}; the run has {num_steps} steps of {batch} slots"
        )
    vocabulary = Vocabulary(config.vocabulary)
    factory = SourceFactory(config.data, config.sequence, vocabulary, config.training.seed)
    sample = factory.mixture(num_steps * batch)[step * batch + slot]
    title = f"step {step}, slot {slot}: {sample.source}, prompt of {sample.prompt_length} tokens"
    table = Table("n", "id", "kind", "value", "local position", "part", "loss", title=title)
    for row in _describe(sample, vocabulary, factory.tokenizer):
        table.add_row(*row)
    Console().print(table)


def _describe(
    sample: Sample, vocabulary: Vocabulary, tokenizer: TextTokenizer | None
) -> list[tuple[str, ...]]:
    rows = []
    scalar = ScalarTokenizer(vocabulary.config)
    for n, token in enumerate(sample.ids.tolist()):
        position = int(sample.local_positions[n])
        kind, value = _kind_and_value(token, position, vocabulary, scalar, tokenizer)
        part = "prompt" if n < sample.prompt_length else "body"
        shown_position = "-" if position < 0 else str(position)
        loss = "loss" if sample.target_mask[n] else ""
        rows.append((str(n), str(token), kind, value, shown_position, part, loss))
    return rows


def _kind_and_value(
    token: int,
    position: int,
    vocabulary: Vocabulary,
    scalar: ScalarTokenizer,
    tokenizer: TextTokenizer | None,
) -> tuple[str, str]:
    if token == IMAGE_PLACEHOLDER:
        return "image patch", ""
    if token == vocabulary.separator:
        return ("separator", "") if position >= 0 else ("padding", "")
    if token in vocabulary.bin_range():
        bins = vocabulary.bins_of(np.array([token]))
        is_action = position == 0
        decode = scalar.decode_action if is_action else scalar.decode_observation
        return ("action number" if is_action else "number"), f"{decode(bins)[0]:.4g}"
    if position == 0 or token not in vocabulary.text_range():
        value = str(vocabulary.discrete_of(np.array([token]))[0])
        return ("action" if position == 0 else "discrete"), value
    text = tokenizer.decode(np.array([token])) if tokenizer else ""
    return "text", repr(text)
