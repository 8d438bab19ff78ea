"""Which keys each query sees."""

from __future__ import annotations

import pytest
import torch

from db1.model import visibility
from db1.model.visibility import Visibility


def rule(
    num_queries: int, num_keys: int, span: int | None, valid: list[int] | None = None
) -> Visibility:
    return Visibility(
        num_queries=num_queries,
        num_keys=num_keys,
        span=span,
        valid_keys=None if valid is None else torch.tensor(valid),
        dtype=torch.float32,
        device=torch.device("cpu"),
    )


def test_same_length_span_is_the_memory_length() -> None:
    """The released rule: a query sees itself and the span - 1 keys before it."""
    seen = rule(4, 10, 3).with_additive().additive == 0
    assert seen.sum(dim=1).tolist() == [3, 3, 3, 3]
    assert seen[0].nonzero().flatten().tolist() == [4, 5, 6]
    early = rule(4, 4, 3).with_additive().additive == 0
    assert early.sum(dim=1).tolist() == [1, 2, 3, 3]


def test_blocks_skip_keys_that_nobody_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visibility, "QUERY_BLOCK", 4)
    blocks = rule(8, 20, 5).blocks()
    assert [(block.keys.start, block.keys.stop) for block in blocks] == [(8, 16), (12, 20)]
    assert sum(block.num_queries * block.num_keys for block in blocks) < 8 * 20


def test_no_mask_where_one_query_sees_all() -> None:
    assert rule(1, 6, 6).with_additive().additive is None
    assert rule(1, 6, 5).with_additive().additive is not None


def test_blind_queries_keep_their_scores_and_are_named() -> None:
    """A softmax over nothing but hidden keys would have no gradient in half precision."""
    ragged = rule(3, 4, None, [0, 2, 4]).with_additive()
    assert ragged.blind[:, 0, :, 0].tolist() == [[True] * 3, [True, False, False], [False] * 3]
    assert (ragged.additive[0] == 0).all()
    assert (ragged.additive[1, 0, 1] == 0).tolist() == [False, False, True, False]
