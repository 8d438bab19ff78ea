"""Settings that cannot work are refused with a message that says what would."""

import pytest
from tiny_training import settings

from db1.config import build, to_dict
from db1.errors import ConfigError
from db1.training.config import NEUTRAL_KEYS, TrainingConfig


def test_survives_a_round_trip():
    config = settings()
    assert build(TrainingConfig, to_dict(config)) == config


def test_neutral_keys_are_keys():
    assert set(to_dict(settings())) >= NEUTRAL_KEYS


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate: got 0.0, expected above 0"),
        ({"learning_rate": float("nan")}, "learning_rate: got nan"),
        ({"precision": "bf32"}, "precision: got 'bf32'.*did you mean"),
        ({"engine": "jax"}, "engine: got 'jax', expected one of"),
        ({"zero_stage": 4}, "zero_stage: got 4"),
        ({"engine": "deepspeed", "precision": "bf16", "zero_stage": 0}, "set zero_stage=1"),
        ({"global_batch_size": 7}, "set global_batch_size=6 or 8"),
        ({"global_batch_size": 1}, "set global_batch_size=2,"),
        ({"micro_batch_size": 0}, "micro_batch_size: got 0, expected at least 1"),
        ({"warmup_steps": 7}, "warmup_steps: got 7, expected at most num_steps 6"),
        ({"betas": (0.9,)}, "betas: got"),
        ({"betas": (0.9, 1.0)}, r"betas\[1\]: got"),
        ({"min_learning_rate_ratio": 1.5}, "min_learning_rate_ratio: got 1.5"),
        ({"gradient_clipping": -1.0}, "gradient_clipping: got -1.0"),
        ({"num_threads": 0}, "num_threads: got 0"),
        ({"keep_checkpoints": 0}, "keep_checkpoints: got 0"),
    ],
)
def test_refuses(changes, message):
    with pytest.raises(ConfigError, match=message):
        settings(**changes)


def test_checks_the_batch_against_the_processes():
    config = settings(global_batch_size=8, micro_batch_size=2, engine="deepspeed")
    config.check_processes(4, "cpu")
    assert config.accumulation(2) == 2
    with pytest.raises(ConfigError, match=r"2 \* 3; set global_batch_size=6 or 12"):
        config.check_processes(3, "cpu")
    with pytest.raises(ConfigError, match=r"set global_batch_size=16, or another"):
        config.check_processes(8, "cpu")


def test_checks_the_machine():
    with pytest.raises(ConfigError, match="fp16 needs a GPU"):
        settings(precision="fp16").check_processes(1, "cpu")
    settings(precision="fp16").check_processes(1, "cuda")
    with pytest.raises(ConfigError, match="engine torch runs one process, got 2"):
        settings(engine="torch").check_processes(2, "cuda")
