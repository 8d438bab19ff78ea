from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from db1.inference.load import load_agent_parts
from db1.metrics.perplexity import pool, read_tokens, score_text, unigram_perplexity
from db1.store.documents import DocumentStore
from db1.tokens.text import TextTokenizer


@pytest.fixture
def stores(data_root: Path) -> tuple[DocumentStore, DocumentStore]:
    folder = data_root / "text" / "toy"
    return DocumentStore(folder / "train"), DocumentStore(folder / "heldout")


def test_unigram_perplexity_equals_counting(stores, tokenizer: TextTokenizer) -> None:
    train, heldout = stores
    counts = Counter(t for i in range(train.num_documents) for t in train.document(i).tolist())
    total = sum(counts.values())
    tokens = [t for i in range(heldout.num_documents) for t in heldout.document(i).tolist()][1:]
    losses = [-math.log((counts[t] + 1) / (total + tokenizer.size)) for t in tokens]
    expected = math.exp(sum(losses) / len(losses))
    assert unigram_perplexity(train, heldout, tokenizer.size) == pytest.approx(expected)


def test_reads_documents_end_to_end(stores) -> None:
    _, heldout = stores
    whole = read_tokens(heldout)
    parts = [heldout.document(i) for i in range(heldout.num_documents)]
    np.testing.assert_array_equal(whole, np.concatenate(parts))
    np.testing.assert_array_equal(read_tokens(heldout, 30), whole[:30])


@pytest.mark.parametrize("memory_length", [0, 48])
def test_an_even_model_has_the_perplexity_of_its_vocabulary(
    run_folder: Path, data_root: Path, tokenizer: TextTokenizer, memory_length: int
) -> None:
    run = load_agent_parts(run_folder, device="cpu")
    with torch.no_grad():
        run.model.embedding.token.weight.zero_()
    folder = data_root / "text" / "toy"
    score = score_text(
        run, tokenizer, folder / "train", folder / "heldout",
        window=run.sequence_length, memory_length=memory_length,
    )  # fmt: skip
    entry = score.to_dict()
    assert entry["perplexity"] == pytest.approx(run.vocabulary.size, rel=1e-5)
    assert entry["ratio"] == pytest.approx(entry["perplexity"] / entry["unigram_perplexity"])
    text = tokenizer.decode(read_tokens(DocumentStore(folder / "heldout"))[1:])
    bits = entry["num_tokens"] * math.log2(run.vocabulary.size)
    assert entry["bits_per_byte"] == pytest.approx(bits / len(text.encode()), rel=1e-5)
    assert pool({"a": score, "b": score}).to_dict() == entry | {
        "num_tokens": 2 * entry["num_tokens"]
    }
