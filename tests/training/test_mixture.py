"""A run resumed under other weights: what changes, what is logged, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from db1.config import load_yaml, save_yaml
from db1.data.mixture import sample_hash
from db1.data.schedule import FILE, MixtureSchedule
from db1.errors import ConfigError
from db1.metrics_log import read_metrics
from db1.store.episodes import EpisodeWriter, StoreHeader
from db1.tokens.spec import Episode, FieldSpec, StepSpec
from db1.training import loop, step_loader
from db1.training.experiment import run_experiment

SPEC = StepSpec(
    observation={"x": FieldSpec(kind="continuous", shape=(1,))},
    action=FieldSpec(kind="discrete", num_values=4),
)
TASKS = ("toy/a", "toy/b", "toy/c")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A run of 8 steps of 10 sequences, saved at every second step."""
    for number, task in enumerate(TASKS):
        generator = np.random.default_rng(number)
        with EpisodeWriter(tmp_path / "data" / task, StoreHeader(task=task, spec=SPEC)) as writer:
            for seed in range(4):
                writer.append(
                    Episode(
                        observations={"x": generator.normal(size=(20, 1)).astype(np.float32)},
                        actions=generator.integers(0, 4, 20).astype(np.int32),
                        rewards=np.zeros(20, np.float32),
                        seed=seed,
                    )
                )
    experiment = {
        "name": "run",
        "runs": str(tmp_path / "runs"),
        "vocabulary": {"text_size": 8, "num_continuous_bins": 16, "num_discrete": 4},
        "sequence": {"length": 12},
        "data": {
            "root": str(tmp_path / "data"),
            "suites": {"toy": {"tasks": {"a": 5, "b": 3, "c": 2}}},
            "evaluation_samples": 2,
        },
        "model": {"num_layers": 1, "num_heads": 1, "width": 8, "memory_length": 4},
        "training": {
            "num_steps": 8,
            "global_batch_size": 10,
            "micro_batch_size": 5,
            "learning_rate": 1e-3,
            "engine": "torch",
            "log_every": 1,
            "checkpoint_every": 2,
            "keep_checkpoints": 4,
            "num_threads": 1,
        },
    }
    path = tmp_path / "experiment.yaml"
    path.write_text(save_yaml(experiment))
    return path


class _Stopped(Exception):
    pass


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[int, str]:
    """Hashes of the samples that the training drew, by number."""
    hashes: dict[int, str] = {}
    real = step_loader.make_loader

    class Recording:
        def __init__(self, dataset):
            self.dataset = dataset

        def __len__(self):
            return len(self.dataset)

        def __getitem__(self, n):
            sample = self.dataset[n]
            hashes[n] = f"{sample.source} {sample_hash(sample)}"
            return sample

    def make_loader(dataset, **settings):
        return real(Recording(dataset), **settings)

    monkeypatch.setattr(step_loader, "make_loader", make_loader)
    return hashes


def _stop_at(monkeypatch: pytest.MonkeyPatch, step: int | None) -> None:
    """Lets the training die at the end of a step, before anything of it is saved."""
    real = loop.Trainer._take_step

    def take_step(self, run, at, loader):
        if at == step:
            raise _Stopped
        return real(self, run, at, loader)

    monkeypatch.setattr(loop.Trainer, "_take_step", take_step)


def _run(config: Path, monkeypatch: pytest.MonkeyPatch, stop: int | None, *changes: str) -> Path:
    with monkeypatch.context() as patch:
        _stop_at(patch, stop)
        if stop is None:
            return run_experiment(config, changes)
        with pytest.raises(_Stopped):
            run_experiment(config, changes)
    return config.parent / "runs" / "run"


NEW = ("data.suites.toy.tasks.a=1", "data.suites.toy.tasks.b=1", "data.suites.toy.tasks.c=8")


def test_weights_change_at_a_resume(
    config: Path, monkeypatch: pytest.MonkeyPatch, seen: dict[int, str]
) -> None:
    _run(config, monkeypatch, 5)  # the newest checkpoint is that of step 4
    before = dict(seen)
    seen.clear()
    folder = _run(config, monkeypatch, 7, *NEW)  # newest checkpoint: step 6
    assert sorted(seen) == list(range(40, 70))
    middle = dict(seen)
    assert [[m.split()[0] for m in middle.values()][:10].count(task) for task in TASKS] == [1, 1, 8]
    (event,) = read_metrics(folder, "mixture")
    assert event["step"] == 4
    assert event["old"] == {"toy/a": 0.5, "toy/b": 0.3, "toy/c": 0.2}
    assert event["new"] == {"toy/a": 0.1, "toy/b": 0.1, "toy/c": 0.8}
    seen.clear()
    _run(config, monkeypatch, None, *NEW)
    assert sorted(seen) == list(range(60, 80))
    assert {n: middle[n] for n in range(60, 70)} == {n: seen[n] for n in range(60, 70)}
    assert len(read_metrics(folder, "mixture")) == 1
    steps = [s["first_step"] for s in json.loads((folder / FILE).read_text())["stretches"]]
    assert steps == [0, 4]
    order = MixtureSchedule.load(folder).order(80, 10)
    used = {n: before[n] for n in range(40)} | middle | seen
    assert [used[n].split()[0] for n in range(80)] == [TASKS[order[n][0]] for n in range(80)]


def test_other_datasets_are_refused(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = _run(config, monkeypatch, 3)
    before = {p.name: p.read_text() for p in folder.iterdir() if p.suffix in (".yaml", ".json")}
    fewer = load_yaml(config, is_own=True)
    fewer["data"]["suites"]["toy"] = {"tasks": {"a": 1, "b": 1}, "others": 0}
    other = config.with_name("fewer.yaml")
    other.write_text(save_yaml(fewer))
    with pytest.raises(ConfigError, match="give this run another name"):
        run_experiment(other)
    after = {p.name: p.read_text() for p in folder.iterdir() if p.suffix in (".yaml", ".json")}
    assert before == after
    with pytest.raises(ConfigError, match="loss_balance"):
        run_experiment(config, (*NEW, "data.loss_balance=0.5"))


def test_a_change_at_the_end_of_the_run_is_no_event(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = _run(config, monkeypatch, None)
    run_experiment(config, NEW)
    assert read_metrics(folder, "mixture") == []
    assert len(MixtureSchedule.load(folder).phases) == 1
