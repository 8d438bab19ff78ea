"""Captions and answers of a tiny run: batches change nothing, and every text is the model's own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from db1.data.pair_config import PairData
from db1.errors import CheckpointError, ConfigError, DataError
from db1.inference.decode import DecodeConfig
from db1.inference.image_text import ImageTextWriter, WritingConfig
from db1.inference.load import LoadedRun
from db1.inference.pair_sets import learned_sets, settings_of
from db1.inference.state import left_pad
from db1.sequence.image_text import ImageText

PAIRS = {
    "shapes": {"kind": "question", "image_size": 32, "prompt": "Look:"},
    "names": {"kind": "caption", "image_size": 32, "prompt": "Say:"},
}
SAMPLED = DecodeConfig(greedy=False, temperature=1.5, top_p=0.9)


@pytest.fixture(scope="module")
def run(make_model, vocabulary, tokenizer) -> LoadedRun:
    config = {
        "model": {"num_layers": 2, "num_heads": 2, "width": 32, "memory_length": 40,
                  "same_length": False},
        "sequence": {"length": 80},
        "data": {"root": "data", "pairs": PAIRS},
    }  # fmt: skip
    return LoadedRun(
        folder=Path("run"), config=config, vocabulary=vocabulary, tokenizer=tokenizer,
        specs={}, chosen={},
        model=make_model(memory_length=40), tag=None, sha256=None,
    )  # fmt: skip


def pictures(count: int, height: int = 32, width: int = 32) -> list[np.ndarray]:
    generator = np.random.default_rng(4)
    return list(generator.integers(0, 256, (count, height, width, 3), dtype=np.uint8))


def test_settings_come_from_the_run(run: LoadedRun, caplog: pytest.LogCaptureFixture) -> None:
    assert set(learned_sets(run)) == {"shapes", "names"}
    assert settings_of(run, "caption").texts().prompt == "Say:"
    with pytest.raises(ConfigError, match="learned no caption set 'name'.*did you mean 'names'"):
        settings_of(run, "caption", "name")
    bare = replace(run, config={**run.config, "data": {}})
    assert settings_of(bare, "caption") == PairData(kind="caption")
    assert "names no caption set that it learned" in caplog.text


@pytest.mark.parametrize(
    "config",
    [
        WritingConfig(max_tokens=6),
        WritingConfig(max_tokens=6, beams=3),
        WritingConfig(max_tokens=6, decode=SAMPLED, seed=5),
    ],
)
def test_a_text_does_not_depend_on_its_neighbours(run: LoadedRun, config: WritingConfig) -> None:
    """Alone, in batches of two rows and all at once; images of two sizes in one batch."""
    images = [*pictures(3), *pictures(2, 16, 48)]
    texts = {}
    for rows in (1, 2, 64):
        writer = ImageTextWriter(run, settings_of(run, "caption"), max_rows=rows)
        texts[rows] = writer.write([writer.prompt(image) for image in images], config)
    for other in (texts[2], texts[64]):
        assert [text.text for text in other] == [text.text for text in texts[1]]
        values = [text.log_probability for text in texts[1]]
        assert [text.log_probability for text in other] == pytest.approx(values, abs=1e-9)
    assert len({text.text for text in texts[1]}) > 1, "texts that are all alike show little"


def test_questions_about_one_image_share_it(run: LoadedRun) -> None:
    writer = ImageTextWriter(run, settings_of(run, "question"))
    first, second = pictures(2)
    asked = [(first, "red?"), (second, "is it a key?"), (first, "is it a blue ball?")]
    prompts = [writer.prompt(*one) for one in asked]
    config = WritingConfig(max_tokens=5)
    alone = [writer.write([prompt], config)[0] for prompt in prompts]
    together = writer.write(prompts, config)
    assert [text.text for text in together] == [text.text for text in alone]
    for one, other in zip(together, alone, strict=True):
        assert one.log_probability == pytest.approx(other.log_probability, abs=1e-9)


def test_log_probabilities_are_those_of_the_training_sequence(run: LoadedRun) -> None:
    writer = ImageTextWriter(run, settings_of(run, "question"))
    image, question = pictures(1)[0], "is it red?"
    written = writer.write([writer.prompt(image, question)], WritingConfig(max_tokens=4))[0]
    choice = writer.choose([writer.prompt(image, question)], ["red key", "the door", "go"])[0]
    for text, expected, ends in (
        (written.text, written.log_probability, written.reason == "end_of_text"),
        *zip(["red key", "the door", "go"], choice.log_probabilities, [True] * 3, strict=True),
    ):
        item = ImageText(image=image, text=text, question=question)
        sample = writer._codec.encode([item], 80, "x")
        targets = np.flatnonzero(sample.target_mask)[: None if ends else -1]
        ids = torch.from_numpy(sample.ids.astype(np.int64))
        if text == written.text and len(targets) != written.num_tokens + ends:
            continue  # the text has another split in tokens than the one that was written
        hidden = _hidden(run, sample)
        scores = run.model.logits(hidden, ids=range(run.tokenizer.size)).log_softmax(-1)
        total = scores[targets - 1, ids[targets]].sum()
        assert float(total.detach()) == pytest.approx(float(expected), abs=1e-6)


def _hidden(run: LoadedRun, sample) -> torch.Tensor:
    batch = left_pad([sample], "cpu")
    memory = run.model.new_memory(1, 0)
    return run.model.decode(batch.ids, batch.local_positions, batch.images, memory, None)[0][0]


def test_the_likeliest_of_a_list(run: LoadedRun) -> None:
    answers = ["yes", "no", "the red ball", "blue", "open the grey door behind you"]
    prompts = []
    results = {}
    for rows in (1, 3, 64):
        writer = ImageTextWriter(run, settings_of(run, "question"), max_rows=rows)
        prompts = [writer.prompt(image, "what is it?") for image in pictures(4)]
        results[rows] = writer.choose(prompts, answers)
    for one, other in zip(results[1], results[64], strict=True):
        assert one.text == other.text == answers[int(one.log_probabilities.argmax())]
        assert one.log_probabilities == pytest.approx(other.log_probabilities, abs=1e-9)
        assert 1 / len(answers) <= one.probability <= 1
    shares = np.exp(results[1][0].log_probabilities)
    assert results[1][0].probability == pytest.approx(shares.max() / shares.sum())


def test_nucleus_sampling_is_seeded_by_number(run: LoadedRun) -> None:
    writer = ImageTextWriter(run, settings_of(run, "caption"))
    prompts = [writer.prompt(pictures(1)[0])] * 4
    config = WritingConfig(max_tokens=8, decode=SAMPLED)
    texts = [text.text for text in writer.write(prompts, config)]
    assert len(set(texts)) > 1
    assert [t.text for t in writer.write(prompts[:2], config, [2, 1])] == [texts[2], texts[1]]
    assert [t.text for t in writer.write(prompts, replace(config, seed=1))] != texts
    narrow = WritingConfig(max_tokens=8, decode=replace(SAMPLED, top_p=1e-9))
    assert (
        writer.write(prompts, narrow)[0].text
        == writer.write(prompts, WritingConfig(max_tokens=8))[0].text
    )


def test_bad_input(run: LoadedRun) -> None:
    writer = ImageTextWriter(run, settings_of(run, "question"))
    image = pictures(1)[0]
    with pytest.raises(DataError, match=r"question: \d+ tokens too long.*shorten it: 'why why"):
        writer.prompt(image, "why " * 90)
    cut = writer.prompt(image, "why " * 90, cut=True)
    assert cut.num_cut > 0 and len(cut.ids) == 80 + 1 - 8
    with pytest.raises(DataError, match="question: empty"):
        writer.prompt(image, "  ")
    with pytest.raises(DataError, match="an image of 160 x 160 pixels.*use a smaller image"):
        writer.prompt(pictures(1, 160, 160)[0], "why?")
    for answers, words in (([], "an empty list"), (["a", ""], "is empty"), (["a", "a"], "twice")):
        with pytest.raises(ConfigError, match=words):
            writer.choose([writer.prompt(image, "why?")], answers)
    with pytest.raises(ConfigError, match="beams: got 2 with sampling"):
        WritingConfig(beams=2, decode=SAMPLED)
    with pytest.raises(CheckpointError, match="no tokenizer"):
        ImageTextWriter(replace(run, tokenizer=None), settings_of(run, "question"))
