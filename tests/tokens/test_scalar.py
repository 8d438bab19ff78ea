"""Bins agree with the recorded released tokenizer, and decoding stays within one bin."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from db1.tokens.scalar import ScalarTokenizer
from db1.tokens.vocabulary import VocabularyConfig

GOLDEN = Path(__file__).parents[1] / "golden" / "scalar_tokenizer.npz"
RECORDED = {
    "bins1024_mu100_M256": (1024, 100, 256),
    "bins48_mu100_M256": (48, 100, 256),
    "bins256_mu50_M16": (256, 50, 16),
}


def _released(name: str) -> ScalarTokenizer:
    bins, mu, magnitude = RECORDED[name]
    return ScalarTokenizer(
        VocabularyConfig(
            num_continuous_bins=bins, mu=mu, max_magnitude=magnitude, continuous_decode="left_edge"
        )
    )


@pytest.mark.parametrize("name", RECORDED)
def test_encoding_equals_the_recording(name: str) -> None:
    recording = np.load(GOLDEN)
    tokenizer, x = _released(name), recording["x"]
    assert (tokenizer.encode_observation(x) == recording[f"{name}/observation"]).all()
    # The released code let an action of 1e9 overflow to bin 0; the definition clips it to the last.
    sane = np.abs(x) < 1e9
    assert (tokenizer.encode_action(x) == recording[f"{name}/action"])[sane].all()
    assert tokenizer.encode_action(np.array([1e9])) == tokenizer.num_bins - 1


@pytest.mark.parametrize("name", RECORDED)
def test_decoding_equals_the_recording(name: str) -> None:
    recording = np.load(GOLDEN)
    tokenizer = _released(name)
    bins = np.arange(tokenizer.num_bins)
    for kind in ("observation", "action"):
        decoded = getattr(tokenizer, f"decode_{kind}")(bins)
        np.testing.assert_allclose(
            decoded, recording[f"{name}/decode_{kind}"], rtol=1e-5, atol=1e-4
        )


@given(st.floats(-1, 1), st.integers(2, 2048), st.sampled_from(["centre", "left_edge"]))
def test_actions_come_back_within_one_bin(x: float, bins: int, rule: str) -> None:
    tokenizer = ScalarTokenizer(VocabularyConfig(num_continuous_bins=bins, continuous_decode=rule))
    encoded = tokenizer.encode_action(np.array([x]))
    assert 0 <= encoded[0] < bins
    assert abs(tokenizer.decode_action(encoded)[0] - x) <= 2 / bins + 1e-6


@given(st.floats(-256, 256))
def test_observations_come_back_within_one_bin(x: float) -> None:
    tokenizer = ScalarTokenizer(VocabularyConfig())
    encoded = tokenizer.encode_observation(np.array([x]))
    decoded = tokenizer.decode_observation(encoded)
    assert abs(int(tokenizer.encode_observation(decoded)[0]) - int(encoded[0])) <= 1
    assert abs(tokenizer.squash(decoded)[0] - tokenizer.squash(np.array([x]))[0]) <= 2 / 1024
