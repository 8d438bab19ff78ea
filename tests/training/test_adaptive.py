"""Shares that follow learning progress: the rule, its floors, and going on with it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ports import free_port

from db1.config import save_yaml
from db1.data.mixture import MixtureDataset
from db1.data.schedule import FILE, MixturePhase
from db1.errors import ConfigError
from db1.metrics_log import read_metrics
from db1.store.episodes import EpisodeWriter, StoreHeader
from db1.tokens.spec import Episode, FieldSpec, StepSpec
from db1.training.adaptive import AdaptiveConfig, adapted_shares
from db1.training.experiment import run_experiment

SPEC = StepSpec(
    observation={"x": FieldSpec(kind="continuous", shape=(1,))},
    action=FieldSpec(kind="discrete", num_values=4),
)
HALF = {"a": Fraction(1, 2), "b": Fraction(1, 2)}
CONFIG = AdaptiveConfig(period=10)


def _period(shares: dict[str, Fraction], **losses: float) -> MixturePhase:
    return MixturePhase(first_step=0, shares=shares, parts=dict.fromkeys(shares, 1), losses=losses)


def test_worked_example() -> None:
    shares = adapted_shares(HALF, [_period(HALF, a=2.0, b=2.0)], {"a": 1.7, "b": 1.9}, CONFIG)
    assert shares == [("a", Fraction(5, 8)), ("b", Fraction(3, 8))]


def test_progress_counts_by_what_a_share_brought() -> None:
    """Twice the configured share for twice the fall of the loss is no reason for more."""
    more = {"a": Fraction(3, 4), "b": Fraction(1, 4)}
    shares = adapted_shares(HALF, [_period(more, a=2.0, b=2.0)], {"a": 1.7, "b": 1.9}, CONFIG)
    assert dict(shares) == HALF


def test_the_past_counts() -> None:
    periods = [_period(HALF, a=3.0, b=3.0), _period(HALF, a=2.0, b=3.0)]
    shares = dict(adapted_shares(HALF, periods, {"a": 2.0, "b": 2.0}, CONFIG))
    assert shares == HALF  # a fell by 1 before, b now; smoothing 1/2 weighs both alike
    forgets = AdaptiveConfig(period=10, smoothing=0.0)
    shares = dict(adapted_shares(HALF, periods, {"a": 2.0, "b": 2.0}, forgets))
    assert shares == {"a": Fraction(1, 4), "b": Fraction(3, 4)}


def test_without_progress_the_configured_shares_hold() -> None:
    worse = {"a": 2.5, "b": 2.0004}
    shares = adapted_shares(HALF, [_period(HALF, a=2.0, b=2.0)], worse, CONFIG)
    assert dict(shares) == HALF
    assert dict(adapted_shares(HALF, [_period(HALF)], {}, CONFIG)) == HALF


@given(
    weights=st.lists(st.integers(0, 9), min_size=2, max_size=5).filter(any),
    falls=st.lists(st.floats(-2, 2), min_size=5, max_size=5),
    floor=st.sampled_from([0.1, 0.5, 1.0]),
)
def test_floors_hold_and_shares_sum_to_one(
    weights: list[int], falls: list[float], floor: float
) -> None:
    configured = {f"t{i}": Fraction(w, sum(weights)) for i, w in enumerate(weights)}
    before = dict.fromkeys(configured, 3.0)
    after = {name: 3.0 - fall for name, fall in zip(configured, falls, strict=False)}
    config = AdaptiveConfig(period=1, floor=floor)
    shares = dict(adapted_shares(configured, [_period(configured, **before)], after, config))
    assert sum(shares.values()) == 1
    least = Fraction(repr(floor))
    assert all(share >= least * configured[name] for name, share in shares.items())
    if floor == 1.0:
        assert shares == configured


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"period": 0}, "period: got 0"),
        ({"period": 5, "floor": 0.0}, "floor: got 0"),
        ({"period": 5, "smoothing": 1.0}, "smoothing: got 1"),
    ],
)
def test_options_that_cannot_be_used(options: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        AdaptiveConfig(**options)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three tasks: one soon learned, one random, one in between."""
    root = tmp_path_factory.mktemp("adaptive")
    for number, task in enumerate(("toy/a", "toy/b", "toy/c")):
        generator = np.random.default_rng(number)
        with EpisodeWriter(root / "data" / task, StoreHeader(task=task, spec=SPEC)) as writer:
            for seed in range(8):
                actions = [np.full(40, 2), generator.integers(0, 4, 40), np.arange(40) % 4][number]
                writer.append(
                    Episode(
                        observations={"x": generator.normal(size=(40, 1)).astype(np.float32)},
                        actions=actions.astype(np.int32),
                        rewards=np.zeros(40, np.float32),
                        seed=seed,
                    )
                )
    return root


def _experiment(root: Path, **changes: object) -> Path:
    experiment = {
        "name": "run",
        "runs": str(root / "runs"),
        "vocabulary": {"text_size": 8, "num_continuous_bins": 16, "num_discrete": 4},
        "sequence": {"length": 12},
        "data": {
            "root": str(root / "data"),
            "suites": {"toy": {"tasks": {"a": 5, "b": 3, "c": 2}}},
            "heldout_share": 0.25,
            "evaluation_samples": 8,
        },
        "model": {"num_layers": 1, "num_heads": 1, "width": 16, "memory_length": 4},
        "adaptive": {"period": 4, "floor": 0.4},
        "training": {
            "num_steps": 14,
            "global_batch_size": 10,
            "micro_batch_size": 5,
            "learning_rate": 2e-2,
            "engine": "torch",
            "log_every": 1,
            "checkpoint_every": 2,
            "keep_checkpoints": 9,
            "num_threads": 1,
        },
    }
    experiment |= changes
    path = root / "experiment.yaml"
    path.write_text(save_yaml(experiment))
    return path


@pytest.fixture(scope="module")
def whole(root: Path) -> Path:
    return run_experiment(_experiment(root), ["name=whole"])


def _schedule(run: Path) -> list[dict]:
    return json.loads((run / FILE).read_text())["stretches"]


def _losses(run: Path) -> list[tuple[int, float]]:
    return [(record["step"], record["loss"]) for record in read_metrics(run, "train")]


def test_shares_change_between_periods_and_are_recorded(whole: Path) -> None:
    phases = _schedule(whole)
    assert [phase["first_step"] for phase in phases] == [0, 4, 8, 12]
    configured = {"toy/a": 0.5, "toy/b": 0.3, "toy/c": 0.2}
    shares = [{n: float(Fraction(s)) for n, s in x["shares"].items()} for x in phases]
    assert shares[0] == pytest.approx(configured)
    assert shares[1] != pytest.approx(configured)
    for found in shares:
        assert all(found[name] >= 0.4 * configured[name] - 1e-12 for name in found)
    records = read_metrics(whole, "mixture")
    assert [record["step"] for record in records] == [0, 4, 8, 12]
    assert records[1]["new"] == pytest.approx(shares[1])
    assert records[1]["losses"] == phases[1]["losses"]


def test_each_period_is_an_exact_blend(
    root: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[int, str] = {}
    real = MixtureDataset.__getitem__

    def watched(self: MixtureDataset, n: int):
        sample = real(self, n)
        seen[n] = sample.source
        return sample

    monkeypatch.setattr(MixtureDataset, "__getitem__", watched)
    run = run_experiment(_experiment(root), ["name=watched"])
    assert _losses(run) == _losses(whole)
    assert sorted(seen) == list(range(140))
    for phase in _schedule(run):
        first = phase["first_step"] * 10
        total = sum(phase["parts"].values())
        for length in range(1, min(40, 140 - first) + 1):
            names = [seen[n] for n in range(first, first + length)]
            for name, part in phase["parts"].items():
                assert abs(names.count(name) - length * part / total) < 1


@pytest.mark.parametrize("step", [2, 4, 12])
def test_goes_on_to_the_same_shares(root: Path, whole: Path, step: int) -> None:
    """Cut off in a period and where one starts, before its decision and after it."""
    for forgets in (False, True):
        run = root / "runs" / f"cut{step}{forgets}"
        shutil.copytree(whole, run)
        for folder in (run / "checkpoints").glob("step-*"):
            if int(folder.name[5:]) > step:
                shutil.rmtree(folder)
        if forgets:  # as if it was killed between the checkpoint and the decision
            content = json.loads((run / FILE).read_text())
            content["stretches"] = [s for s in content["stretches"] if s["first_step"] < step]
            (run / FILE).write_text(json.dumps(content))
            lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
            kept = [n for n in lines if '"mixture"' not in n or json.loads(n)["step"] < step]
            (run / "metrics.jsonl").write_text("".join(kept))
        run_experiment(_experiment(root), [f"name={run.name}"])
        assert _schedule(run) == _schedule(whole)
        assert _losses(run) == _losses(whole)
        assert [r["step"] for r in read_metrics(run, "mixture")] == [0, 4, 8, 12]


def test_needs_held_out_samples(root: Path) -> None:
    with pytest.raises(ConfigError, match=r"no held-out samples of toy/a, toy/b, toy/c"):
        run_experiment(_experiment(root), ["name=refused", "data.heldout_share=0"])
    assert not (root / "runs/refused").exists()


@pytest.mark.slow
@pytest.mark.deepspeed
def test_two_processes_decide_as_one(root: Path, whole: Path) -> None:
    pytest.importorskip("deepspeed", reason="pip install deepspeed")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    config = _experiment(root)
    options = ["name=two", "training.engine=deepspeed", "training.zero_stage=1"]
    command = [
        *launcher,
        "--master_port",
        str(free_port()),
        "-m",
        "db1.training",
        str(config),
        *options,
    ]
    folder = Path(__file__).parents[2]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(folder)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    ours, theirs = _schedule(root / "runs/two"), _schedule(whole)
    for two, one in zip(ours, theirs, strict=True):
        assert two["shares"] == one["shares"] and two["parts"] == one["parts"]
        assert two["losses"] == pytest.approx(one["losses"], abs=1e-5)
