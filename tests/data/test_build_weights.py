"""Weights of a configuration -> shares: nested, by modality, flattened, and never zero samples."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from db1.config import build, to_dict
from db1.data.config import DataConfig
from db1.data.weights import at_least_one, resolve_weights
from db1.errors import ConfigError, DataError
from db1.store.document_writer import DocumentWriter
from db1.store.episodes import EpisodeWriter, StoreHeader
from db1.tokens.spec import Episode, FieldSpec, StepSpec

SPEC = StepSpec(
    observation={"x": FieldSpec(kind="continuous", shape=(1,))},
    action=FieldSpec(kind="discrete", num_values=2),
)
STORED = {"a/p": 10, "a/q": 30, "b/x": 5, "b/z": 5, "c/y": 20}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    for task, num_steps in STORED.items():
        with EpisodeWriter(root / task, StoreHeader(task=task, spec=SPEC)) as writer:
            writer.append(
                Episode(
                    observations={"x": np.zeros((num_steps, 1), np.float32)},
                    actions=np.zeros(num_steps, np.int32),
                    rewards=np.zeros(num_steps, np.float32),
                    seed=0,
                )
            )
    for name, num_tokens in {"t": 100, "u": 300}.items():
        with DocumentWriter(
            root / "text" / name / "train", np.uint16, tokenizer="f", text_size=300
        ) as writer:
            writer.append(np.zeros(num_tokens, np.int64))
    return root


def _shares(root: Path, **data: object) -> dict[str, Fraction]:
    shares = resolve_weights(build(DataConfig, {"root": str(root), **data}))
    assert sum(share for _, share in shares) == 1
    return dict(shares)


EXAMPLE = {
    "suites": {"a": 0.3, "b": {"weight": 0.1, "tasks": {"x": 3}}},
    "tasks": {"c/y": {"weight": 0.4}},
    "text": {"t": {"weight": 0.2}},
}


def _fractions(**shares: str) -> dict[str, Fraction]:
    return {name.replace("_", "/"): Fraction(share) for name, share in shares.items()}


def test_worked_example(root: Path) -> None:
    shares = _shares(root, **EXAMPLE)
    assert shares == _fractions(
        a_p="0.15", a_q="0.15", b_x="0.075", b_z="0.025", c_y="0.4", t="0.2"
    )
    assert list(shares) == ["a/p", "a/q", "b/x", "b/z", "c/y", "t"]


def test_modalities(root: Path) -> None:
    shares = _shares(root, **EXAMPLE, modalities={"control": 1, "text": 1})
    assert shares["t"] == Fraction(1, 2) and shares["c/y"] == Fraction(1, 4)
    shares = _shares(root, **EXAMPLE, modalities={"control": 0.8, "text": 0})
    assert shares["t"] == 0 and shares["c/y"] == Fraction(1, 2)


def test_the_order_of_the_configuration_does_not_matter(root: Path) -> None:
    turned = {key: dict(reversed(value.items())) for key, value in reversed(EXAMPLE.items())}
    assert list(_shares(root, **turned).items()) == list(_shares(root, **EXAMPLE).items())


def test_named_and_other_tasks(root: Path) -> None:
    assert _shares(root, suites={"a": {"tasks": {"p": 1}, "others": 0}}) == _fractions(a_p="1")
    missing = _shares(root, suites={"d": {"tasks": {"n": 1, "m": {"weight": 3}}, "others": 0}})
    assert missing == _fractions(d_m="3/4", d_n="1/4")  # found missing when sources are made
    shares = _shares(root, suites={"a": 1}, tasks={"a/p": {"weight": 3}})
    assert shares == _fractions(a_p="3/4", a_q="1/4")  # a/p is not counted twice
    assert _shares(root, suites={"a": {"tasks": {"p": 0}}}) == _fractions(a_p="0", a_q="1")


def test_temperature_flattens(root: Path) -> None:
    data = {"tasks": {"a/p": {"weight": 16}, "a/q": {"weight": 1}, "b/x": {"weight": 0}}}
    assert _shares(root, **data, temperature=2) == _fractions(a_p="4/5", a_q="1/5", b_x="0")
    assert _shares(root, **data, temperature=4) == _fractions(a_p="2/3", a_q="1/3", b_x="0")
    hot = _shares(root, **data, temperature=1e9)
    assert abs(hot["a/p"] - Fraction(1, 2)) < 1e-6 and hot["b/x"] == 0
    modal = _shares(root, **EXAMPLE, temperature=50.0, modalities={"control": 0.75, "text": 0.25})
    assert modal["t"] == Fraction(1, 4)


def test_by_size(root: Path) -> None:
    shares = _shares(root, suites={"a": 1, "b": 1}, weights_by="size")
    assert shares == _fractions(a_p="0.2", a_q="0.6", b_x="0.1", b_z="0.1")  # steps of 50
    text = {"t": {"weight": 3}, "u": {}}
    assert _shares(root, text=text, weights_by="size") == _fractions(t="1/2", u="1/2")
    text = {"t": {}, "u": {"weight": 3}}
    shares = _shares(root, text=text, weights_by="size", temperature=2.0)
    assert shares == _fractions(t="1/4", u="3/4")


@pytest.mark.parametrize(
    ("data", "error", "named"),
    [
        ({"suites": {"e": 1}}, DataError, "no store of this suite.*stored suites: a, b, c"),
        ({"suites": {"a": -1}}, ConfigError, "suites.a.weight: got -1"),
        ({"suites": {"a": {"wieght": 1}}}, ConfigError, "wieght.*did you mean 'weight'"),
        ({"suites": {"a": {"tasks": {"p": "x"}}}}, ConfigError, "tasks.p"),
        ({"suites": {"a": {"others": -2}}}, ConfigError, "others: got -2"),
        ({"suites": {"a": {"tasks": {"p": 0, "q": 0}}}}, ConfigError, "a/p, a/q are all 0"),
        (
            {"suites": {"a": {"tasks": {"p": 1}}}, "tasks": {"a/p": {}}},
            ConfigError,
            "named in tasks",
        ),
        ({"suites": {"c": 1}, "tasks": {"c/y": {}}}, ConfigError, "remove it"),
        ({"tasks": {"a/p": {"weight": 0}}}, ConfigError, "all 0"),
        ({"tasks": {"a/p": {"weight": float("nan")}}}, ConfigError, "weight: got nan"),
        ({"tasks": {"t": {}}, "text": {"t": {}}}, ConfigError, "two datasets are called 't'"),
        ({"tasks": {"a/p": {}}, "temperature": 0}, ConfigError, "temperature: got 0"),
        ({"tasks": {"a/p": {}}, "weights_by": "sice"}, ConfigError, "weights_by: got 'sice'"),
        (
            {"tasks": {"a/p": {}}, "text": {"t": {}}, "weights_by": "size"},
            ConfigError,
            "modalities",
        ),
        ({"tasks": {"a/p": {}}, "modalities": {"contrl": 1}}, ConfigError, "mean 'control'"),
        (
            {"tasks": {"a/p": {}}, "modalities": {"text": 1, "control": 1}},
            ConfigError,
            "no such data",
        ),
        ({"tasks": {"a/p": {}}, "modalities": {"control": 0}}, ConfigError, "modalities: all"),
        ({"tasks": {"a/p": {}}, "modalities": {"control": -1}}, ConfigError, "control: got -1"),
        (EXAMPLE | {"modalities": {"control": 1}}, ConfigError, "add text: 0"),
        ({}, ConfigError, "nothing to learn from"),
    ],
)
def test_bad_weights(root: Path, data: dict, error: type, named: str) -> None:
    with pytest.raises(error, match=named):
        _shares(root, **data)


def test_the_configuration_survives_its_file(root: Path) -> None:
    config = build(DataConfig, {"root": str(root), **EXAMPLE})
    assert build(DataConfig, to_dict(config)) == config
    assert sorted(config.named_tasks()) == ["b/x", "c/y"]


def test_no_dataset_is_left_without_a_sample(caplog: pytest.LogCaptureFixture) -> None:
    shares = [("a", Fraction(98, 100)), ("b", Fraction(1, 100)), ("c", Fraction(1, 100))]
    assert at_least_one(shares, 100) == shares
    assert at_least_one([*shares, ("d", Fraction(0))], 100)[-1] == ("d", 0)
    used = dict(at_least_one(shares, 20))
    assert used == {"a": Fraction(18, 20), "b": Fraction(1, 20), "c": Fraction(1, 20)}
    pushed = [("a", Fraction(62, 100)), ("b", Fraction(26, 100)), ("c", Fraction(12, 100))]
    assert dict(at_least_one(pushed, 4)) == _fractions(a="1/2", b="1/4", c="1/4")
    assert dict(at_least_one(shares, 3)) == dict.fromkeys("abc", Fraction(1, 3))
    with pytest.raises(ConfigError, match="2 sequences cannot hold one of each of 3 datasets"):
        at_least_one(shares, 2)


def test_tasks_of_a_held_out_split_are_left_out_of_their_suite(tmp_path: Path) -> None:
    for task in ("reach-v3", "door-lock-v3"):
        with EpisodeWriter(
            tmp_path / "metaworld" / task, StoreHeader(task=f"metaworld/{task}", spec=SPEC)
        ):
            pass
    both = _shares(tmp_path, suites={"metaworld": 1})
    assert both == _fractions(**{"metaworld/door-lock-v3": "1/2", "metaworld/reach-v3": "1/2"})
    seen = _shares(tmp_path, suites={"metaworld": 1}, held_out=["ml45-test"])
    assert seen == _fractions(**{"metaworld/reach-v3": "1"})
    only = {"metaworld": {"tasks": {"door-lock-v3": 0}, "others": 0}}
    with pytest.raises(ConfigError, match="all 0"):
        _shares(tmp_path, suites=only, held_out=["ml45-test"])


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"tasks": {"metaworld/hand-insert-v3": {}}}, "held_out: ml45-test; remove"),
        ({"suites": {"metaworld": {"tasks": {"door-lock-v3": 2}}}}, "door-lock-v3 is in"),
        ({"tasks": {"atari/Pong": {}}, "held_out": ["ml45-tset"]}, "did you mean 'ml45-test'"),
    ],
)
def test_a_task_of_a_held_out_split_is_refused(data: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        build(DataConfig, {"root": "data", "held_out": ["ml45-test"], **data})
