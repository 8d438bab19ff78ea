from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from db1.checkpoint.run import WEIGHTS_FILE, save_checkpoint
from db1.checkpoint.weights import write_weights
from db1.config import save_yaml, to_dict
from db1.errors import CheckpointError, ConfigError, DataError
from db1.inference.load import load_agent_parts, locate_model
from db1.tokens.spec import FieldSpec, StepSpec
from db1.tokens.text import TextTokenizer
from db1.tokens.vocabulary import Vocabulary

SPEC = StepSpec(
    observation={"state": FieldSpec(kind="continuous", shape=(4,))},
    action=FieldSpec(kind="discrete", num_values=2),
)


@pytest.fixture
def run(
    tmp_path: Path, make_model: Callable, vocabulary: Vocabulary, tokenizer: TextTokenizer
) -> Path:
    model = make_model(memory_length=24).float()
    config = {
        "name": "toy",
        "vocabulary": to_dict(vocabulary.config),
        "model": to_dict(model.config),
        "sequence": {"length": 32},
    }
    (tmp_path / "config.yaml").write_text(save_yaml(config))
    (tmp_path / "specs.json").write_text(json.dumps({"toy/one": SPEC.to_dict()}))
    tokenizer.save(tmp_path)
    for step in (1, 2):
        weights = {name: tensor + step for name, tensor in model.state_dict().items()}
        save_checkpoint(
            tmp_path, step,
            lambda folder, weights=weights: write_weights(folder / WEIGHTS_FILE, weights),
            trainer={}, keep=5,
        )  # fmt: skip
    return tmp_path


def test_loads_weights_config_specs_and_tokenizer(run: Path, make_model: Callable) -> None:
    original = make_model(memory_length=24).float().state_dict()
    for tag, shift in ((None, 2), ("step-00000001", 1)):
        loaded = load_agent_parts(run, tag, device="cpu")
        for name, tensor in loaded.model.state_dict().items():
            torch.testing.assert_close(tensor, original[name] + shift)
    assert loaded.tag == "step-00000001" and len(loaded.sha256) == 64
    assert loaded.specs == {"toy/one": SPEC} and not loaded.model.training
    assert (loaded.context_length, loaded.sequence_length) == (24, 32)
    assert loaded.tokenizer.size == loaded.vocabulary.config.text_size
    assert loaded.codec(SPEC).num_action_tokens == 1


def test_loads_a_run_with_smooth_bins(run: Path) -> None:
    """The quickstart's option: its start is computed from weights, which a shape does not have."""
    config = (run / "config.yaml").read_text()
    assert "bin_init: normal" in config
    (run / "config.yaml").write_text(config.replace("bin_init: normal", "bin_init: smooth"))
    assert load_agent_parts(run, device="cpu").model.config.bin_init == "smooth"


def test_random_weights_are_seeded_and_leave_the_global_generator_alone(run: Path) -> None:
    before = torch.get_rng_state()
    models = [
        load_agent_parts(run, random_weights=True, seed=seed, device="cpu") for seed in (0, 0, 1)
    ]
    first, same, other = (loaded.model.embedding.token.weight for loaded in models)
    assert torch.equal(first, same) and not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())
    assert models[0].tag is None and models[0].sha256 is None


def test_says_what_is_wrong_with_a_run(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no model here"):
        load_agent_parts(tmp_path / "nothing")
    with pytest.raises(ConfigError, match="exclude each other"):
        load_agent_parts(run, "step-00000001", random_weights=True)
    with pytest.raises(CheckpointError, match="step-00000009"):
        load_agent_parts(run, "step-00000009")
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace("num_layers: 2", "num_layers: 3"))
    with pytest.raises(CheckpointError, match="do not fit the configuration"):
        load_agent_parts(run)
    (run / "config.yaml").write_text(config)
    (run / "specs.json").write_text('{"toy/one": 3}')
    with pytest.raises(DataError, match=r"specs\.json"):
        load_agent_parts(run)


def test_a_tag_of_the_published_checkpoint_is_a_folder(run: Path, tmp_path: Path) -> None:
    published = tmp_path / "published"
    for tag in ("early", "late"):
        (published / tag).mkdir(parents=True)
        (published / tag / "mp_rank_00_model_states.pt").touch()
    assert locate_model(published, "early") == (published / "early", None)
    assert locate_model(published / "late", None) == (published / "late", None)
    with pytest.raises(ConfigError, match=r"no checkpoint of tag 'mid', there are \['early'"):
        locate_model(published, "mid")
    assert locate_model(run, "step-00000001") == (run, "step-00000001")
