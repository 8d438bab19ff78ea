"""Images with texts as a source: each pair once an epoch, deterministic, and learnable."""

from __future__ import annotations

import io
import pickle
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from db1.config import build
from db1.data.collate import collate
from db1.data.mixture import FixedSamples, generator_of, sample_hash
from db1.data.pairs import PairData, PairSource, choose_text, names_a_side
from db1.errors import ConfigError, DataError
from db1.model.config import ModelConfig
from db1.model.transformer_xl import TransformerXL
from db1.sequence.episode import SequenceConfig
from db1.store.pairs import Pair, PairHeader, PairWriter
from db1.tokens.image_fit import Augmentation
from db1.tokens.text import TextTokenizer
from db1.tokens.vocabulary import IMAGE_PLACEHOLDER, Vocabulary, VocabularyConfig

COLORS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
VOCABULARY = Vocabulary(VocabularyConfig(text_size=320))
TEXTS = [f"Answer the question about the image: Question: what? Answer: {c}" for c in COLORS] * 4
TOKENIZER = TextTokenizer.train([*TEXTS, *["Describe the image: number 7"] * 9], 320)
CAPTIONS = PairData(image_size=32, augment=None)
QUESTIONS = replace(CAPTIONS, kind="question")
NUM_IMAGES = 20


def png(color: tuple[int, int, int], side: int = 40) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), color).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Captions, two an image; questions, two an image, some without an answer."""
    root = tmp_path_factory.mktemp("pairs")
    header = PairHeader(name="toy", split="train", kind="caption")
    with PairWriter(root / "captions/train", header) as writer:
        for i in range(NUM_IMAGES):
            pair = Pair(image_name=str(i), texts=(f"number {i}", f"it is {i}"))
            writer.append(pair, png((10 * i, 0, 0)))
    for split, count in (("train", NUM_IMAGES), ("val", 3)):
        header = PairHeader(name="toy", split=split, kind="question")
        with PairWriter(root / "questions" / split, header) as writer:
            for i in range(2 * count):
                name = list(COLORS)[i // 2 % 3]
                texts = (name,) * 10 if i != 5 else ()
                pair = Pair(image_name=str(i // 2), question=f"what? {i}", texts=texts)
                writer.append(pair, png(COLORS[name]))
    return root


def source(
    root: Path, config: PairData = CAPTIONS, length: int = 40, **options: object
) -> PairSource:
    path = root / f"{config.kind}s"
    sequence = SequenceConfig(length=length)
    return PairSource(path, "toy", VOCABULARY, TOKENIZER, config, sequence, seed=3, **options)


def target_text(sample) -> str:
    return TOKENIZER.decode(sample.ids[sample.target_mask])


def seen_text(sample) -> str:
    return TOKENIZER.decode(sample.ids[(sample.ids >= 0) & (sample.ids != VOCABULARY.separator)])


def test_every_pair_comes_once_an_epoch_in_another_order(root: Path) -> None:
    captions = source(root)
    epochs = [
        [int(target_text(captions.sample(n, generator_of(0, n))).split("<")[0].split()[-1])
         for n in range(epoch * len(captions), (epoch + 1) * len(captions))]
        for epoch in range(2)
    ]  # fmt: skip
    assert len(captions) == NUM_IMAGES - 1
    assert [sorted(epoch) for epoch in epochs] == [list(range(NUM_IMAGES - 1))] * 2
    assert epochs[0] != epochs[1]


def test_a_sample_depends_on_its_number_and_generator_only(root: Path) -> None:
    config = build(PairData, {"image_size": 32, "augment": {"flip": True}}, "data.pairs.toy")
    one, other = source(root, config), pickle.loads(pickle.dumps(source(root, config)))
    hashes = [sample_hash(one.sample(n, generator_of(0, n))) for n in (7, 30, 2)]
    assert hashes == [sample_hash(other.sample(n, generator_of(0, n))) for n in (7, 30, 2)]
    assert sample_hash(one.sample(7, generator_of(1, 7))) != hashes[0]


def test_held_out_images_are_never_learnt(root: Path) -> None:
    def images(heldout: bool) -> set[bytes]:
        found = source(root, heldout=heldout, heldout_share=0.2)
        samples = [found.sample(n, generator_of(0, n)) for n in range(len(found))]
        return {sample.images[0].tobytes() for sample in samples}

    training, heldout = images(False), images(True)
    assert (len(training), len(heldout)) == (16, 4)
    assert not training & heldout


def test_questions_of_one_image_stay_on_one_side(root: Path) -> None:
    training = source(root, QUESTIONS, length=60, heldout_share=0.25)
    heldout = source(root, QUESTIONS, length=60, heldout=True, heldout_share=0.25)
    names = [{found.pair(i).image_name for i in range(len(found))} for found in (training, heldout)]
    assert (len(training), len(heldout)) == (29, 10)
    assert not names[0] & names[1]


def test_a_split_can_be_held_out(root: Path) -> None:
    config = replace(QUESTIONS, heldout_split="val")
    assert len(source(root, config, length=60)) == 2 * NUM_IMAGES - 1
    heldout = source(root, config, length=60, heldout=True)
    assert len(heldout) == 5
    samples = FixedSamples(heldout, 4, seed=1)
    assert sample_hash(samples[2]) == sample_hash(samples[2])


def test_questions_and_answers_make_the_documented_sequence(root: Path) -> None:
    sample = source(root, QUESTIONS, length=60).sample(0, generator_of(0, 0))
    assert seen_text(sample).startswith("Answer the question about the image: Question: what? ")
    answer = target_text(sample).removesuffix("<|endoftext|>").strip()
    assert tuple(sample.images[0][16, 16]) == COLORS[answer]
    assert (sample.ids == IMAGE_PLACEHOLDER).sum() == 4


def test_packing_fills_sequences_and_keeps_every_pair(root: Path) -> None:
    config = replace(QUESTIONS, pack=True)
    packed = source(root, config, length=255)
    count = packed.pairs_per_sequence
    assert count >= 3
    samples = [packed.sample(n, generator_of(0, n)) for n in range(len(packed))]
    assert all(len(sample.images) == count for sample in samples)
    used = np.mean([(sample.ids != VOCABULARY.separator).mean() for sample in samples])
    assert used > 0.8
    questions = Counter(
        part.split(" Answer")[0] for s in samples for part in seen_text(s).split("what? ")[1:]
    )
    assert set(questions.values()) == {count} and len(questions) == len(packed)


@pytest.mark.parametrize(
    ("answers", "shares"),
    [
        ("soft_score", {"yes": 3 / 5, "no": 1 / 5, "maybe": 1 / 5}),
        ("frequency", {"yes": 8 / 10, "no": 1 / 10, "maybe": 1 / 10}),
        ("most_common", {"yes": 1.0}),
    ],
)
def test_answers_are_drawn_by_what_people_said(answers: str, shares: dict[str, float]) -> None:
    texts = ("no", *["yes"] * 8, "maybe", "")
    pair = Pair(image_name="x", question="?", texts=texts)
    drawn = Counter(choose_text(pair, answers, (i + 0.5) / 1_000) for i in range(1_000))
    assert {text: count / 1_000 for text, count in drawn.items()} == pytest.approx(shares, abs=2e-3)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("a dog on the Left", True),
        ("the rightmost cup", True),
        ("a left-handed pitcher", True),
        ("it leftward rolls", True),
        ("bright light, all right angles", True),
        ("a bright, upright cleft", False),
    ],
)
def test_texts_that_name_a_side(text: str, named: bool) -> None:
    assert names_a_side(Pair(image_name="x", texts=(text,))) == named
    assert names_a_side(Pair(image_name="x", question=text, texts=("yes",))) == named


def test_pictures_are_mirrored_unless_their_text_names_a_side(tmp_path: Path) -> None:
    pixels = np.zeros((32, 32, 3), dtype=np.uint8)
    pixels[:, :16] = 255
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    header = PairHeader(name="toy", split="train", kind="caption")
    for folder, text in (("side", "half is left white"), ("none", "half is white")):
        with PairWriter(tmp_path / folder / "captions/train", header) as writer:
            writer.append(Pair(image_name="x", texts=(text,)), buffer.getvalue())
    augment = Augmentation(min_area=1.0, flip=True, color_jitter=0.0)
    config = replace(CAPTIONS, augment=augment)
    for folder, expected in (("side", {255}), ("none", {0, 255})):
        found = source(tmp_path / folder, config, heldout_share=0.0)
        seen = {int(found.sample(n, generator_of(0, n)).images[0][0, 0, 0]) for n in range(12)}
        assert seen == expected, folder


def test_captions_are_drawn_alike() -> None:
    pair = Pair(image_name="x", texts=("a", "b", "c", "d"))
    assert [choose_text(pair, "soft_score", d) for d in (0.0, 0.3, 0.5, 0.99)] == list("abcd")


def test_errors_name_what_is_wrong(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="image_size: an image of 224 x 224 pixels"):
        source(root, replace(CAPTIONS, image_size=224))
    with pytest.raises(DataError, match="no split 'test', stored splits: train"):
        source(root, replace(CAPTIONS, train_splits=("test",)))
    with pytest.raises(ConfigError, match="kind 'caption', but kind is 'question'"):
        PairSource(
            root / "captions", "toy", VOCABULARY, TOKENIZER, QUESTIONS, SequenceConfig(length=60), 0
        )
    with PairWriter(
        tmp_path / "captions/train", PairHeader(name="t", split="train", kind="caption")
    ) as w:
        content = png((1, 2, 3), 64)
        w.append(Pair(image_name="cut.png", texts=("x",)), content[: len(content) // 2])
    with pytest.raises(DataError, match=r"train pair 0, image cut.png: cannot decode"):
        source(tmp_path, heldout_share=0.0).sample(0, generator_of(0, 0))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "captions"}, "kind: got 'captions'.*did you mean 'caption'"),
        ({"image_size": 100}, "image_size: got 100"),
        ({"fit": "cover"}, "fit: got 'cover'"),
        ({"answers": "all"}, "answers: got 'all'"),
        ({"weight": -1}, "weight: got -1"),
        ({"train_splits": []}, "train_splits: empty"),
        ({"augment": {"min_area": 2}}, "augment.min_area: got 2"),
        ({"augmentt": {}}, "unknown key 'data.pairs.toy.augmentt'.*did you mean 'augment'"),
    ],
)
def test_bad_configurations_are_refused(values: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(PairData, values, "data.pairs.toy")


def _losses(samples: list, size: int, num_steps: int) -> list[float]:
    """Loss of a tiny model that learns one batch."""
    torch.manual_seed(0)
    config = ModelConfig(
        num_layers=2, num_heads=2, width=32, memory_length=0, same_length=False,
        vision_channels=8, vision_groups=4,
    )  # fmt: skip
    model = TransformerXL(config, size, VOCABULARY.bin_range()).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    batch = collate(samples)
    losses = []
    for _ in range(num_steps):
        loss = model(batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    vision = [p.grad for name, p in model.named_parameters() if "vision" in name]
    assert all(grad is not None and bool(torch.isfinite(grad).all()) for grad in vision)
    assert any(float(grad.abs().max()) > 0 for grad in vision)
    return losses


def _ramp(channel: int) -> bytes:
    """A ramp in one channel: patches are standardised, so plain colours would all look alike."""
    pixels = np.zeros((32, 32, 3), dtype=np.uint8)
    pixels[..., channel] = np.arange(0, 256, 8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def test_a_model_learns_the_colour_it_sees(tmp_path: Path) -> None:
    header = PairHeader(name="toy", split="train", kind="question")
    with PairWriter(tmp_path / "questions/train", header) as writer:
        for i, name in enumerate(COLORS):
            pair = Pair(image_name=name, question="what?", texts=(name,), prompt="Look:")
            writer.append(pair, _ramp(i))
    found = source(tmp_path, QUESTIONS, length=25, heldout_share=0.0)
    samples = [found.sample(n, generator_of(0, n)) for n in range(3)]
    assert {target_text(sample) for sample in samples} == {f" {c}<|endoftext|>" for c in COLORS}
    losses = _losses(samples, VOCABULARY.size, 60)
    without_looking = np.log(3) / 2  # one of three colours, then the certain end of text
    assert losses[-1] < 0.5 * without_looking < losses[0]


def test_easy_vqa_from_import_to_learning(tmp_path: Path) -> None:
    pytest.importorskip("easy_vqa", reason="needs the package easy-vqa")
    from db1.importers.easy_vqa import import_easy_vqa
    from db1.importers.pair_source import PairOptions
    from db1.importers.registry import ImportContext

    options = PairOptions(max_pairs=40, splits="train")
    import_easy_vqa("installed", tmp_path / "questions", options, ImportContext())
    config = replace(QUESTIONS, image_size=64, pack=True)
    found = source(tmp_path, config, length=250)
    samples = [found.sample(n, generator_of(0, n)) for n in range(2)]
    losses = _losses(samples, VOCABULARY.size, 25)
    assert losses[-1] < 0.5 * losses[0]
