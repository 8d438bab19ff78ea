"""`model.patch_size` cuts images alike in training, resuming, acting, captions and inspecting."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from db1.data.build import SourceFactory
from db1.inference.agent import Agent
from db1.inference.image_text import ImageTextWriter, WritingConfig
from db1.inference.load import LoadedRun, load_agent_parts
from db1.inference.pair_sets import settings_of
from db1.inspection.describe import describe_from
from db1.inspection.walk import PATCH as PATCH_KIND
from db1.store.episodes import EpisodeStore, EpisodeWriter, StoreHeader
from db1.store.pairs import Pair, PairHeader, PairWriter
from db1.tokens.spec import Episode, FieldSpec, StepSpec
from db1.tokens.text import TextTokenizer
from db1.tokens.vocabulary import IMAGE_PLACEHOLDER
from db1.training.experiment import load_experiment, run_experiment

TASK, PATCH = "toy/camera", 8
SPEC = StepSpec(
    observation={
        "state": FieldSpec(kind="continuous", shape=(2,)),
        "view": FieldSpec(kind="image", shape=(16, 32, 3)),
    },
    action=FieldSpec(kind="discrete", num_values=3),
)
NUM_PATCHES = 2 * 4


def _episode(seed: int, length: int = 6) -> Episode:
    rng = np.random.default_rng(seed)
    return Episode(
        observations={
            "state": rng.normal(size=(length, 2)).astype(np.float32),
            "view": rng.integers(0, 256, (length, 16, 32, 3), dtype=np.uint8),
        },
        actions=rng.integers(0, 3, length).astype(np.int32),
        rewards=np.zeros(length, np.float32),
        seed=seed,
    )


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("patches")
    with EpisodeWriter(folder / TASK, StoreHeader(task=TASK, spec=SPEC)) as episodes:
        for seed in range(4):
            episodes.append(_episode(seed))
    header = PairHeader(name="squares", split="train", kind="caption")
    with PairWriter(folder / "pairs/squares/train", header) as pairs:
        for number in range(8):
            file = io.BytesIO()
            Image.new("RGB", (40, 40), (30 * number, 60, 0)).save(file, "PNG")
            pairs.append(
                Pair(image_name=str(number), texts=(f"{number} of them",)), file.getvalue()
            )
    tokenizer = TextTokenizer.train(["a square, and another one of them"] * 9, 280)
    (folder / "pairs/tokenizer.json").write_text(tokenizer.to_json())
    return {
        "name": "eight",
        "runs": str(folder / "runs"),
        "vocabulary": {"text_size": 300, "num_continuous_bins": 32, "num_discrete": 8},
        "sequence": {"length": 64, "prompt_probability": 0.0},
        "data": {
            "root": str(folder),
            "heldout_share": 0.25,
            "evaluation_samples": 2,
            "tasks": {TASK: {"weight": 1.0}},
            "pairs": {"squares": {"weight": 1.0, "image_size": 32}},
        },
        "model": {
            "num_layers": 1, "num_heads": 2, "width": 8, "memory_length": 64, "patch_size": PATCH,
            "vision_channels": 4, "vision_groups": 2,
        },
        "training": {
            "num_steps": 1, "global_batch_size": 4, "micro_batch_size": 2, "warmup_steps": 0,
            "learning_rate": 1e-3,
            "engine": "torch", "num_threads": 1, "eval_every": 1, "checkpoint_every": 1,
        },
    }  # fmt: skip


@pytest.fixture(scope="module")
def run(config: dict[str, Any]) -> LoadedRun:
    """One step of training, and another one when it is taken up again."""
    run_experiment(config)
    folder = run_experiment(config, ["training.num_steps=2"])
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert {record["step"] for record in records if "loss" in record} == {1, 2}
    return load_agent_parts(folder, device="cpu")


@torch.inference_mode()
def test_ids_when_acting_are_those_that_are_trained_on(
    run: LoadedRun, config: dict[str, Any]
) -> None:
    experiment = load_experiment(config)
    factory = SourceFactory(
        experiment.data, experiment.sequence, run.vocabulary, 0, experiment.model.patches
    )
    source = factory.task(TASK)
    episode = EpisodeStore(Path(config["data"]["root"]) / TASK).read(0)
    stored = source.codec.encode_steps(episode.observations, episode.actions)
    assert (stored.ids == IMAGE_PLACEHOLDER).sum() == NUM_PATCHES * len(episode)

    fed, decode = [], run.model.decode

    def record(ids: torch.Tensor, *rest: Any) -> Any:
        fed.append(ids[0].numpy())
        return decode(ids, *rest)

    run.model.decode = record  # type: ignore[method-assign]
    try:
        agent = Agent(run.model, run.codec(SPEC), memory_length=64, batch_size=1)
        agent.reset(np.ones(1, bool))
        taken = [
            agent.act([{key: values[t] for key, values in episode.observations.items()}])[0]
            for t in range(len(episode))
        ]
    finally:
        del run.model.decode
    acted = np.concatenate(fed)
    places = np.flatnonzero(stored.targets)[: len(taken) - 1]
    assert len(acted) == len(stored.ids) - 1
    is_action = np.zeros(len(stored.ids), bool)
    is_action[places] = True
    assert np.array_equal(acted[~is_action[:-1]], stored.ids[:-1][~is_action[:-1]])
    assert acted[places].tolist() == run.vocabulary.discrete_ids(np.array(taken[:-1])).tolist()


def test_captions_are_written_behind_as_many_patches(
    run: LoadedRun, config: dict[str, Any]
) -> None:
    writer = ImageTextWriter(run, settings_of(run, "caption"))
    prompt = writer.prompt(np.zeros((32, 32, 3), np.uint8))
    experiment = load_experiment(config)
    patches = experiment.model.patches
    factory = SourceFactory(experiment.data, experiment.sequence, run.vocabulary, 0, patches)
    sample = factory.pairs("squares").sample(0, np.random.default_rng(0))
    assert np.array_equal(sample.ids[: len(prompt)], prompt.ids)
    assert (prompt.ids == IMAGE_PLACEHOLDER).sum() == (32 // PATCH) ** 2
    assert writer.write([prompt], WritingConfig(max_tokens=2))[0].num_tokens <= 2


def test_a_sequence_is_shown_with_the_patches_that_it_has(
    run: LoadedRun, config: dict[str, Any]
) -> None:
    experiment = load_experiment(config)
    patches = experiment.model.patches
    factory = SourceFactory(experiment.data, experiment.sequence, run.vocabulary, 0, patches)
    source = factory.task(TASK)
    sample = source.sample(0, np.random.default_rng(0))
    shown = describe_from(source, sample, run.vocabulary, None)
    assert not shown.findings
    first = [token for token in shown.tokens if token.kind == PATCH_KIND][:NUM_PATCHES]
    assert [tuple(t.field_index) for t in first] == [(y, x) for y in range(2) for x in range(4)]
