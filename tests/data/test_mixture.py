"""The training stream is a pure function of (seed, number), mixes exactly and collates right."""

from __future__ import annotations

import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from db1.data.build import DataConfig, SourceFactory, TaskData, TextData
from db1.data.collate import collate
from db1.data.mixture import FixedSamples, MixtureDataset, SampleOrder, generator_of, sample_hash
from db1.data.sources import EpisodeSource
from db1.errors import ConfigError, DataError
from db1.sequence.episode import SequenceConfig
from db1.sequence.segment import NO_LOCAL_POSITION
from db1.store.document_writer import DocumentWriter
from db1.store.episodes import EpisodeWriter, StoreHeader
from db1.tokens.spec import Episode, FieldSpec, StepSpec
from db1.tokens.text import TextTokenizer
from db1.tokens.vocabulary import IMAGE_PLACEHOLDER, Vocabulary, VocabularyConfig

VOCABULARY = Vocabulary(VocabularyConfig(text_size=300))
LENGTH = 32
NUMBERS = StepSpec(
    observation={"x": FieldSpec(kind="continuous", shape=(2,))},
    action=FieldSpec(kind="discrete", num_values=4),
)
PIXELS = StepSpec(
    observation={"eye": FieldSpec(kind="image", shape=(16, 32, 3))},
    action=FieldSpec(kind="discrete", num_values=4),
)


def _write(path: Path, task: str, spec: StepSpec, num_episodes: int, num_steps: int) -> None:
    generator = np.random.default_rng(len(task))
    with EpisodeWriter(path, StoreHeader(task=task, spec=spec)) as writer:
        for seed in range(num_episodes):
            x = {
                "x": generator.normal(size=(num_steps, 2)).astype(np.float32),
                "eye": generator.integers(0, 256, (num_steps, 16, 32, 3), np.uint8),
            }
            writer.append(
                Episode(
                    observations={key: x[key] for key in spec.observation},
                    actions=generator.integers(0, 4, num_steps).astype(np.int32),
                    rewards=np.ones(num_steps, np.float32),
                    seed=seed,
                )
            )


@pytest.fixture(scope="module")
def factory(tmp_path_factory: pytest.TempPathFactory) -> SourceFactory:
    root = tmp_path_factory.mktemp("data")
    _write(root / "toy/numbers", "toy/numbers", NUMBERS, 12, 40)
    _write(root / "toy/pixels", "toy/pixels", PIXELS, 5, 9)
    tokenizer = TextTokenizer.train(["in the beginning was the word"] * 9, 300)
    folder = root / "text" / "book"
    folder.mkdir(parents=True)
    tokenizer.save(folder / "tokenizer.json")
    generator = np.random.default_rng(0)
    for part in ("train", "heldout"):
        with DocumentWriter(
            folder / part, np.uint16, tokenizer=tokenizer.fingerprint, text_size=300
        ) as writer:
            for length in (70, 33, 5, 120):
                writer.append(generator.integers(0, tokenizer.size, length))
    config = DataConfig(
        root=root,
        tasks={"toy/numbers": TaskData(weight=2), "toy/pixels": TaskData(weight=1)},
        text={"book": TextData(weight=1)},
    )
    return SourceFactory(config, SequenceConfig(length=LENGTH), VOCABULARY, seed=3)


def _equal(a: object, b: object) -> bool:
    return all(
        np.array_equal(getattr(a, name), getattr(b, name))
        for name in ("ids", "target_mask", "local_positions", "source", "prompt_length")
    )


def test_a_sample_depends_on_its_number_alone(factory: SourceFactory) -> None:
    dataset = factory.mixture(64)
    forward = [dataset[n] for n in range(64)]
    backward = [pickle.loads(pickle.dumps(factory.mixture(64)))[n] for n in reversed(range(64))]
    assert all(_equal(a, b) for a, b in zip(forward, reversed(backward), strict=True))
    longer = factory.mixture(640)
    assert all(_equal(forward[n], longer[n]) for n in range(64))
    assert len({sample.ids.tobytes() for sample in forward}) > 45


def test_shares_are_exact_over_every_prefix(factory: SourceFactory) -> None:
    names = [factory.mixture(100)[n].source for n in range(100)]
    for stop in range(1, 101):
        for name, share in (("toy/numbers", 0.5), ("toy/pixels", 0.25), ("book", 0.25)):
            assert abs(names[:stop].count(name) - share * stop) < 1


def test_sequences_have_the_right_shape(factory: SourceFactory) -> None:
    for n in range(40):
        sample = factory.mixture(40)[n]
        assert len(sample.ids) == LENGTH + 1
        if sample.source == "book":
            assert sample.target_mask.all()
        else:
            assert sample.local_positions[0] == 1
            assert (sample.local_positions[sample.target_mask] == 0).all()


def test_prompts_come_as_often_as_asked(factory: SourceFactory, tmp_path: Path) -> None:
    source = factory.task("toy/numbers")
    lengths = [source.sample(0, generator_of(0, n)).prompt_length for n in range(400)]
    share = np.mean(np.array(lengths) > 0)
    assert 0.18 < share < 0.32
    assert set(lengths) == {0, 16}  # 9 steps of 4 tokens fill 33; the prompt takes 4 steps


def test_heldout_episodes_are_apart(factory: SourceFactory) -> None:
    train, heldout = factory.task("toy/numbers"), factory.task("toy/numbers", heldout=True)
    drawn = [
        {source.sample(0, generator_of(1, n)).ids[:8].tobytes() for n in range(300)}
        for source in (train, heldout)
    ]
    assert not drawn[0] & drawn[1]


def test_text_covers_every_stretch_once_an_epoch(factory: SourceFactory) -> None:
    source = factory.corpus("book")
    epoch = [source.sample(n, generator_of(0, n)).ids.tobytes() for n in range(len(source))]
    assert len(set(epoch)) == len(source)
    again = [
        source.sample(n + len(source), generator_of(0, n)).ids.tobytes() for n in range(len(source))
    ]
    assert set(again) == set(epoch) and again != epoch
    first, second = source.stretch(0).ids, source.stretch(1).ids
    assert first[-1] == second[0]  # T + 1 tokens overlap by the one that is only a label


def test_collate_shifts_labels_and_places_patches(factory: SourceFactory) -> None:
    samples = [factory.mixture(40)[n] for n in range(12)]
    batch = collate(samples)
    assert batch.ids.shape == batch.labels.shape == (12, LENGTH)
    assert (batch.ids[:, 1:] == batch.labels[:, :-1]).all()
    assert batch.sources == tuple(sample.source for sample in samples)
    (group,) = batch.images
    assert group.pixels.dtype == torch.uint8 and group.positions.dtype == torch.int64
    placeholders = (batch.ids.flatten() == IMAGE_PLACEHOLDER).nonzero().flatten().tolist()
    assert sorted(p for p in group.positions.flatten().tolist() if p < 12 * LENGTH) == placeholders


def test_bad_mixtures_are_refused(factory: SourceFactory, tmp_path: Path) -> None:
    source = factory.task("toy/numbers")
    with pytest.raises(ConfigError, match="shares of 2 for 1 sources"):
        MixtureDataset([source], SampleOrder([(0, [1, 1])], 10), 0)
    for weight in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="weight: got"):
            TaskData(weight=weight)
    for parts in ([-1], [0]):
        with pytest.raises(DataError, match="parts"):
            SampleOrder([(0, parts)], 10)
    with pytest.raises(ConfigError, match="nothing to learn"):
        DataConfig(root=tmp_path)
    with pytest.raises(DataError, match="db1 collect"):
        factory.task("toy/absent")
    _write(tmp_path / "one", "toy/one", NUMBERS, 1, 10)
    with pytest.raises(DataError, match="collect more"):
        EpisodeSource(
            tmp_path / "one", VOCABULARY, None, SequenceConfig(length=LENGTH), heldout=True
        )


def test_fixed_samples_end(factory: SourceFactory) -> None:
    fixed = FixedSamples(factory.task("toy/numbers"), 3, 0)
    assert len(list(fixed)) == 3
    assert (fixed[0].local_positions != NO_LOCAL_POSITION).any()


def test_loss_balance_weighs_sequences(factory: SourceFactory) -> None:
    source, book = factory.task("toy/numbers"), factory.corpus("book")
    for balance in (0.0, 0.5, 1.0):
        dataset = MixtureDataset([source, book], SampleOrder([(0, [1, 1])], 12), 0, balance)
        for n in range(12):
            sample = dataset[n]
            targets = sample.target_mask[1:].sum()
            assert sample.target_weight == pytest.approx(float(targets) ** -balance)
    weights = collate([dataset[n] for n in range(4)]).target_weights
    assert weights is not None and weights.tolist() == pytest.approx(
        [dataset[n].target_weight for n in range(4)]
    )
    with pytest.raises(ConfigError, match="loss_balance"):
        DataConfig(root=Path("x"), tasks={"a/b": TaskData()}, loss_balance=2.0)


def test_equal_hashes_mean_equal_samples(factory: SourceFactory) -> None:
    samples = [factory.mixture(40)[n] for n in range(40)]
    hashes = [sample_hash(sample) for sample in samples]
    assert hashes == [sample_hash(factory.mixture(40)[n]) for n in range(40)]
    with_image = next(sample for sample in samples if sample.images)
    image = with_image.images[0].copy()
    image[3, 3, 0] += 1
    changes = {
        "source": "other",
        "target_weight": 0.5,
        "prompt_length": 7,
        "images": (image, *with_image.images[1:]),
        "ids": with_image.ids[::-1].copy(),
        "target_mask": ~with_image.target_mask,
        "local_positions": with_image.local_positions.astype(np.int64),
        "labels": with_image.ids,
    }
    changed = [replace(with_image, **{name: value}) for name, value in changes.items()]
    assert len({sample_hash(sample) for sample in [with_image, *changed]}) == len(changes) + 1


def test_stores_that_do_not_go_together(factory: SourceFactory, tmp_path: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(factory.task("toy/numbers").store.path.parents[1], root)
    other = TextTokenizer.train(["quick brown foxes jump over"] * 9, 280)
    folder = root / "text" / "second"
    folder.mkdir()
    other.save(folder / "tokenizer.json")
    with DocumentWriter(
        folder / "train", np.uint16, tokenizer=other.fingerprint, text_size=300
    ) as writer:
        writer.append(np.arange(100))

    def mixture(**data: object) -> MixtureDataset:
        config = DataConfig(root=root, **data)
        return SourceFactory(config, SequenceConfig(length=LENGTH), VOCABULARY, 0).mixture(100)

    both = {"book": TextData(), "second": TextData()}
    with pytest.raises(DataError, match="were made with tokenizer"):
        mixture(text=both)
    with pytest.raises(DataError, match="vocabulary.text_size 260"):
        SourceFactory(
            DataConfig(root=root, text={"book": TextData()}),
            SequenceConfig(length=LENGTH),
            Vocabulary(VocabularyConfig(text_size=260)),
            0,
        )
    (root / "toy" / "numbers").rename(root / "toy" / "renamed")
    with pytest.raises(DataError, match="holds episodes of 'toy/numbers', expected 'toy/renamed'"):
        mixture(tasks={"toy/renamed": TaskData()})
    with pytest.raises(DataError, match="no demonstrations"):
        mixture(tasks={"toy/numbers": TaskData()})
    with pytest.raises(DataError, match="no store of this suite.*stored suites: toy"):
        mixture(suites={"tou": 1.0})
