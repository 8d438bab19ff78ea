"""Caption scores equal those of the COCO caption evaluation (pycocoevalcap 1.2) on given tokens."""

from __future__ import annotations

import pytest

from db1.errors import DataError
from db1.metrics.captioning import score_captions, tokenize_caption

REFERENCES = [
    [
        "a train traveling down tracks next to lights",
        "a blue and silver train next to train station and trees",
        "a blue train is next to a sidewalk on the rails",
        "a passenger train pulls into a train station",
        "a train coming down the tracks arriving at a station",
    ],
    ["a cat sits on the mat", "the cat is on a mat"],
    ["two dogs play in the park", "dogs playing in a green park"],
]
HYPOTHESES = [
    "train traveling down a track in front of a road",
    "a cat on a mat",
    "two dogs playing in a park",
]
TOKENS = [[reference.split() for reference in item] for item in REFERENCES]


def test_scores_equal_the_recorded_ones() -> None:
    scores = score_captions([text.split() for text in HYPOTHESES], TOKENS)
    expected = (0.6810692534, 0.5698234196, 0.4354345417, 0.2845946122)
    assert scores.bleu == pytest.approx(expected, abs=1e-9)
    assert scores.rouge_l == pytest.approx(0.6296748514, abs=1e-9)
    assert scores.rouge_l_items == pytest.approx([0.340149, 0.715543, 0.833333], abs=1e-6)
    assert scores.cider_d == pytest.approx(2.7521012860, abs=1e-9)
    assert scores.cider_d_items == pytest.approx([0.791736, 3.422901, 4.041667], abs=1e-6)
    assert list(scores.to_dict()) == [
        "BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr-D",
    ]  # fmt: skip


def test_a_copy_of_a_reference_scores_best() -> None:
    scores = score_captions([item[0] for item in TOKENS], TOKENS)
    assert scores.bleu == pytest.approx((1, 1, 1, 1), abs=1e-6)
    assert scores.rouge_l == pytest.approx(1.0)
    single = score_captions([item[0] for item in TOKENS], [[item[0]] for item in TOKENS])
    assert single.cider_d == pytest.approx(10.0)


def test_an_empty_caption_scores_nothing() -> None:
    scores = score_captions([[], TOKENS[1][0], TOKENS[2][0]], TOKENS)
    assert scores.rouge_l_items[0] == 0 and scores.cider_d_items[0] == 0


@pytest.mark.parametrize(
    ("hypotheses", "references", "message"),
    [
        ([], [], "0 written"),
        ([["a"]], [[["a"]], [["b"]]], "1 written, references for 2"),
        ([["a"]], [[]], "item 0 has no reference"),
    ],
)
def test_bad_input_is_refused(hypotheses: list, references: list, message: str) -> None:
    with pytest.raises(DataError, match=message):
        score_captions(hypotheses, references)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("A man, riding a wave.", "a man riding a wave"),
        ("The dog's toy isn't \"here\"!", "the dog 's toy is n't here"),
        ("A two-story house; 1,000 birds", "a two-story house 1,000 birds"),
        ("I can't, they're out.", "i ca n't they 're out"),
        ("", ""),
    ],
)
def test_tokens_of_plain_captions(text: str, tokens: str) -> None:
    assert tokenize_caption(text) == tokens.split()
