"""Fine-tuning from another run: what is taken over, which episodes are learned, what is refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from ports import free_port

from db1.checkpoint.bundle import read_bundle
from db1.checkpoint.convert import convert
from db1.checkpoint.released_folder import write_released
from db1.checkpoint.run import load_weights
from db1.data.few_shot import chosen_episodes
from db1.errors import CheckpointError, ConfigError, DataError
from db1.metrics_log import read_metrics
from db1.model.config import ModelConfig
from db1.model.transformer_xl import TransformerXL
from db1.store.episodes import EpisodeWriter, StoreHeader
from db1.tokens.spec import Episode, FieldSpec, StepSpec
from db1.tokens.vocabulary import Vocabulary, VocabularyConfig
from db1.training.experiment import load_experiment, run_experiment

SPEC = StepSpec(
    observation={"x": FieldSpec(kind="continuous", shape=(2,))},
    action=FieldSpec(kind="discrete", num_values=4),
)
BASE = """
name: base
runs: {root}/runs
vocabulary: {{text_size: 300, num_continuous_bins: 64, num_discrete: 32}}
sequence: {{length: 40, history_noise: 0.5}}
data: {{root: {root}/data, heldout_share: 0.2, evaluation_samples: 4, tasks: {{toy/old: {{}}}}}}
model: {{num_layers: 2, num_heads: 2, width: 32, memory_length: 40, vision_channels: 32}}
training: {{num_steps: 4, global_batch_size: 4, micro_batch_size: 4, learning_rate: 3.0e-3,
  engine: torch, log_every: 1, checkpoint_every: 2, num_threads: 1}}
"""
TUNED = """
name: null
runs: {root}/runs
init_from: null
data: {{root: {root}/data, heldout_share: 0.2, evaluation_samples: 4}}
training: {{num_steps: 4, global_batch_size: 4, micro_batch_size: 4, learning_rate: 3.0e-3,
  engine: torch, log_every: 1, checkpoint_every: 2, num_threads: 1}}
"""


def _store(folder: Path, task: str, num_episodes: int) -> None:
    random = np.random.default_rng(5)
    with EpisodeWriter(folder / task, StoreHeader(task=task, spec=SPEC)) as writer:
        for seed in range(num_episodes):
            writer.append(
                Episode(
                    observations={"x": random.normal(size=(30, 2)).astype(np.float32)},
                    actions=random.integers(0, 4, 30).astype(np.int32),
                    rewards=np.zeros(30, np.float32),
                    seed=seed,
                )
            )


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("finetune")
    _store(root / "data", "toy/old", 6)
    _store(root / "data", "toy/new", 20)
    for name, text in (("base", BASE), ("tuned", TUNED)):
        (root / f"{name}.yaml").write_text(text.format(root=root))
    run_experiment(root / "base.yaml")
    return root


def _tune(root: Path, *overrides: str, init_from: str | None = None) -> Path:
    source = init_from or f"{root}/runs/base"
    return run_experiment(root / "tuned.yaml", [f"init_from={source}", *overrides])


def test_takes_all_over_and_learns_a_new_task(root: Path) -> None:
    run = _tune(root, "task=toy/new", "episodes=3")
    assert run.name == "finetune-new-3-episodes"
    base, tuned = (read_bundle(folder) for folder in (root / "runs/base", run))
    assert tuned.vocabulary.config == base.vocabulary.config
    assert tuned.model_config == base.model_config
    assert tuned.config["sequence"] == base.config["sequence"]
    assert tuned.config["finetune"]["tag"] == "step-00000004"
    assert set(tuned.specs) == {"toy/new"}
    chosen = json.loads((run / "few_shot.json").read_text())["toy/new"]
    assert len(set(chosen)) == 3 and max(chosen) < 16  # four of twenty are held out
    assert chosen == list(chosen_episodes(16, 3, 0))
    moved = [n for n in base.weights if not torch.equal(base.weights[n], tuned.weights[n])]
    assert moved


def test_starts_from_the_weights_and_the_control_from_others(root: Path) -> None:
    """With a learning rate of almost nothing the weights stay what they were at the start."""
    still = ("task=toy/new", "episodes=2", "training.learning_rate=1e-12", "name=still")
    base = load_weights(root / "runs/base")
    tuned = load_weights(_tune(root, *still))
    control = load_weights(_tune(root, *still, "name=control", "from_scratch=true"))
    for name, tensor in base.items():
        torch.testing.assert_close(tuned[name], tensor, atol=1e-6, rtol=0)
    assert not torch.allclose(control["embedding.token.weight"], base["embedding.token.weight"])


@pytest.mark.parametrize("kind", ["checkpoint", "safetensors", "run"])
def test_starts_from_any_layout(root: Path, tmp_path: Path, kind: str) -> None:
    place = root / "runs/base"
    if kind == "checkpoint":
        place = place / "checkpoints/step-00000002"
    else:
        convert(str(place), str(tmp_path / "model"), to="safetensors")
        if kind == "run":
            convert(str(tmp_path / "model"), str(tmp_path / "again"), to="run")
        place = tmp_path / ("again" if kind == "run" else "model")
    still = ("task=toy/new", "training.learning_rate=1e-12", f"name={kind}", "training.num_steps=1")
    tuned = load_weights(_tune(root, *still, init_from=str(place)))
    for name, tensor in load_weights(place).items() if kind != "safetensors" else ():
        torch.testing.assert_close(tuned[name], tensor, atol=1e-6, rtol=0)
    for name, tensor in read_bundle(place).weights.items() if kind == "safetensors" else ():
        torch.testing.assert_close(tuned[name], tensor, atol=1e-6, rtol=0)


def test_starts_from_the_published_layout(root: Path, tmp_path: Path) -> None:
    config = ModelConfig(num_layers=1, num_heads=2, width=32, inner_width=64, clamp_length=64)
    vocabulary = VocabularyConfig(text_size=300, num_discrete=300, discrete_ids="shared_with_text")
    model = TransformerXL(config, Vocabulary(vocabulary).size)
    half = {name: tensor.half() for name, tensor in model.state_dict().items()}
    write_released(tmp_path / "released", "tag", half, config, 7)
    options = ("task=toy/new", "training.learning_rate=1e-12", "training.num_steps=1")
    options += ("name=published", "sequence.length=40")
    run = _tune(root, *options, init_from=str(tmp_path / "released"))
    tuned = read_bundle(run)
    assert tuned.vocabulary.config.discrete_ids == "shared_with_text"
    for name, tensor in half.items():
        torch.testing.assert_close(tuned.weights[name], tensor.float(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("lora", [(), ("lora.rank=2",)])
def test_goes_on_without_the_model_it_started_from(
    root: Path, tmp_path: Path, lora: tuple[str, ...]
) -> None:
    if lora:
        pytest.importorskip("peft", reason='pip install "db1[lora]"')
    gone = tmp_path / "gone"
    shutil.copytree(root / "runs/base", gone)
    options = ("task=toy/new", "episodes=3", *lora)
    whole = _tune(root, *options, f"name=whole{len(lora)}", init_from=str(gone))
    cut = _tune(root, *options, f"name=cut{len(lora)}", init_from=str(gone))
    shutil.rmtree(cut / "checkpoints/step-00000004")
    shutil.rmtree(gone)
    _tune(root, *options, f"name=cut{len(lora)}", init_from=str(gone))
    assert [r["step"] for r in read_metrics(cut, "train")] == [1, 2, 3, 4]
    left, right = load_weights(whole), load_weights(cut)
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_the_run_stays_on_the_checkpoint_it_started_from(root: Path, tmp_path: Path) -> None:
    moving = tmp_path / "moving"
    shutil.copytree(root / "runs/base", moving)
    shutil.rmtree(moving / "checkpoints/step-00000004")
    options = ("task=toy/new", "name=pinned")
    _tune(root, *options, "training.num_steps=2", init_from=str(moving))
    shutil.copytree(
        root / "runs/base/checkpoints/step-00000004", moving / "checkpoints/step-00000004"
    )
    run = _tune(root, *options, "training.num_steps=3", init_from=str(moving))
    assert read_bundle(run, with_weights=False).config["finetune"]["tag"] == "step-00000002"


def test_fewer_episodes_are_among_more() -> None:
    few, more = (set(chosen_episodes(50, count, 3)) for count in (5, 12))
    assert few < more and len(more) == 12
    assert set(chosen_episodes(50, 5, 4)) != few
    with pytest.raises(DataError, match="51 episodes wanted, 50 can"):
        chosen_episodes(50, 51, 0)


def test_learns_from_the_chosen_episodes_only(root: Path) -> None:
    from db1.data.build import SourceFactory
    from db1.data.mixture import generator_of

    config = load_experiment(
        root / "tuned.yaml", [f"init_from={root}/runs/base", "task=toy/new", "episodes=2"]
    )
    vocabulary = Vocabulary(config.vocabulary)
    factory = SourceFactory(config.data, config.sequence, vocabulary, config.training.seed)
    source = factory.source("toy/new")
    wanted = {tuple(row) for n in source.windows.numbers for row in _rows(source, n)}
    for n in range(60):
        sample = source.sample(n, generator_of(0, n))
        assert _first_row(source, sample) in wanted


def _rows(source, number: int) -> list[tuple[int, ...]]:
    observations, actions = source.store.read_window(number, 0, 30)
    tokens = source.codec.encode_steps(observations, actions)
    return tokens.ids.reshape(30, -1)[:, :2].tolist()


def _first_row(source, sample) -> tuple[int, ...]:
    return tuple(sample.ids[:2].tolist())


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (
            ["vocabulary.text_size=310"],
            r"another vocabulary \(vocabulary.text_size: 300 there, 310",
        ),
        (["model.width=64"], r"another architecture \(model.width: 32 there, 64 here\)"),
        (["model.normalization=pre"], r"model.normalization: 'post' there, 'pre' here"),
        (["model.widht=64"], "widht"),
        (["init_from=/nowhere/at/all"], "/nowhere/at/all: no such folder"),
        (["init_from=null"], "init_from: null: no such folder"),
        (["episodes=0"], "episodes: got 0"),
        (["lora.rank=0"], "lora.rank: got 0"),
        (["lora.rank=2", "from_scratch=true"], "from_scratch and lora exclude"),
        (["lora.targets=[attention.vqk]"], r"attention\.vqk"),
    ],
)
def test_refuses(root: Path, overrides: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        _tune(root, "task=toy/new", "name=refused", *overrides)
    assert not (root / "runs/refused").exists()


@pytest.mark.parametrize(
    ("key", "value"), [("residual_dropout", 0.1), ("discrete_temperature", 0.5)]
)
def test_what_no_weight_hangs_on_may_differ(root: Path, key: str, value: float) -> None:
    overrides = [f"init_from={root}/runs/base", "task=toy/new", f"model.{key}={value}"]
    assert getattr(load_experiment(root / "tuned.yaml", overrides).model, key) == value


def test_episodes_want_a_task(root: Path) -> None:
    with pytest.raises(ConfigError, match="episodes: got 3 without a task"):
        _tune(root, "episodes=3")


def test_says_how_to_collect_what_is_missing(root: Path) -> None:
    with pytest.raises(DataError, match=r"`db1 collect toy/none --episodes 9 --out .*data` first"):
        _tune(root, "task=toy/none", "episodes=7", "name=refused")
    with pytest.raises(DataError, match=r"20 episodes, of which 4 held out .* leave 16, and 17"):
        _tune(root, "task=toy/new", "episodes=17", "name=refused")
    assert not (root / "runs/refused").exists()


def test_a_run_without_a_checkpoint(root: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    shutil.copytree(root / "runs/base", empty)
    shutil.rmtree(empty / "checkpoints")
    with pytest.raises(CheckpointError, match="empty: no checkpoint, expected a run folder"):
        _tune(root, "task=toy/new", "name=refused", init_from=str(empty))
    assert not (root / "runs/refused").exists()


def _launch(root: Path, processes: int, *overrides: str) -> None:
    """The same fine-tuning through DeepSpeed, in processes of their own."""
    options = [f"init_from={root}/runs/base", "task=toy/new", "episodes=3", "lora.rank=2"]
    options += ["training.engine=deepspeed", "training.micro_batch_size=2", *overrides]
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node", str(processes)]
    command = [sys.executable, *launcher, "--master_port", str(free_port()), "-m", "db1.training"]
    done = subprocess.run(
        [*command, str(root / "tuned.yaml"), *options],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.deepspeed
@pytest.mark.parametrize("stage", [0, 3])
def test_lora_with_deepspeed_goes_on_with_fewer_processes(root: Path, stage: int) -> None:
    pytest.importorskip("peft", reason='pip install "db1[lora]"')
    pytest.importorskip("deepspeed", reason="pip install deepspeed")
    plain = root / "runs" / f"plain{stage}"
    for steps in (2, 4):
        options = ("episodes=3", "lora.rank=2", f"name={plain.name}", f"training.num_steps={steps}")
        _tune(root, "task=toy/new", *options)
    options = (f"training.zero_stage={stage}", f"name=sharded{stage}")
    _launch(root, 2, *options, "training.num_steps=2")
    _launch(root, 1, *options)
    run = root / "runs" / f"sharded{stage}"
    ours, theirs = ([r["loss"] for r in read_metrics(x, "train")] for x in (run, plain))
    assert ours == pytest.approx(theirs, abs=1e-4)
    left, right = load_weights(run), load_weights(plain)
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        torch.testing.assert_close(right[name], tensor, atol=1e-4, rtol=0)
