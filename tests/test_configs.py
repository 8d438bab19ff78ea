"""Every shipped configuration loads, plans without data, and keeps its name's promise."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from db1.checkpoint.released import config_from_released
from db1.checkpoint.weights import write_weights
from db1.config import to_dict
from db1.model.config import ModelConfig
from db1.model.transformer_xl import TransformerXL
from db1.suites import SUITES, parse_task_id
from db1.tokens.vocabulary import Vocabulary, VocabularyConfig
from db1.training.experiment import ExperimentConfig, load_experiment
from db1.training.sizing.footprint import meta_model
from db1.training.sizing.plan import plan

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))
PROMISES = {"db1_79m": 79e6, "db1_364m": 364e6, "db1_1.2b": 1.18e9, "released_1.2b": 1.18e9}
"""Gato's table 5, whose counts leave out the vision encoder (see the files' first lines)."""
GATO = {  # layers, heads, width, feed-forward, head width
    "db1_79m": (8, 24, 768, 3072, 32),
    "db1_364m": (12, 12, 1536, 6144, 128),
    "db1_1.2b": (24, 16, 2048, 8192, 128),
    "released_1.2b": (24, 16, 2048, 8192, 128),
}


RELEASED = {
    "n_embed": 2048, "n_layer": 24, "n_head": 16, "n_inner": 8192, "mem_len": 1024,
    "clamp_len": 1024, "same_length": True, "untie_r": False, "pre_lnorm": False,
    "use_deepnorm": False, "activation_fn": "geglu", "share_input_output_embedding": True,
    "text_vocab_size": 32_000, "num_continuous_bin": 1024, "num_discrete_values": 1024,
    "overlap_with_text": True,
}  # fmt: skip
"""The released 1.2B model's arguments, under its names."""


def _path(name: str) -> Path:
    return next(path for path in CONFIGS if path.stem == name)


@pytest.fixture(params=CONFIGS, ids=lambda path: path.stem)
def path(request: pytest.FixtureRequest) -> Path:
    return request.param


@pytest.fixture
def config(path: Path, tmp_path_factory: pytest.TempPathFactory) -> ExperimentConfig:
    overrides = []
    if "init_from:" in path.read_text(encoding="utf-8"):  # goes on from a model, whatever model
        origin = _tiny_model(tmp_path_factory.mktemp("origin"))
        overrides = [f"init_from={origin}", "task=metaworld/reach-v3"]
    return load_experiment(path, overrides)


def _tiny_model(folder: Path) -> Path:
    """A safetensors folder."""
    sizes = {"num_layers": 1, "num_heads": 2, "width": 32, "memory_length": 8}
    vocabulary = VocabularyConfig(text_size=300)
    model = TransformerXL(ModelConfig(**sizes), Vocabulary(vocabulary).size)
    write_weights(folder / "model.safetensors", model.state_dict())
    content = {"format": "db1-model", "version": 1, "model": sizes}
    content["vocabulary"] = to_dict(vocabulary)
    (folder / "config.json").write_text(json.dumps(content))
    return folder


def test_loads_under_its_own_name(path: Path, config: ExperimentConfig) -> None:
    assert config.name.startswith(path.stem)


def test_names_tasks_that_exist(config: ExperimentConfig) -> None:
    for task_id in config.data.tasks:
        parse_task_id(task_id)


def test_plans_without_data(config: ExperimentConfig, tmp_path: Path) -> None:
    elsewhere = replace(config, data=replace(config.data, root=tmp_path / "no data"))
    planned = plan(elsewhere)
    assert planned.num_parameters > 0
    assert all(source.stored is None for source in planned.sources)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", PROMISES)
def test_says_how_many_parameters_it_has(name: str) -> None:
    path = _path(name)
    config = load_experiment(path)
    model = meta_model(config.model, Vocabulary(config.vocabulary).size)
    total = sum(parameter.numel() for parameter in model.parameters())
    vision = sum(parameter.numel() for parameter in model.embedding.vision.parameters())
    assert total - vision == pytest.approx(PROMISES[name], rel=0.02)
    assert f"{total:,}" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", GATO)
def test_has_gatos_sizes_and_recipe(name: str) -> None:
    config = load_experiment(_path(name))
    model, training = config.model, config.training
    sizes = (model.num_layers, model.num_heads, model.width, model.feed_forward_width)
    assert (*sizes, model.head_dim) == GATO[name]
    assert training.num_steps == 1_000_000 and training.warmup_steps == 15_000
    assert training.global_batch_size == 512 and config.sequence.length == 1_024
    assert training.initial_learning_rate == 1e-7 and training.min_learning_rate_ratio == 0.1
    assert training.betas == (0.9, 0.95) and training.weight_decay == 0.1
    for world_size in (1, 8, 16):
        training.check_processes(world_size, "cuda")


def test_the_released_model_has_its_own_options() -> None:
    config = load_experiment(_path("released_1.2b"))
    model, vocabulary = config_from_released(RELEASED)
    assert config.vocabulary == vocabulary
    dropout = config.model.residual_dropout  # plays no part in what the model computes
    assert config.model == replace(model, residual_dropout=dropout)
    released = Vocabulary(config.vocabulary)
    assert (released.size, released.separator) == (33_025, 33_024)
    assert config.vocabulary.continuous_decode == "left_edge"
    assert config.model.memory_start == "zeros" and config.model.normalization == "post"


def test_the_large_mixtures_cover_the_suites_with_an_expert() -> None:
    config = load_experiment(_path("db1_1.2b"))
    suites = {task_id.split("/")[0] for task_id in config.data.tasks}
    assert {"metaworld", "babyai", "tsp", "classic_control", "dmc"} <= suites <= set(SUITES)
    assert sum(task_id.startswith("metaworld/") for task_id in config.data.tasks) == 50


@pytest.mark.parametrize("name", ["db1_79m", "db1_364m", "db1_1.2b"])
def test_every_value_names_its_source(name: str) -> None:
    """Gato's paper, the public DB1 repository, or that the choice is ours, on each line."""
    section = None
    for line in _path(name).read_text(encoding="utf-8").splitlines():
        if line and not line.startswith((" ", "#")):
            section = line.split(":", 1)[0]
        elif section in ("vocabulary", "sequence", "model", "training") and line.strip():
            source = line.partition("#")[2]
            assert any(word in source for word in ("Gato", "DB1", "ours", "GiB")), line
