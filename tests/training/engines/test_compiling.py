"""torch.compile of the layers: the same numbers, the same names."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_training
import torch
from launching import rank_environment
from ports import free_port
from tiny_training import make_model, settings

from db1.checkpoint.run import load_weights
from db1.errors import ConfigError
from db1.metrics_log import read_metrics
from db1.training.engines import compiling
from db1.training.engines.compiling import compile_layers

SCRIPT = Path(tiny_training.__file__)


def test_names_of_weights_stay():
    model = make_model()
    names = list(model.state_dict())
    compile_layers(model, "cuda")
    assert list(model.state_dict()) == names
    assert all(layer._compiled_call_impl is not None for layer in model.layers)


def test_a_missing_compiler_is_told_of(monkeypatch):
    monkeypatch.setattr(compiling.shutil, "which", lambda name: None)
    with pytest.raises(ConfigError, match="apt-get install g\\+\\+, or set training.compile=false"):
        compile_layers(make_model(), "cpu")


def test_stage_3_is_refused():
    with pytest.raises(ConfigError, match="set zero_stage=2 or compile=false"):
        settings(engine="deepspeed", zero_stage=3, compile=True)
    settings(engine="torch", zero_stage=3, compile=True)


@pytest.mark.slow
@pytest.mark.deepspeed
@pytest.mark.skipif(importlib.util.find_spec("deepspeed") is None, reason="pip install deepspeed")
@pytest.mark.skipif(shutil.which("g++") is None, reason="apt-get install g++")
def test_trains_alike_with_both_engines(tmp_path):
    """Cold, compiling two kinds of layer passes takes a minute on two cores."""
    base = {"num_steps": 3, "evaluates": False, "checkpoint_every": 0}
    tiny_training.train(tmp_path / "plain", **base)
    jobs = [
        base | {"folder": "/torch", "compile": True},
        base | {"folder": "/deepspeed", "compile": True, "engine": "deepspeed", "zero_stage": 1},
    ]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path), json.dumps(jobs)],
        env=rank_environment(0, 1, free_port()),
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    plain = load_weights(tmp_path / "plain")
    losses = [record["loss"] for record in read_metrics(tmp_path / "plain", "train")]
    for name in ("torch", "deepspeed"):
        weights = load_weights(tmp_path / name)
        assert weights.keys() == plain.keys()
        assert max((weights[key] - plain[key]).abs().max() for key in plain) < 1e-4
        found = [record["loss"] for record in read_metrics(tmp_path / name, "train")]
        torch.testing.assert_close(found, losses, atol=1e-5, rtol=0)
