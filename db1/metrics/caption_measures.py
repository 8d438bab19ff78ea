"""All measures of written captions that can run here, and why the others did not.

    BLEU-1..4, ROUGE-L, CIDEr-D    always (`captioning.py`)
    METEOR                         with Java and the package pycocoevalcap
    SPICE                          with its own jars on top (`java_tools.py`)

Tokens come from Stanford's PTB tokenizer where Java is there, as in published scores, else from
`tokenize_caption`, which agrees with it on plain captions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from db1.errors import DataError, check_one_of
from db1.metrics.captioning import score_captions, tokenize_caption
from db1.metrics.java_tools import (
    JavaTools,
    find_java_tools,
    score_meteor,
    score_spice,
    tokenize_ptb,
)

TOKENIZERS = ("auto", "ptb", "plain")


@dataclass(frozen=True, kw_only=True)
class MeasuredCaptions:
    """Scores of a set of captions.

    Args:
        scores: By name of the measure.
        items: Scores of each caption by measure, float64 (num_items,), where there are such.
        tokenizer: `ptb` or `plain`.
        not_run: Why a measure or the PTB tokenizer did not run, by name.
    """

    scores: Mapping[str, float]
    items: Mapping[str, np.ndarray]
    tokenizer: str
    not_run: Mapping[str, str] = field(default_factory=dict)


def check_tokenizer(name: str) -> None:
    """Raises ConfigError for an unknown tokenizer."""
    check_one_of("tokenizer", name, TOKENIZERS)


def measure_captions(
    captions: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    tokenizer: str = "auto",
    java: bool = True,
) -> MeasuredCaptions:
    """Scores captions with every measure that can run here.

    Args:
        captions: The written caption of each item.
        references: One or more reference captions of each item.
        tokenizer: `ptb`, `plain`, or `auto`: ptb where it can run.
        java: Run METEOR and SPICE where they can run.

    Raises:
        ConfigError: An unknown tokenizer.
        DataError: Captions and references that do not belong together, or `ptb` where it cannot
            run, or a program that fails.
    """
    check_tokenizer(tokenizer)
    tools = find_java_tools() if java or tokenizer != "plain" else "left out by --no-java"
    if tokenizer == "ptb" and isinstance(tools, str):
        raise DataError(f"tokenizer ptb: {tools}")
    not_run: dict[str, str] = {}
    if tokenizer == "plain" or isinstance(tools, str):
        if tokenizer == "auto":
            not_run["PTB tokenizer"] = str(tools)
        name, words = "plain", [tokenize_caption(text) for text in _flat(captions, references)]
    else:
        name, words = "ptb", tokenize_ptb(tools, _flat(captions, references))
    hypotheses, tokens = _unflat(words, references)
    found = score_captions(hypotheses, tokens)
    scores = found.to_dict()
    items = {"ROUGE-L": found.rouge_l_items, "CIDEr-D": found.cider_d_items}
    tools = tools if java else "left out by --no-java"
    if isinstance(tools, JavaTools):
        scores["METEOR"], items["METEOR"] = score_meteor(tools, hypotheses, tokens)
        reason = tools.spice_missing()
        if reason is None:
            joined = [[" ".join(reference) for reference in item] for item in tokens]
            said = [" ".join(hypothesis) for hypothesis in hypotheses]
            scores["SPICE"], items["SPICE"] = score_spice(tools, said, joined)
        else:
            not_run["SPICE"] = reason
    else:
        not_run |= {"METEOR": tools, "SPICE": tools}
    return MeasuredCaptions(scores=scores, items=items, tokenizer=name, not_run=not_run)


def _flat(captions: Sequence[str], references: Sequence[Sequence[str]]) -> list[str]:
    return [*captions, *(text for item in references for text in item)]


def _unflat(
    words: Sequence[list[str]], references: Sequence[Sequence[str]]
) -> tuple[list[list[str]], list[list[list[str]]]]:
    """Inverse of `_flat`: tokens of each caption, and of each item's references."""
    place = len(words) - sum(map(len, references))
    hypotheses, tokens = list(words[:place]), []
    for item in references:
        tokens.append(list(words[place : place + len(item)]))
        place += len(item)
    return hypotheses, tokens
