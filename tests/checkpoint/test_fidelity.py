"""db1 is the released model under every recorded option, by an independent NumPy model.

Recordings of `tests/model/reference.py` against `db1.checkpoint.parity`, both in float64: what is
left of a difference is rounding, so 1e-9 would already be a mistake.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from db1.checkpoint.parity import build_recorded, compare
from db1.checkpoint.recording import read_recording

TOLERANCE = 1e-9
GOLDEN = Path(__file__).parents[1] / "golden"
CHOICES: dict[str, list[Any]] = {
    "pre_lnorm": [False, True],
    "untie_r": [False, True],
    "share_input_output_embedding": [True, False],
    "activation_fn": ["geglu", "gelu", "relu"],
    "n_inner": [None, 52, 22],
    "mem_len": [8, 3, 1, 24, None],
    "same_length": [True, False],
    "n_position": [64, 6, 2],
    "use_deepnorm": [False, True],
    "overlap_with_text": [True, False],
    "layer_norm_epsilon": [1e-5, 1e-2],
    "n_layer": [2, 1, 3],
    "heads_and_width": [(4, 16), (1, 6), (3, 12), (8, 24)],
    "vision_num_input_channels": [3, 1],
    "vision_position_vocab_size": [16, 128],
}
SEGMENTS = [(8, 1, 5), (1, 1, 1, 1), (2, 9, 2)]


def load_reference() -> ModuleType:
    path = Path(__file__).parents[1] / "model" / "reference.py"
    spec = importlib.util.spec_from_file_location("released_reference", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


reference = load_reference()


def combinations(count: int) -> Iterator[dict[str, Any]]:
    """Shuffles each option's values over the combinations, so that all occur equally often."""
    rng = np.random.default_rng(2026)
    columns = {
        name: rng.permutation([i % len(values) for i in range(count)])
        for name, values in CHOICES.items()
    }
    for number in range(count):
        drawn = {name: values[columns[name][number]] for name, values in CHOICES.items()}
        heads, width = drawn.pop("heads_and_width")
        if drawn["mem_len"] is None:
            drawn["same_length"] = False
        yield {**drawn, "n_head": heads, "n_embed": width}


COMBINATIONS = list(combinations(48))


def test_every_pair_of_values_occurs() -> None:
    """What the matrix covers: each value, and each two values of neighbouring options."""
    for name, values in CHOICES.items():
        if name != "heads_and_width":
            assert {json.dumps(c[name]) for c in COMBINATIONS} == {json.dumps(v) for v in values}
    binary = [name for name, values in CHOICES.items() if len(values) == 2]
    for first, second in pairwise(binary):
        assert len({(c[first], c[second]) for c in COMBINATIONS}) == 4


@pytest.mark.parametrize("number", range(len(COMBINATIONS)))
def test_combination_agrees(tmp_path: Path, number: int) -> None:
    options, segments = COMBINATIONS[number], SEGMENTS[number % len(SEGMENTS)]
    image = [(8, 12), (4, 4), None, (12, 8)][number % 4]
    path = reference.record(tmp_path / "a.npz", options, image, segments, seed=number)
    results = {result.name: result.max_difference for result in compare(path)}
    expected = ["text", "control"] + (["pixels", "caption"] if image else [])
    if options["mem_len"]:
        parts = [f"segment{i}" for i in range(len(segments))] + ["final"]
        expected += [f"memory/{part}" for part in parts]
    assert list(results) == expected
    assert max(results.values()) < TOLERANCE, (options, results)


@pytest.mark.parametrize("image", [(32, 48), (80, 96), (64, 16)])
def test_image_sizes_agree_at_the_released_patch(tmp_path: Path, image: tuple[int, int]) -> None:
    options = {"vision_patch_size": 16, "vision_position_vocab_size": 128, "n_layer": 1}
    path = reference.record(tmp_path / "a.npz", options, image)
    results = {result.name: result.max_difference for result in compare(path)}
    assert {"pixels", "caption"} <= set(results)
    assert max(results.values()) < TOLERANCE


@pytest.mark.parametrize("same_length", [True, False])
@pytest.mark.parametrize("mem_len", [1, 3, 8, 20])
def test_memory_shorter_and_longer_than_a_segment(
    tmp_path: Path, mem_len: int, same_length: bool
) -> None:
    options = {"mem_len": mem_len, "same_length": same_length, "pre_lnorm": True, "n_position": 7}
    path = reference.record(tmp_path / "a.npz", options, segments=(8, 8, 2, 8))
    assert max(result.max_difference for result in compare(path)) < TOLERANCE


def test_memory_of_length_zero(tmp_path: Path) -> None:
    path = reference.record(tmp_path / "a.npz", {"mem_len": 0, "same_length": False})
    assert [result.name for result in compare(path)] == ["text", "control"]


def test_distances_are_clamped_at_the_sequence_length(tmp_path: Path) -> None:
    """The released model has no other option for it."""
    options = {"same_length": False, "mem_len": 8, "n_position": 4}
    recording = read_recording(reference.record(tmp_path / "a.npz", options))
    assert build_recorded(recording).config.clamp_length == 4
    arrays = dict(np.load(tmp_path / "a.npz"))
    free = json.loads(arrays["config"].tobytes()) | {"n_position": 64}
    arrays["config"] = np.frombuffer(json.dumps(free).encode(), dtype=np.uint8)
    np.savez(tmp_path / "b.npz", **arrays)
    assert max(result.max_difference for result in compare(tmp_path / "a.npz")) < TOLERANCE
    assert min(result.max_difference for result in compare(tmp_path / "b.npz")) > 1e-3


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ">f4"])
def test_weights_of_other_types_are_taken_as_they_are(tmp_path: Path, dtype: Any) -> None:
    path = reference.record(tmp_path / "a.npz")
    arrays = {
        name: array.astype(dtype) if name.startswith("param/") else array
        for name, array in np.load(path).items()
    }
    np.savez(path, **arrays)
    worst = max(result.max_difference for result in compare(path))
    assert 1e-5 < worst < 0.1 if dtype == np.float16 else worst < TOLERANCE


def test_absent_optional_keys_are_the_released_defaults(tmp_path: Path) -> None:
    path = reference.record(tmp_path / "a.npz", {"vision_patch_size": 16}, (16, 16))
    arrays = dict(np.load(path))
    config = json.loads(arrays["config"].tobytes())
    required = ["n_embed", "n_layer", "n_head", "mem_len", "text_vocab_size"]
    required += ["num_continuous_bin", "num_discrete_values", "same_length"]
    required += ["vision_position_vocab_size"]
    kept = {name: config[name] for name in required}
    arrays["config"] = np.frombuffer(json.dumps(kept).encode(), dtype=np.uint8)
    np.savez(path, **arrays)
    assert max(result.max_difference for result in compare(path)) < TOLERANCE


@pytest.mark.parametrize("name", ["released", "deepnorm", "no_memory", "pre_ln_untied"])
def test_the_reference_itself_agrees_with_the_recordings(name: str) -> None:
    """The NumPy model says what the released implementation recorded."""
    arrays = dict(np.load(GOLDEN / f"{name}.npz"))
    weights = {
        key.removeprefix("param/"): array.astype(np.float64)
        for key, array in arrays.items()
        if key.startswith("param/")
    }
    model = reference.Reference(json.loads(arrays["config"].tobytes()), weights)

    def differs(x: np.ndarray, key: str) -> float:
        return float(np.abs(model.logits(model.run(x)[0]) - arrays[key]).max())

    assert differs(model.embed_text(arrays["text/ids"]), "text/logits") < 5e-6
    for section, vision, limit in [("control", None, 5e-6), ("pixels", "vision_seq", 1e-4)]:
        ids, places = arrays[f"{section}/tensor_seq"], arrays[f"{section}/position_id"]
        pixels = None if vision is None else arrays[f"{section}/{vision}"]
        assert differs(model.embed_control(ids, places, pixels), f"{section}/logits") < limit
    if "memory/final" in arrays:
        memory = model.empty_memory(2)
        for number in range(3):
            x = model.embed_text(arrays[f"memory/segment{number}/ids"])
            hidden, memory = model.run(x, memory)
            off = model.logits(hidden) - arrays[f"memory/segment{number}/logits"]
            assert np.abs(off).max() < 5e-6
        assert np.abs(np.stack(memory) - arrays["memory/final"]).max() < 5e-6


def test_float32_stays_close(tmp_path: Path) -> None:
    path = reference.record(tmp_path / "a.npz", {"n_layer": 3}, (8, 12))
    assert max(result.max_difference for result in compare(path, torch.float32)) < 1e-3
